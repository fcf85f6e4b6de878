"""Studies: the same runs over several recipes and seeds, and one page that says what they show."""
