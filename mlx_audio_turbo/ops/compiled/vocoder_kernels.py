"""Kernels of the vocoder, over windows of time that fit a core's cache.

A signal lies as (channels, time), each row between zeros: ``MARGIN`` before, and ``MARGIN`` behind.
Every argument that is not a size is an address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import types

from . import lanewise
from .parts import part
from .runtime import Kernel, kernel
from .tiles import COLUMNS, ROWS, tile
from .vectors import WIDTH
from .words import ADDRESSES, VALUES, address, entry, least, most

MARGIN = 128
"""Steps; more than any unit of the network reads beyond the ends, and a tile."""


@part
def _zero(place, count):  # pyright: ignore
    for i in range(count):
        lanewise.put(place + 4 * i, np.float32(0))


@part
def _convolve(
    weight, bias, x, x_row, channels, taps, dilation, added, added_row, c, c_row, columns
):  # pyright: ignore
    """c (channels, columns): the convolution of x, whose first column is the first tap's.

    The last tile overlaps the one before it, or goes beyond the columns where there is one alone.
    """
    for row in range(0, channels, ROWS):
        place = weight + row * 4 * taps * channels
        for start in range(0, columns, COLUMNS):
            first = 4 * least(start, most(0, columns - COLUMNS))
            more = added + row * added_row + first if added != 0 else 0
            tile(
                place, 4 * taps * channels, 4, 4 * channels,
                x + first, x_row, 4 * dilation, taps, channels,
                bias + 4 * row, more, added_row, c + row * c_row + first, c_row,
            )  # fmt: skip


@kernel()
def residual(x, y, time, channels, taps, dilation, start, stop, weights, scratch):  # pyright: ignore
    """Steps ``start`` to ``stop`` of y: x and its branch of two activations and convolutions.

    weights: of each half the two factors of Snake, the convolution and its bias.
    """
    line, table = 4 * (time + 2 * MARGIN), address(weights)
    half = taps // 2
    wide = dilation * half
    columns = stop - start
    inner = columns + 2 * half
    tiles = -(-inner // COLUMNS) * COLUMNS
    row1, row2 = 4 * (tiles + 2 * wide + WIDTH), 4 * tiles
    window1 = address(scratch)
    window2 = window1 + channels * row1
    source = x + 4 * (MARGIN + start - half - wide)
    vectors = -(-(inner + 2 * wide) // WIDTH)
    for channel in range(channels):
        lanewise.snake(
            source + channel * line,
            window1 + channel * row1,
            vectors,
            lanewise.value(entry(table, 0) + 4 * channel),
            lanewise.value(entry(table, 1) + 4 * channel),
        )
    _convolve(
        entry(table, 2),
        entry(table, 3),
        window1,
        row1,
        channels,
        taps,
        dilation,
        0,
        0,
        window2,
        row2,
        inner,
    )
    for channel in range(channels):
        row = window2 + channel * row2
        lanewise.snake(
            row,
            row,
            tiles // WIDTH,
            lanewise.value(entry(table, 4) + 4 * channel),
            lanewise.value(entry(table, 5) + 4 * channel),
        )
        # What lies outside of the signal is zero.
        if start < half:
            _zero(row, half - start)
        if stop + half > time:
            outside = stop + half - time
            _zero(row + 4 * (inner - outside), outside)
    target = 4 * (MARGIN + start)
    _convolve(
        entry(table, 6), entry(table, 7), window2, row2, channels, taps, 1,
        x + target, line, y + target, line, columns,
    )  # fmt: skip
    if stop == time:
        for channel in range(channels):
            _zero(y + channel * line + 4 * (MARGIN + time), least(COLUMNS, MARGIN))


@kernel()
def transpose(x, rows, columns, x_row, y, y_row):  # pyright: ignore
    """y (columns, rows) = x (rows, columns) transposed."""
    for first in range(0, rows, 16):
        last = least(rows, first + 16)
        for column in range(columns):
            target = y + column * y_row
            for row in range(first, last):
                lanewise.put(target + 4 * row, lanewise.value(x + row * x_row + 4 * column))


def wanted() -> list[tuple[Kernel, Sequence[Any]]]:
    """The kernels of this module, with the types of their arguments."""
    return [
        (residual, [*[types.int64] * 8, ADDRESSES, VALUES]),
        (transpose, [types.int64] * 6),
    ]
