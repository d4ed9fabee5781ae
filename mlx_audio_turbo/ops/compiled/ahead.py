"""Kernels compiled before they are needed: in a thread, or in other processes.

Numba compiles one kernel at a time in a process. Where the code of a kernel is not in the cache,
other processes compile it there and this one reads it.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runtime import Kernel, compiling_errors

logger = logging.getLogger("mlx_audio_turbo")

PATIENCE = 120.0
"""Seconds to wait for another process before the kernel is compiled here."""
PROGRAM = f"import sys; sys.path[:] = sys.argv[1:]; from {__name__} import serve; serve()"
"""What another process runs; it finds packages where this one does."""


@dataclass(frozen=True)
class Job:
    """The kernels of a module of this folder.

    formats: of the weights that they read: bits, group and floats of each.
    """

    module: str
    formats: tuple[tuple[int, int, str], ...] = ()

    def kernels(self) -> Sequence[tuple[Kernel, Sequence[Any]]]:
        """Each with the types of its arguments."""
        from .formats import Format

        module = importlib.import_module(f"{__package__}.{self.module}")
        return module.wanted(*(Format(*each) for each in self.formats))

    def is_kept(self) -> bool:
        """Whether compiling takes no time, or other processes cannot help."""
        return all(kernel.is_kept(*types) for kernel, types in self.kernels())

    def run(self) -> None:
        """Compile, or read the code from the cache."""
        for kernel, types in self.kernels():
            kernel.compile(*types)


_begun: dict[Job, threading.Event] = {}
"""Of each job that was begun: set when it is done, or when nobody works at it any more."""
_lock = threading.Lock()


def compile_jobs(jobs: Sequence[Job]) -> None:
    """Compile, or read from the cache, what is not being compiled; wait for what is."""
    for job in jobs:
        if (begun := _begun.get(job)) is not None:
            begun.wait(PATIENCE)
        job.run()


def in_background(jobs: Sequence[Job], *, name: str, processes: int, keep: bool = False) -> None:
    """Begin to compile. Whoever needs a kernel calls :func:`compile_jobs`, and meets its error.

    Args:
        processes: how many others may compile what is not in the cache; with 0 a thread does.
        keep: this process does not end before they do, so that the code is in the cache.
    """
    with _lock:
        jobs = [job for job in jobs if job not in _begun or _begun[job].is_set()]
        _begun.update((job, threading.Event()) for job in jobs)

    def run() -> None:
        ours = set(jobs)
        try:
            missing = [job for job in jobs if not job.is_kept()] if processes else []
            for share in (missing[i::processes] for i in range(processes)):
                if share and _elsewhere(share, keep=keep):
                    ours.difference_update(share)
            for job in jobs:
                if job in ours:
                    job.run()
                    _begun[job].set()
        except compiling_errors() as error:
            logger.info(f"{name} could not be compiled: {error}")
        finally:
            _done(ours)

    # No daemon: a process that ends inside of LLVM may crash.
    threading.Thread(target=run, name=f"compiling {name}", daemon=False).start()


def _done(jobs: Iterable[Job]) -> None:
    for job in jobs:
        _begun[job].set()


def _elsewhere(jobs: Sequence[Job], *, keep: bool) -> bool:
    """Begin to compile in another process; whether one was started."""
    program = Path(sys.executable or "").name.lower()
    if getattr(sys, "frozen", False) or not program.startswith("python"):
        return False  # it is the application's own program
    path = [each for each in sys.path if isinstance(each, str)]
    try:
        # Without buffers: this process may end while a thread waits for a byte.
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        logger.info(f"kernels are compiled in this process: {error}")
        return False

    def follow() -> None:
        try:
            if process.stdin is not None and process.stdout is not None:
                with process.stdin as to:
                    to.write(json.dumps([(job.module, job.formats) for job in jobs]).encode())
                with process.stdout as done:
                    while index := done.read(1):
                        _done([jobs[index[0]]])
                process.wait()
        except (OSError, IndexError) as error:
            logger.info(f"the process that compiles ended: {error}")
        finally:
            _done(jobs)

    threading.Thread(target=follow, name="compiling elsewhere", daemon=not keep).start()
    return True


def serve() -> None:
    """Compile the jobs that standard input names; the number of each one that is done goes back."""
    if hasattr(signal, "alarm"):
        signal.alarm(int(PATIENCE))
    gc.disable()
    jobs = [Job(module, tuple(map(tuple, formats))) for module, formats in json.load(sys.stdin)]
    for index, job in enumerate(jobs):
        try:
            job.run()
            os.write(1, bytes([index]))
        except BrokenPipeError:
            pass  # nobody waits; the next process finds the code
        except compiling_errors():
            return
