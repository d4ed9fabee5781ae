"""The pieces of a step, which threads take from a shared counter.

A piece is a head's attention, or some outputs of a product. Threads take the next one, and a piece
starts once all pieces of the stages before it are done. A thread that the system has put aside
holds up one piece at most, and one that comes late joins where the others are. A piece is computed
in the same way by any thread, so that the result does not depend on how many there are.
"""

from __future__ import annotations

from .runtime import kernel
from .words import address, count_shared, give_way, part, pause, read_shared, take_shared

TAKEN, DONE, COUNTERS = 0, 16, 32
"""The shared counters, on a cache line each."""
UNIT = 16
"""Pieces of a product start at a multiple of so many outputs."""
SPINS = 4000
"""Turns of waiting before a thread offers its core to others."""


@part
def pieces_of(outputs, size):  # pyright: ignore
    """How many pieces of about ``size`` there are of a product."""
    return max(1, outputs // size)


@part
def start_of(outputs, pieces, index):  # pyright: ignore
    """The first output of a piece."""
    return outputs if index == pieces else outputs // UNIT * index // pieces * UNIT


@part
def _place(index, layers, counts):  # pyright: ignore
    """Layer, stage and number in the stage of piece ``index``."""
    of_layer = 0
    for count in counts:
        of_layer += count
    layer = min(layers, index // of_layer)
    piece, stage = index - layer * of_layer, len(counts)
    if layer < layers:
        stage = 0
        while piece >= counts[stage]:
            piece -= counts[stage]
            stage += 1
    return layer, stage, piece


@part
def take(counters, base, layers, counts, of_head):  # pyright: ignore
    """Layer, stage and number of a piece that this thread has taken and can compute.

    ``counts`` has the pieces of a layer's stages; the head is the stage behind them, and stage -1
    tells that no piece is left.
    """
    taken, done = address(counters) + 8 * TAKEN, address(counters) + 8 * DONE
    pieces = of_head
    for count in counts:
        pieces += layers * count
    spins = 0
    while True:
        index = read_shared(taken) - base
        if index >= pieces:
            return layers, -1, index
        layer, stage, piece = _place(index, layers, counts)
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
    """Tell that a piece is done."""
    count_shared(address(counters) + 8 * DONE)


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
