"""Work on several cores at once: parts of an array, each on a stream of its own.

MLX runs what one stream of the CPU is given on one thread, and only a BLAS uses more; but streams
run side by side.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import mlx.core as mx

from .device import BLOCK, on_gpu

T = TypeVar("T")
MOST = 4
"""Lanes at most: one thread feeds them all."""
LEAST = 1 << 14
"""Values that are worth a lane: less, and the threads wait for each other most of the time."""
_own = threading.local()


def lanes() -> list[mx.Stream]:
    """This thread's streams to spread work over: one on a GPU or on a single core."""
    first = mx.default_stream(mx.default_device())
    if on_gpu():
        return [first]
    if not hasattr(_own, "streams"):
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        _own.streams = [mx.new_stream(mx.cpu) for _ in range(min(usable, MOST) - 1)]
    return [first, *_own.streams]


def split(x: mx.array) -> list[mx.array]:
    """``x`` (B, T, ...) in about equal parts along T, at most one for each lane."""
    time = x.shape[1]
    count = min(len(lanes()), time, max(1, x.size // LEAST))
    return [x[:, time * i // count : time * (i + 1) // count] for i in range(count)]


def each(function: Callable[..., T], *parts: list) -> list[T]:
    """``function`` of all first parts, of all second ones and so on, in turn on the lanes."""
    streams = lanes()
    results: list[T] = []
    for i, arguments in enumerate(zip(*parts, strict=True)):
        with mx.stream(streams[i % len(streams)]):
            results.append(function(*arguments))
    return results


def spread(function: Callable[[mx.array], mx.array], x: mx.array) -> mx.array:
    """``function`` of ``x`` (B, T, ...), where each step of T is on its own."""
    return mx.concatenate(each(function, split(x)), axis=1)


def over_time(function: Callable[[int, int], mx.array], time: int, channels: int) -> mx.array:
    """Join ``function(start, stop)`` (B, stop - start, ...) for the ranges that make up ``time``.

    On the CPU these are short enough for a chain of work on ``channels`` to stay in a core's
    cache, and take the lanes in turn; elsewhere there is one.
    """
    streams = lanes()
    if len(streams) == 1 and on_gpu():
        return function(0, time)
    count = max(1, round(time * channels / BLOCK))
    count = min(time, max(count, min(len(streams), time * channels // LEAST)))
    bounds = [time * i // count for i in range(count + 1)]
    parts: list[mx.array] = []
    for i in range(count):
        with mx.stream(streams[i % len(streams)]):
            parts.append(function(bounds[i], bounds[i + 1]))
    return mx.concatenate(parts, axis=1)
