"""torchrun, with an exit code that says how the training ended.

torchrun itself gives 1 for everything that is not 0, and schedulers need to know whether another try can help: 2 means that the
input is wrong, 143 that the run was told to end and goes on with `--resume`. All of torchrun's options, and its variables
`PET_…`, are torchrun's own.
"""

from __future__ import annotations

import os
import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

# From SIGTERM to SIGKILL: the end of a step, and a checkpoint. torchrun's own 30 seconds are short for a large model.
USUAL = {"PET_SHUTDOWN_TIMEOUT": "600"}


def launch() -> int:
    """Run torchrun with this program's arguments, and give the exit code of the process that failed first."""
    os.environ |= {**USUAL, **os.environ}
    try:
        main()
    except SignalException as caught:
        return 128 + caught.sigval
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        # What the process left for its launcher is a dictionary; what the launcher itself finds is text.
        left = failure.message["extraInfo"]["py_callstack"] if isinstance(failure.message, dict) else failure.message
        why = "" if "To enable traceback" in left else f": {left.removeprefix('rlperc: ')}"
        sys.stderr.write(f"rlperc: rank {rank} ended first, with exit code {code}{why}\n")
        return code
    return 0


if __name__ == "__main__":
    sys.exit(launch())
