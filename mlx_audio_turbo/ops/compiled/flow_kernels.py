"""Kernels of S3Gen's estimator, over panels of frames.

A sequence (channels, time) lies in panels (channels, COLUMNS) of neighbouring frames, the last one
padded. Every argument that is not a size is an address. Weights are (outputs, inputs), as they lie
in a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import types

from . import lanewise
from .parts import part
from .runtime import Kernel, kernel
from .tiles import COLUMNS, ROWS, VECTORS, convolve, multiply, multiply_parts
from .words import ADDRESSES, VALUES, address, entry, most, root

LINE = 4 * COLUMNS
"""Bytes of a row of a panel."""
EPS = 1e-5


@part
def project(x, channels, weights, eps, inner, held, panel, scratch):  # pyright: ignore
    """The norm of a panel, and its queries, keys and values (inner, COLUMNS).

    weights, held: tables of addresses, as all that follow.
    """
    lanewise.norm(x, channels, entry(weights, 0), entry(weights, 1), eps, scratch)
    for i in range(3):
        target = entry(held, i) + panel * inner * LINE
        multiply(
            entry(weights, 2 + i), 4 * channels, 4, scratch, LINE, channels,
            entry(weights, 13 + i), 0, 0, target, LINE, inner,
        )  # fmt: skip


@part
def add_positions(
    queries, other_bias, positions, panel, inner, place, width, keys, time, scores, scratch
):  # pyright: ignore
    """Add to the scores (keys, COLUMNS) of a head the products with the distances.

    positions: of the distances time - 1 down to 1 - time, in panels, the first one empty.
    other_bias: (width,), what these products add to the queries.
    """
    moved = scratch + (keys + COLUMNS) * LINE
    lanewise.copy(queries + place, moved, width * VECTORS)
    lanewise.plus_rows(moved, width, other_bias)
    # Of the panel's last query and the first key; each key and each query before is one further.
    lowest = COLUMNS + time - 1 - (panel * COLUMNS + COLUMNS - 1)
    start = lowest // ROWS * ROWS
    stop = lowest + time + COLUMNS - 1
    for row in range(start, stop, ROWS):
        line = positions + (row // COLUMNS) * inner * LINE + place + 4 * (row % COLUMNS)
        multiply(
            line, 4, LINE, moved, LINE, width, 0, 0, 0, scratch + (row - start) * LINE, LINE, ROWS
        )
    for key in range(time):
        target = scores + key * LINE
        first = scratch + (lowest - start + key + COLUMNS - 1) * LINE
        for query in range(COLUMNS):
            more = lanewise.value(first + query * (4 - LINE))
            lanewise.put(target + 4 * query, lanewise.value(target + 4 * query) + more)


@part
def attend(
    queries, keys, values, weights, positions, heads, width, panel, panels, time, target, scores
):  # pyright: ignore
    """Attention of a panel of queries to all keys; gives (heads * width, COLUMNS)."""
    inner = heads * width
    shares = scores + panels * COLUMNS * LINE
    for head in range(heads):
        place = head * width * LINE
        for other in range(panels):
            multiply(
                keys + other * inner * LINE + place, 4, LINE,
                queries + place, LINE, width,
                0, 0, 0,
                scores + other * COLUMNS * LINE, LINE, COLUMNS,
            )  # fmt: skip
        if positions != 0:
            add_positions(
                queries, entry(weights, 16) + 4 * head * width, positions, panel, inner, place,
                width, panels * COLUMNS, time, scores, shares + LINE,
            )  # fmt: skip
        lanewise.softmax(scores, time, np.float32(1) / root(np.float32(width)), shares)
        lanewise.clear(scores + time * LINE, (panels * COLUMNS - time) * VECTORS)
        multiply_parts(
            values + place, LINE, 4, inner * LINE,
            scores, LINE, COLUMNS * LINE,
            panels, COLUMNS,
            target + place, LINE, width,
        )  # fmt: skip
        lanewise.times_columns(target + place, width, shares)


@part
def feed(x, channels, weights, eps, hidden, silu, normed, scratch):  # pyright: ignore
    """Add the feed-forward network of the norm of a panel to it; with SiLU, or with GELU."""
    lanewise.norm(x, channels, entry(weights, 7), entry(weights, 8), eps, normed)
    for row in range(0, hidden, ROWS):
        target = scratch + row * LINE
        multiply(
            entry(weights, 9) + 4 * row * channels, 4 * channels, 4, normed, LINE, channels,
            entry(weights, 10) + 4 * row, 0, 0, target, LINE, ROWS,
        )  # fmt: skip
        if silu:
            lanewise.silu(target, ROWS * VECTORS)
        else:
            lanewise.gelu(target, ROWS * VECTORS)
    multiply(
        entry(weights, 11),
        4 * hidden,
        4,
        scratch,
        LINE,
        hidden,
        entry(weights, 12),
        x,
        LINE,
        x,
        LINE,
        channels,
    )


@kernel()
def transform(
    x,
    panel,
    channels,
    heads,
    width,
    hidden,
    panels,
    time,
    eps,
    positions,
    held,
    weights,
    later,
    scratch,
):  # pyright: ignore
    """A transformer block of a panel, in place, and what the next block's attention needs of it.

    Without ``weights`` it is the latter alone.

    positions: of the block's relative attention, as in :func:`add_positions`, or 0. With them the
        feed-forward network has SiLU, without them GELU.
    held: addresses of queries, keys and values of this block, then of those of the next.
    weights: addresses of this block's parameters; later: of the next one's, or empty.
    scratch: of :func:`scratch_values`.
    """
    inner = heads * width
    x += panel * channels * LINE
    y = address(scratch)
    rest = y + most(inner, channels) * LINE
    if len(weights) > 0:
        places, table = address(held), address(weights)
        queries = entry(places, 0) + panel * inner * LINE
        attend(
            queries, entry(places, 1), entry(places, 2), table, positions, heads, width, panel,
            panels, time, y, rest,
        )  # fmt: skip
        multiply(
            entry(table, 5), 4 * inner, 4, y, LINE, inner, entry(table, 6), x, LINE, x, LINE,
            channels,
        )  # fmt: skip
        feed(x, channels, table, eps, hidden, positions != 0, y, rest)
    if len(later) > 0:
        project(x, channels, address(later), eps, inner, address(held) + 24, panel, y)


def scratch_values(channels: int, inner: int, hidden: int, panels: int, width: int) -> int:
    """The float32 values of scratch that :func:`transform` needs, with relative attention."""
    keys = panels * COLUMNS
    scores = keys + 1 + keys + 2 * COLUMNS + width
    return (max(inner, channels) + max(hidden, scores)) * COLUMNS


@part
def shifted(x, panel, channels, before, target):  # pyright: ignore
    """Write a panel and the ``before`` columns before it to (channels, before + COLUMNS)."""
    row = 4 * (before + COLUMNS)
    for channel in range(channels):
        source = x + (panel * channels + channel) * LINE
        lanewise.copy(source, target + channel * row + 4 * before, VECTORS)
        for i in range(before):
            value = np.float32(0)
            if panel > 0:
                value = lanewise.value(source - channels * LINE + 4 * (COLUMNS - before + i))
            lanewise.put(target + channel * row + 4 * i, value)


@kernel()
def causal(
    x,
    panel,
    inputs,
    outputs,
    taps,
    weights,
    time,
    skip,
    skip_inputs,
    y,
    held,
    width,
    later,
    scratch,
):  # pyright: ignore
    """A causal convolution of a panel; with a norm its norm and Mish; and what may follow.

    weights: of the convolution, its bias or 0, then the norm's or none, then those of ``skip``.
    time: values to add to each channel, or 0.
    skip: panels (skip_inputs, COLUMNS) whose projection is added, or 0.
    held: addresses of queries, keys and values; later: parameters of the transformer block that
        follows, or empty. width: of all its heads.
    """
    before = taps - 1
    row = 4 * (before + COLUMNS)
    window, table = address(scratch), address(weights)
    shifted(x, panel, inputs, before, window)
    y += panel * outputs * LINE
    convolve(entry(table, 0), entry(table, 1), window, row, inputs, taps, 1, 0, 0, y, LINE, outputs)
    if len(weights) > 2:
        eps = np.float32(EPS)
        lanewise.norm(y, outputs, entry(table, 2), entry(table, 3), eps, y)
        lanewise.mish(y, outputs * VECTORS)
    if time != 0:
        lanewise.plus_rows(y, outputs, time)
    if skip != 0:
        multiply(
            entry(table, 4), 4 * skip_inputs, 4, skip + panel * skip_inputs * LINE, LINE,
            skip_inputs, entry(table, 5), y, LINE, y, LINE, outputs,
        )  # fmt: skip
    if len(later) > 0:
        eps = np.float32(EPS)
        project(y, outputs, address(later), eps, width, address(held), panel, window)


def wanted() -> list[tuple[Kernel, Sequence[Any]]]:
    """The kernels of this module, with the types of their arguments."""
    size, eps = types.int64, types.float32
    return [
        (transform, [*[size] * 8, eps, size, ADDRESSES, ADDRESSES, ADDRESSES, VALUES]),
        (causal, [*[size] * 5, ADDRESSES, *[size] * 4, ADDRESSES, size, ADDRESSES, VALUES]),
    ]
