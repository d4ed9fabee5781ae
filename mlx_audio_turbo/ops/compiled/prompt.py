"""Several positions of a transformer, a prompt or a text: all layers in one call of each thread.

The transformer is that of :mod:`.transformer`. Positions lie in panels (channels, COLUMNS), as in
``flow_kernels``: those of a row of the batch in panels of their own, the last one padded. A product
takes some outputs of the weights as they are stored, expands them to float32 in a core's cache, and
multiplies all panels with them.

Dimensions: B rows, T new positions, L own positions, C width, D head width, U hidden units, P
panels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from . import lanewise
from .formats import Format
from .layer_parts import gelu, rotate, swiglu
from .pieces import finish, take, wait
from .products import LINE as CACHE_LINE
from .products import expand_rows
from .runtime import kernel
from .tiles import COLUMNS, ROWS, multiply_ahead
from .transformer import ENTER, GATE, KEYS, LEAVE, NORM1, NORM2, OUT, QUERY, VALUES
from .words import address, apart, ask, part

LINE = 4 * COLUMNS
"""Bytes of a row of a panel."""
PIECE = 32
"""Outputs of a piece of a product; the sizes of a model are multiples of it."""
PART = 1024
"""Inputs that are multiplied at a time: with the outputs of a head they fit a core's cache."""
MASKED = np.float32(-1e30)
"""A score."""


@part
def _product(
    format, linear, inputs, first, outputs, panels, b, b_panel, added, c, c_panel, scratch, after
):  # pyright: ignore
    """c (panels, outputs, COLUMNS) = the outputs from ``first`` times b (panels, inputs, COLUMNS).

    The bias is added, and c itself where ``added`` is true. The panels' strides are bytes.
    ``after`` is the first of the outputs that this thread probably needs next.
    """
    apart()
    weights, scales, biases, bias = linear
    row = inputs // format.span * format.span_bytes
    if bias != 0:
        bias += 4 * first
    if format.bits != 0:
        groups = inputs // format.span * format.float_bytes
        for line in range(after * groups, (after + outputs) * groups, CACHE_LINE):
            ask(scales + line)
            ask(biases + line)
    for start in range(0, inputs, PART):
        count = min(PART, inputs - start)
        if format.bits == 0 and format.float_bytes == 4:
            a, a_row = weights + first * row + 4 * start, row
        else:
            a, a_row = address(scratch), 4 * count
            matrix = (weights, scales, biases)
            expand_rows(format, matrix, inputs, first, outputs, start, count, scratch)
        ahead = weights + after * row
        if start + PART < inputs:
            ahead = weights + first * row + (start + PART) // format.span * format.span_bytes
        for panel in range(panels):
            target = c + panel * c_panel
            multiply_ahead(
                ahead, row, ROWS * format.span_bytes // format.span,
                a, a_row, 4, b + panel * b_panel + start * LINE, LINE, count,
                bias if start == 0 else 0, target if added or start > 0 else 0, LINE,
                target, LINE, outputs,
            )  # fmt: skip


@part
def _keep(source, width, columns, target):  # pyright: ignore
    """Write the first ``columns`` columns of source (width, COLUMNS) to target (columns, width)."""
    for column in range(columns):
        for i in range(width):
            value = lanewise.value(source + i * LINE + 4 * column)
            lanewise.put(target + 4 * (column * width + i), value)


@part
def _hide(scores, first, last):  # pyright: ignore
    """Give the rows ``first`` to ``last`` of scores (..., COLUMNS) no share."""
    for i in range(first * COLUMNS, last * COLUMNS):
        lanewise.put(scores + 4 * i, MASKED)


