"""What this machine has: GPUs, room on the disk, shared memory. Without torch, so that it can be asked at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

GIB = 1 << 30


def gpu_memory() -> list[int]:
    """Bytes of memory of each GPU that this process may use; empty where there is no NVIDIA GPU, or no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    if done.returncode:
        return []
    rows = [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 2]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else [word.strip() for word in visible.split(",")]
    kept = [row for row in rows if wanted is None or any(name in (row[0], row[1]) for name in wanted)]
    return [int(memory) << 20 for *_, memory in kept if memory.isdigit()]


def free_disk(place: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free


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
    if asked is None or "WORLD_SIZE" in os.environ:
        return
    here = int(asked) if asked.isdigit() else max(1, len(gpu_memory()))
    nodes = int(os.environ.get("PET_NNODES", "1").partition(":")[0])  # `1:4` begins with one
    os.environ |= {"LOCAL_WORLD_SIZE": str(here), "WORLD_SIZE": str(nodes * here)}


def processes_here() -> int:
    """How many processes of the job the launcher starts on this machine; 1 where none does."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)


def gib(size: float) -> str:
    """Bytes, to be read."""
    return f"{size / GIB:.1f} GiB"
