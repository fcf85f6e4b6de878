"""`python -m rlperc`, which is also what `torchrun -m rlperc` starts."""

from rlperc.cli import entry

entry()
