"""A process between `rlperc serve` and vLLM, so that however `rlperc serve` ends, vLLM ends too.

Run as `python -I leash.py SECONDS COMMAND…`, at the head of a process group of its own, with a pipe as its standard input.
It hands SIGTERM on to the command, and ends with the command's exit code (128 + n after signal n). When the pipe closes, nobody
is left above: it asks the command to end, and kills its whole group, after SECONDS at the latest. Only the standard library is
loaded here.
"""

import os
import signal
import subprocess
import sys
import threading
import time

STRAGGLERS_S = 2.0  # for what the command itself has started, to clean up after the command has ended


def main() -> None:
    """Run the command."""
    alone = threading.Event()
    server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)  # noqa: S603 - that is what it is for
    # The command alone is asked first: vLLM's server ends its own engines in order.
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=_end_when_alone, args=(server, alone, float(sys.argv[1])), daemon=True).start()
    code = server.wait()
    if alone.is_set():
        os.killpg(os.getpgrp(), signal.SIGTERM)
        time.sleep(STRAGGLERS_S)
        os.killpg(os.getpgrp(), signal.SIGKILL)
    sys.exit(code if code >= 0 else 128 - code)


def _end_when_alone(server: subprocess.Popen[bytes], alone: threading.Event, grace_s: float) -> None:
    while os.read(0, 1):
        pass
    alone.set()
    server.terminate()
    time.sleep(grace_s)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
