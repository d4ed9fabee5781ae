"""The pieces of a step, which threads take from a shared counter.

A piece is a head's attention, or some outputs of a product. Threads take the next one, and a piece
starts once all pieces of the stages before it are done. A thread that the system has put aside
holds up one piece at most, and one that comes late joins where the others are. A piece is computed
in the same way by any thread, so that the result does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import types

from .parts import part
from .runtime import Kernel, kernel
from .words import (
    address,
    count_shared,
    entry,
    give_way,
    least,
    pause,
    read_shared,
    take_shared,
)

TAKEN, DONE, COUNTERS = 0, 16, 32
"""The shared counters, on a cache line each."""
UNIT = 16
"""Pieces of a product start at a multiple of so many outputs."""
SPINS = 4000
"""Turns of waiting before a thread offers its core to others."""


@part
def start_of(outputs, pieces, index):  # pyright: ignore
    """The first output of a piece."""
    return outputs if index == pieces else outputs // UNIT * index // pieces * UNIT


@part
def _place(index, layers, counts, stages):  # pyright: ignore
    """Layer, stage and number in the stage of piece ``index``."""
    of_layer = 0
    for stage in range(stages):
        of_layer += entry(counts, stage)
    layer = least(layers, index // of_layer)
    piece, stage = index - layer * of_layer, stages
    if layer < layers:
        stage = 0
        while piece >= entry(counts, stage):
            piece -= entry(counts, stage)
            stage += 1
    return layer, stage, piece


@part
def take(counters, base, layers, counts, stages, pieces):  # pyright: ignore
    """Layer, stage and number of one of ``pieces`` that this thread has taken and can compute.

    ``counters`` and ``counts`` are addresses. ``counts`` has the pieces of a layer's stages; the
    head is the stage behind them, and stage -1 tells that no piece is left.
    """
    taken, done = counters + 8 * TAKEN, counters + 8 * DONE
    spins = 0
    while True:
        index = read_shared(taken) - base
        if index >= pieces:
            return layers, -1, index
        layer, stage, piece = _place(index, layers, counts, stages)
        if read_shared(done) - base < index - piece:
            spins += 1
            if spins > SPINS:
                give_way()
            else:
                pause()
        elif take_shared(taken, base + index):
            return layer, stage, piece


@part
def finish(counters):  # pyright: ignore
    """Tell that a piece is done; ``counters`` is their address."""
    count_shared(counters + 8 * DONE)


@kernel()
def wait(counters, value):  # pyright: ignore
    """Return when all pieces below ``value`` are done."""
    done, spins = address(counters) + 8 * DONE, 0
    while read_shared(done) < value:
        spins += 1
        if spins > SPINS:
            give_way()
        else:
            pause()


def pieces_of(outputs: int, size: int) -> int:
    """How many pieces of about ``size`` there are of a product."""
    return max(1, outputs // size)


def piece_count(layers: int, counts: np.ndarray) -> int:
    """How many pieces there are in all, by ``counts`` as :func:`take` has them."""
    return layers * int(counts[:-1].sum()) + int(counts[-1])


def wanted() -> list[tuple[Kernel, Sequence[Any]]]:
    """The kernel of this module, with the types of its arguments."""
    return [(wait, [types.int64[::1], types.int64])]