@part
def _attend(queries, keys, values, shared, first, before, end, width, target, scores):  # pyright: ignore
    """Attention of queries (D, COLUMNS), of the own position ``before`` and those after it.

    keys, values: two addresses each, of the positions before the row's own and of its own (L, D).
        All ``shared`` ones count, and own ones from ``first`` to ``end``.
    target: (D, COLUMNS).
    scores: room for (all positions + 3 * ROWS, COLUMNS). The buffers of the keys have room for a
        multiple of ROWS positions, which are read to the end of the last ROWS.
    """
    start, more = first // ROWS * ROWS, (shared + ROWS - 1) // ROWS * ROWS
    rows = (end - start + ROWS - 1) // ROWS * ROWS
    own = scores + more * LINE
    for side in range(2):
        place = 4 * start * width if side == 1 else 0
        multiply_ahead(
            keys[side], 0, 0, keys[side] + place, 4 * width, 4, queries, LINE, width,
            0, 0, 0, scores if side == 0 else own, LINE, more if side == 0 else rows,
        )  # fmt: skip
    _hide(scores, shared, more)
    _hide(own, 0, first - start)
    for position in range(max(first, before + 1), end):
        for column in range(position - before):
            lanewise.put(own + (position - start) * LINE + 4 * column, MASKED)
    shares = own + rows * LINE
    lanewise.softmax(scores, more + end - start, np.float32(width**-0.5), shares)
    for side in range(2):
        place = 4 * first * width if side == 1 else 0
        multiply_ahead(
            keys[side], 0, 0, values[side] + place, 4, 4 * width,
            scores if side == 0 else own + (first - start) * LINE, LINE,
            shared if side == 0 else end - first,
            0, target if side == 1 else 0, LINE, target, LINE, width,
        )  # fmt: skip
    lanewise.times_columns(target, width, shares)


@part
def _linear(at, column):  # pyright: ignore
    """A linear layer of the table's row."""
    return at[column], at[column + 1], at[column + 2], at[column + 3]


