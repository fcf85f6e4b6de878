"""`python -m rlperc`, which is also what `torchrun -m rlperc` starts."""

import sys

from rlperc.cli import main

sys.exit(main())
