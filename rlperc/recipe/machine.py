"""What this machine has: GPUs, room on the disk, shared memory. Without torch, so that it can be asked at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

GIB = 1 << 30


def gpu_memory() -> list[int]:
    """Bytes of memory of each GPU that this process may use; empty where there is no NVIDIA GPU, or its driver says nothing.

    A part of a GPU (MIG) counts as one, with the memory of a whole one.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 2]
    sizes = {index: (uuid, int(memory) << 20) for index, uuid, memory in rows if memory.isdigit()}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [size for _, size in sizes.values()]
    found = (_named(word.strip(), sizes) for word in visible.split(",") if word.strip())
    return [size for size in found if size is not None]


def _named(word: str, sizes: dict[str, tuple[str, int]]) -> int | None:
    """As CUDA reads it: an index, or the beginning of a UUID."""
    if word in sizes:
        return sizes[word][1]
    part = word.startswith("MIG-")
    return next((size for uuid, size in sizes.values() if part or uuid.startswith(word)), None)


def disk(place: Path) -> Any:
    """`shutil.disk_usage` of where a folder is, or will be."""
    return shutil.disk_usage(next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir()))


def free_disk(place: Path) -> int | None:
    """Bytes that a folder has, or will have, room for, what lies in it included; None where its disk does not say."""
    found = disk(place)
    taken = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) if place.is_dir() else 0
    return found.free + taken if found.total else None


def left_locks() -> list[Path]:
    """Locks of builds of torch's extensions that no process seen here holds open: whoever wants the same one waits for ever."""
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions")
    locks = [lock.resolve() for lock in (*folder.glob("*/lock"), *folder.glob("*/*/lock"))]
    held = _opened() if locks else set()
    return [lock for lock in locks if str(lock) not in held]


def _opened() -> set[str]:
    """What processes have open, as far as this one may look."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # closed meanwhile, or somebody else's
            found.add(os.readlink(link))
    return found


def shared_memory(place: str) -> int | None:
    """Bytes of a file system in memory, such as /dev/shm; None where there is none."""
    try:
        found = os.statvfs(place)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


def foresee_launch() -> None:
    """Let checks count the processes that torchrun would start here by its own variables, where it has not started yet."""
    asked = os.environ.get("PET_NPROC_PER_NODE")
    if asked is None or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    here = int(asked) if asked.isdigit() else max(1, len(gpu_memory()))
    nodes = int(os.environ.get("PET_NNODES", "1").partition(":")[0])  # `1:4` begins with one
    os.environ |= {"LOCAL_WORLD_SIZE": str(here), "WORLD_SIZE": str(nodes * here)}


def processes_here() -> int:
    """How many processes of the job the launcher starts on this machine; 1 where none says so."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def gib(size: float) -> str:
    """Bytes, to be read."""
    return f"{size / GIB:.1f} GiB"
