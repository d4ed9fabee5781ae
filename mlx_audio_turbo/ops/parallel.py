"""Work along time: in parts on several cores, and in windows that fit a cache.

MLX runs the operations of one CPU stream on one thread. Several streams run side by side, so that
parts of an array, each on its own stream ("lane"), use several cores. A GPU has one lane.

Dimensions: B batch, T time, C channels.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import mlx.core as mx

from .blas import one_thread
from .device import BLOCK, device, on_gpu

T = TypeVar("T")
Halo = tuple[int, int]
"""Steps that a convolution reads before and after the step that it computes."""

MAX_LANES = 4
"""One Python thread feeds all lanes."""
MIN_LANE_VALUES = 1 << 14
"""Smaller parts cost more in synchronisation than a lane gains."""
MAX_GPU_VALUES = 1 << 25
"""Values of the largest array that one range makes on a GPU: 64 MB in half precision."""
_own = threading.local()


def lanes() -> list[mx.Stream]:
    """The streams of this thread: one on a GPU or a single core, else one a core."""
    first = mx.default_stream(device())
    if on_gpu():
        return [first]
    if not hasattr(_own, "streams"):
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        _own.streams = [mx.new_stream(mx.cpu) for _ in range(min(usable, MAX_LANES) - 1)]
    return [first, *_own.streams]


def products_on_one_thread() -> AbstractContextManager[None]:
    """Inside, a product takes one thread, as the lanes use the cores. On a GPU it does nothing."""
    return nullcontext() if on_gpu() else one_thread()


def map(function: Callable[..., T], *parts: Sequence) -> list[T]:
    """``function`` of the first item of each list, of the second ones and so on, lane by lane."""
    streams = lanes()
    results: list[T] = []
    for i, arguments in enumerate(zip(*parts, strict=True)):
        with mx.stream(streams[i % len(streams)]):
            results.append(function(*arguments))
    return results


def map_time(function: Callable[[mx.array], mx.array], x: mx.array) -> mx.array:
    """``function`` of ``x`` (B, T, ...), where the result of a step depends on that step alone.

    T is cut into one part a lane.
    """
    time = x.shape[1]
    count = min(len(lanes()), time, max(1, x.size // MIN_LANE_VALUES))
    if count <= 1:
        return function(x)
    bounds = [time * i // count for i in range(count + 1)]
    parts = map(lambda start, stop: function(x[:, start:stop]), bounds[:-1], bounds[1:])
    return mx.concatenate(parts, axis=1)


def map_ranges(
    function: Callable[[int, int], mx.array],
    time: int,
    channels: int,
    *,
    values_per_step: int = 0,
) -> mx.array:
    """Join ``function(start, stop)`` (B, stop - start, ...) over the ranges that make up ``time``.

    On the CPU a range is short enough for a chain of operations on ``channels`` to stay in a
    core's cache, and the ranges take the lanes in turn. On a GPU there is one range, or as many as
    ``values_per_step``, the values of the largest array for each step of a range, needs for
    :data:`MAX_GPU_VALUES`.
    """
    if on_gpu():
        count = min(time, max(1, -(-time * values_per_step // MAX_GPU_VALUES)))
    else:
        count = max(1, round(time * channels / BLOCK))
        count = min(time, max(count, min(len(lanes()), time * channels // MIN_LANE_VALUES)))
    if count == 1:
        return function(0, time)
    bounds = [time * i // count for i in range(count + 1)]
    return mx.concatenate(map(function, bounds[:-1], bounds[1:]), axis=1)


def map_windows(
    function: Callable[..., mx.array], x: mx.array, *halos: Halo, residual: bool = False
) -> mx.array:
    """A chain of convolutions over ``x`` (B, T, C), computed range by range (:func:`map_ranges`).

    Args:
        function: called as ``function(window, *paddings)``. ``window`` is a range of ``x`` and the
            steps around it that the chain reads; ``paddings`` are the zeros (before, after) that
            each convolution has to add: its halo at the ends of ``x``, none at a cut.
        halos: of each convolution of the chain, in order.
        residual: add ``x`` to the result.
    """
    time = x.shape[1]
    before, after = (sum(halo[side] for halo in halos) for side in (0, 1))

    def window(start: int, stop: int) -> mx.array:
        first, last = max(0, start - before), min(time, stop + after)
        # Steps that lie outside of x; what is left after one convolution is the next one's to add.
        left, right = first - (start - before), stop + after - last
        paddings: list[Halo] = []
        for halo in halos:
            padding = min(left, halo[0]), min(right, halo[1])
            left, right = left - padding[0], right - padding[1]
            paddings.append(padding)
        y = function(x[:, first:last], *paddings)
        return x[:, start:stop] + y if residual else y

    return map_ranges(window, time, x.shape[2])
