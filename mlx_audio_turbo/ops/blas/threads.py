"""How many threads a matrix product takes, and how many cores there are."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FUNCTIONS = [
    (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
    for prefix in ("", "scipy_")
    for suffix in ("", "64_")
] + [("MKL_Get_Max_Threads", "MKL_Set_Num_Threads")]
_lock = threading.Lock()
_inside = 0
_threads_before: list[int] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Products inside take one thread each, MLX's and NumPy's: for work spread over threads.

    The setting is the process's: the first to enter makes it, the last to leave restores it.
    """
    global _inside
    with _lock:
        if not _inside:
            _threads_before[:] = [library.read() for library in libraries()]
            for library in libraries():
                library.write(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for library, threads in zip(libraries(), _threads_before, strict=True):
                    library.write(threads)


@dataclass(frozen=True)
class Threads:
    """Reads and sets the number of threads of a BLAS library."""

    read: Callable[[], int]
    write: Callable[[int], object]


@cache
def libraries() -> list[Threads]:
    """Every BLAS in the process whose number of threads can be set.

    threadpoolctl finds them. Its own setter works only for the thread that calls it first, and an
    engine has a thread of its own.
    """
    import threadpoolctl  # only a running model needs it

    found = []
    for each in threadpoolctl.threadpool_info():
        library = ctypes.CDLL(each["filepath"])
        for read, write in _FUNCTIONS:
            if hasattr(library, write):
                found.append(Threads(library[read], library[write]))
                break
    return found


@cache
def cores() -> int:
    """Physical cores that this process may use, by its affinity and its container's quota."""
    if not hasattr(os, "sched_getaffinity"):  # Linux alone has it
        return os.cpu_count() or 1
    usable = os.sched_getaffinity(0)
    siblings = set()
    for cpu in usable:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(topology.read_text() if topology.exists() else str(cpu))
    quota = Path("/sys/fs/cgroup/cpu.max")
    limit, _, period = (quota.read_text() if quota.exists() else "max").strip().partition(" ")
    allowed = len(usable) if limit == "max" else max(1, int(limit) // int(period))
    return min(len(siblings), allowed)
