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


def in_background(
    jobs: Sequence[Job], *, name: str, worker: int | None, keep: bool = False
) -> None:
    """Begin to compile. Whoever needs a kernel calls :func:`compile_jobs`, and meets its error.

    Args:
        worker: the number of the other process that compiles what is not in the cache, after what
            it was given before; None for a thread of this process.
        keep: this process does not end before the worker is done, so that the code is in the cache.
    """
    with _lock:
        jobs = [job for job in jobs if job not in _begun or _begun[job].is_set()]
        _begun.update((job, threading.Event()) for job in jobs)

    def run() -> None:
        ours = set(jobs)
        try:
            missing = [] if worker is None else [job for job in jobs if not job.is_kept()]
            if worker is not None and missing and _give(worker, missing):
                ours.difference_update(missing)
            for job in jobs:
                if job in ours:
                    job.run()
                    _begun[job].set()
        except compiling_errors() as error:
            logger.info(f"{name} could not be compiled: {error}")
        finally:
            _done(ours)
        if keep:
            for job in jobs:
                _begun[job].wait(PATIENCE)

    # No daemon: a process that ends inside of LLVM may crash.
    threading.Thread(target=run, name=f"compiling {name}", daemon=False).start()


def _done(jobs: Iterable[Job]) -> None:
    for job in jobs:
        _begun[job].set()


_workers: dict[int, _Worker] = {}
_giving = threading.Lock()


def _give(number: int, jobs: Sequence[Job]) -> bool:
    """Have a worker compile; whether there is one."""
    with _giving:
        worker = _workers.get(number)
        if worker is not None and worker.take(jobs):
            return True
        made = _process()
        if made is None:
            return False
        _workers[number] = worker = _Worker(made)
        return worker.take(jobs)


def _process() -> subprocess.Popen[bytes] | None:
    """Another process that compiles; None where it cannot be started."""
    program = Path(sys.executable or "").name.lower()
    if getattr(sys, "frozen", False) or not program.startswith("python"):
        return None  # it is the application's own program
    path = [each for each in sys.path if isinstance(each, str)]
    try:
        # Without buffers: this process may end while a thread waits for a byte.
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        logger.info(f"kernels are compiled in this process: {error}")
        return None


class _Worker:
    """Another process that compiles one job after another, and ends when it has none."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self._process, self._jobs, self._left = process, list[Job](), 0
        self._lock, self._open = threading.Lock(), True

    def take(self, jobs: Sequence[Job]) -> bool:
        """Compile these too; False where the process has ended or is about to."""
        to, first = self._process.stdin, not self._jobs
        with self._lock:
            if not self._open or to is None:
                return False
            try:
                for job in jobs:
                    to.write(json.dumps((job.module, job.formats)).encode() + b"\n")
            except OSError as error:
                logger.info(f"the process that compiles ended: {error}")
                return False
            self._jobs += jobs
            self._left += len(jobs)
        if first:
            threading.Thread(target=self._follow, name="compiling elsewhere", daemon=True).start()
        return True

    def _follow(self) -> None:
        try:
            done = self._process.stdout
            while done is not None and (index := done.read(1)):
                _done([self._jobs[index[0]]])
                with self._lock:
                    self._left -= 1
                    if not self._left:
                        self._close()
        except (OSError, IndexError) as error:
            logger.info(f"the process that compiles ended: {error}")
        finally:
            with self._lock:
                self._close()
            _done(self._jobs)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process.wait()

    def _close(self) -> None:
        """It reads to the end, and ends."""
        self._open = False
        if self._process.stdin is not None:
            self._process.stdin.close()


def serve() -> None:
    """Compile the jobs that lines name; the number of each one that is done goes back."""
    if hasattr(signal, "alarm"):
        signal.alarm(int(PATIENCE))
    gc.disable()
    for index, line in enumerate(sys.stdin.buffer):
        module, formats = json.loads(line)
        try:
            Job(module, tuple(map(tuple, formats))).run()
            os.write(1, bytes([index]))
        except BrokenPipeError:
            pass  # nobody waits; the next process finds the code
        except compiling_errors():
            return
