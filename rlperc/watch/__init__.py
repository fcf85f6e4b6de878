"""The processes of a job mind one another: one that dies or fails ends all of them, and none waits in silence."""
