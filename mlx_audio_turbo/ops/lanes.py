"""Compiled work on all cores: S3Gen and the vocoder for float32 on a CPU.

A task is a call of a kernel, which holds no GIL. Threads take the next task when they are free, so
that a core which other programs use takes fewer.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import mlx.core as mx

from . import compiled
from .blas import cores
from .device import on_gpu

logger = logging.getLogger("mlx_audio_turbo")

MAX_LANES = 16
_JOBS = (compiled.Job("flow_kernels"), compiled.Job("vocoder_kernels"))


ROWS = 8
"""The widths of a network's layers are multiples of this."""


def suited(weight: mx.array, *widths: int) -> bool:
    """Whether a network of such weights and widths runs in compiled kernels.

    Compiles them if need be.
    """
    fits = weight.dtype == mx.float32 and not any(width % ROWS for width in widths)
    return fits and not on_gpu() and compiled.available() and _ready()


def compile_in_background(*, keep: bool = False) -> None:
    """Begin to compile what :func:`suited` needs.

    Args:
        keep: this process does not end before the code is in the cache.
    """
    if compiled.available():
        # On few cores behind what T3 needs first.
        worker = None if cores() < 2 else 0 if cores() < 4 else 1
        compiled.in_background(_JOBS, name="S3Gen and the vocoder", worker=worker, keep=keep)


@cache
def _ready() -> bool:
    from .compiled.runtime import compiling_errors

    try:
        compiled.compile_jobs(_JOBS)
    except compiling_errors() as error:
        logger.info(f"S3Gen and the vocoder run without compiled kernels: {error}")
        return False
    return True


def lane_count() -> int:
    """Threads that work at a time."""
    return min(cores(), MAX_LANES)


def for_each(work: Callable[[int, int], object], count: int) -> None:
    """Call ``work(lane, index)`` for every index below ``count``; lanes run side by side."""
    indices = itertools.count()  # the next one is one step of the interpreter

    def lane(number: int) -> None:
        while (index := next(indices)) < count:
            work(number, index)

    others = [_threads().submit(lane, number) for number in range(1, min(lane_count(), count))]
    try:
        lane(0)
    finally:
        for other in others:
            other.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_LANES, thread_name_prefix="mlx_audio_turbo kernels")