@part
def _scratch(head_dim, units):  # pyright: ignore
    """Floats of expanded weights, and of a scale and a bias for each group of at least 32."""
    return max(head_dim, PIECE) * (PART + units // 16)


@kernel()
def prompt(
    format, counters, base, layers, sizes, spans, shared, angles, eps, x, normed, mixed, hidden,
    work,
):  # fmt: skip  # pyright: ignore
    """Take pieces until none is left; how many this thread computed.

    A layer's stages are a norm, by panels; attention, by heads; its projection, by outputs; the
    other norm; and the two products of the feed-forward network.

    Args:
        counters: shared by the threads; both stand at ``base`` before.
        layers: addresses, as of ``transformer.step``.
        sizes: C, number of heads, D, U, B, T, L, the room for them, the most positions of a row
            before its own, and the number of threads.
        spans, shared: as ``spans`` and ``before`` of ``transformer.step``.
        angles: (P, D, COLUMNS), cosines then sines, by which queries and keys turn; (0, D, COLUMNS)
            turns none.
        x: (P, C, COLUMNS), the input, which becomes the output.
        normed, mixed: (P, C, COLUMNS). hidden: (P, U, COLUMNS).
        work: floats of this thread alone, :func:`work_floats`.

    A thread returns when the last piece is taken, not when it is done.
    """
    width, heads, head_dim, units = sizes[0], sizes[1], sizes[2], sizes[3]
    rows, time, length, room, threads = sizes[4], sizes[5], sizes[6], sizes[7], sizes[9]
    each = (time + COLUMNS - 1) // COLUMNS
    panels = rows * each
    counts = (panels, heads, width // PIECE, panels, units // PIECE, width // PIECE)
    in_x, in_normed, in_mixed = address(x), address(normed), address(mixed)
    in_hidden = address(hidden)
    narrow, wide, of_head = width * LINE, units * LINE, head_dim * LINE
    # This thread's own room, behind that for expanded weights.
    found = address(work) + 4 * _scratch(head_dim, units)
    scores = found + panels * max(of_head, PIECE * LINE)
    computed = 0
    while True:
        layer, stage, piece = take(counters, base, len(layers), counts, 0)
        if stage < 0:
            break
        computed += 1
        at = layers[layer]
        if stage == 0 or stage == 3:
            column = NORM1 if stage == 0 else NORM2
            place = piece * narrow
            if at[column + 1] != 0:
                lanewise.norm(
                    in_x + place, width, at[column], at[column + 1], eps, in_normed + place
                )
            else:
                lanewise.rms_norm(in_x + place, width, at[column], eps, in_normed + place)
        elif stage == 1:
            first = piece * head_dim
            for i in range(2, -1, -1):
                # Of the next matrix no line is asked for, but of this one's next head.
                after = min(first + threads * head_dim, width - head_dim)
                _product(
                    format, _linear(at, QUERY + 4 * i), width, first, head_dim, panels, in_normed,
                    narrow, False, found, of_head, work, after,
                )  # fmt: skip
                for panel in range(panels):
                    place = found + panel * of_head
                    if i < 2 and len(angles) > 0:
                        turns = address(angles) + panel * of_head
                        rotate(place, turns, head_dim * COLUMNS)
                    if i > 0:
                        row, begun = panel // each, panel % each * COLUMNS
                        held = at[KEYS] if i == 1 else at[VALUES]
                        slot = (row * heads + piece) * room + length - time + begun
                        columns = min(COLUMNS, time - begun)
                        _keep(place, head_dim, columns, held + 4 * slot * head_dim)
            for panel in range(panels):
                row, before = panel // each, length - time + panel % each * COLUMNS
                slab = 4 * (row * heads + piece) * room * head_dim
                other = 4 * piece * spans[row, 2] * head_dim
                _attend(
                    found + panel * of_head, (shared[layer, row, 0] + other, at[KEYS] + slab),
                    (shared[layer, row, 1] + other, at[VALUES] + slab), spans[row, 1],
                    spans[row, 0], before, min(length, before + COLUMNS), head_dim,
                    in_mixed + panel * narrow + piece * of_head, scores,
                )  # fmt: skip
        elif stage == 4:
            first = piece * PIECE
            after = min(first + threads * PIECE, units - PIECE)
            target = in_hidden + first * LINE
            _product(
                format, _linear(at, ENTER), width, first, PIECE, panels, in_normed, narrow,
                False, target, wide, work, after,
            )  # fmt: skip
            if at[GATE] != 0:
                _product(
                    format, _linear(at, GATE), width, first, PIECE, panels, in_normed, narrow,
                    False, found, PIECE * LINE, work, after,
                )  # fmt: skip
            for panel in range(panels):
                place = target + panel * wide
                if at[GATE] != 0:
                    swiglu(place, found + panel * PIECE * LINE, PIECE * COLUMNS)
                else:
                    gelu(place, 0, PIECE * COLUMNS)
        else:
            first = piece * PIECE
            after = min(first + threads * PIECE, width - PIECE)
            column, inputs, source, stride = OUT, width, in_mixed, narrow
            if stage == 5:
                column, inputs, source, stride = LEAVE, units, in_hidden, wide
            _product(
                format, _linear(at, column), inputs, first, PIECE, panels, source, stride,
                True, in_x + first * LINE, narrow, work, after,
            )  # fmt: skip
        finish(counters)
    return computed


def piece_count(layers: int, sizes: np.ndarray) -> int:
    """How many pieces a prompt has."""
    width, heads, _, units, rows, time, *_ = map(int, sizes)
    panels = rows * -(-time // COLUMNS)
    return layers * (2 * panels + heads + 2 * (width // PIECE) + units // PIECE)


def work_floats(sizes: np.ndarray) -> int:
    """How many floats a thread needs for itself."""
    _, _, head_dim, units, rows, time, length, _, before, _ = map(int, sizes)
    panels = rows * -(-time // COLUMNS)
    scores = before + length + 3 * ROWS
    found = panels * max(head_dim, PIECE)
    return _scratch.py_func(head_dim, units) + (found + scores) * COLUMNS


def compile_prompt(format: Format) -> None:
    """Compile what a prompt needs of blocks of this format, or read it from the cache."""
    integers, table = types.int64[::1], types.int64[:, ::1]
    panels, places = types.float32[:, :, ::1], types.int64[:, :, ::1]
    arguments: list[Any] = [format.numba_type, integers, types.int64, table]
    arguments += [integers, table, places, panels, types.float32, *[panels] * 4, types.float32[::1]]
    prompt.compile(*arguments)
    wait.compile(integers, types.int64)
