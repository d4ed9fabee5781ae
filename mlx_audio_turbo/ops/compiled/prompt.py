"""Several positions of a transformer, a prompt or a text: all layers in one call of each thread.

The transformer is that of :mod:`.transformer`. Positions lie in panels (channels, COLUMNS), as in
``flow_kernels``: those of a row of the batch in panels of their own, the last one padded. A product
takes some outputs of the weights as they are stored, expands them to float32 in a core's cache, and
multiplies all panels with them.

Dimensions: B rows, T new positions, L own positions, C width, D head width, U hidden units, P
panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import types

from . import lanewise
from .formats import Format
from .layer_parts import gelu, rotate, swiglu
from .parts import part
from .pieces import finish, take
from .products import LINE as CACHE_LINE
from .products import expand_rows
from .runtime import Kernel, kernel
from .tiles import COLUMNS, ROWS, multiply_ahead
from .transformer import ENTER, FIELDS, GATE, KEYS, LEAVE, NORM1, NORM2, OUT, QUERY, VALUES
from .words import address, apart, ask, entry, least, most, root

LINE = 4 * COLUMNS
"""Bytes of a row of a panel."""
PIECE = 32
"""Outputs of a piece of a product; the sizes of a model are multiples of it."""
PART = 1024
"""Inputs that are multiplied at a time: with the outputs of a head they fit a core's cache."""
LAST = 6
"""The stage behind those of the layers before the last."""
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
    weights, scales = entry(linear, 0), entry(linear, 1)
    biases, bias = entry(linear, 2), entry(linear, 3)
    row = inputs // format.span * format.span_bytes
    if bias != 0:
        bias += 4 * first
    if format.bits != 0:
        groups = inputs // format.span * format.float_bytes
        for line in range(after * groups, (after + outputs) * groups, CACHE_LINE):
            ask(scales + line)
            ask(biases + line)
    for start in range(0, inputs, PART):
        count = least(PART, inputs - start)
        if format.bits == 0 and format.float_bytes == 4:
            a, a_row = weights + first * row + 4 * start, row
        else:
            a, a_row = scratch, 4 * count
            expand_rows(format, linear, inputs, first, outputs, start, count, scratch)
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
def _attend(
    queries, keys, values, shared, own_keys, own_values, first, before, end, width, target, scores
):  # pyright: ignore
    """Attention of queries (D, COLUMNS), of the own position ``before`` and those after it.

    keys, values: of the positions before the row's own (..., D), all ``shared`` ones.
    own_keys, own_values: (L, D), of which those from ``first`` to ``end`` count.
    target: (D, COLUMNS).
    scores: room for (all positions + 3 * ROWS, COLUMNS). The buffers of the keys have room for a
        multiple of ROWS positions, which are read to the end of the last ROWS.
    """
    start, more = first // ROWS * ROWS, (shared + ROWS - 1) // ROWS * ROWS
    rows = (end - start + ROWS - 1) // ROWS * ROWS
    own = scores + more * LINE
    for side in range(2):
        place = keys if side == 0 else own_keys + 4 * start * width
        multiply_ahead(
            keys, 0, 0, place, 4 * width, 4, queries, LINE, width,
            0, 0, 0, scores if side == 0 else own, LINE, more if side == 0 else rows,
        )  # fmt: skip
    _hide(scores, shared, more)
    _hide(own, 0, first - start)
    for position in range(most(first, before + 1), end):
        for column in range(position - before):
            lanewise.put(own + (position - start) * LINE + 4 * column, MASKED)
    shares = own + rows * LINE
    scale = np.float32(1) / root(np.float32(width))
    lanewise.softmax(scores, more + end - start, scale, shares)
    for side in range(2):
        place = values if side == 0 else own_values + 4 * first * width
        multiply_ahead(
            keys, 0, 0, place, 4, 4 * width,
            scores if side == 0 else own + (first - start) * LINE, LINE,
            shared if side == 0 else end - first,
            0, target if side == 1 else 0, LINE, target, LINE, width,
        )  # fmt: skip
    lanewise.times_columns(target, width, shares)


@part
def _norm(at, column, x, width, eps, y):  # pyright: ignore
    """y (C, COLUMNS) = the norm of x at a column of the table's row."""
    weight, bias = entry(at, column), entry(at, column + 1)
    if bias != 0:
        lanewise.norm(x, width, weight, bias, eps, y)
    else:
        lanewise.rms_norm(x, width, weight, eps, y)


@part
def _scratch(head_dim, units):  # pyright: ignore
    """Floats of expanded weights, and of a scale and a bias for each group of at least 32."""
    return most(head_dim, PIECE) * (PART + units // 16)


@kernel()
def prompt(
    format, counters, base, layers, sizes, counts, spans, shared, angles, eps,
    x, normed, mixed, hidden, work,
):  # fmt: skip  # pyright: ignore
    """Take pieces until none is left; how many this thread computed.

    A layer's stages are a norm, by panels; attention, by heads; its projection, by outputs; the
    other norm; and the two products of the feed-forward network. Of the last layer only keys and
    values are computed, by heads: the rest is needed for the last position alone.

    Args:
        counters: shared by the threads; both stand at ``base`` before.
        layers: addresses, as of ``transformer.step``.
        sizes: C, number of heads, D, U, B, T, L, the room for them, the most positions of a row
            before its own, and the number of threads.
        counts: of :func:`piece_counts`.
        spans, shared: as ``spans`` and ``before`` of ``transformer.step``.
        angles: (P, D, COLUMNS), cosines then sines, by which queries and keys turn; (0, D, COLUMNS)
            turns none.
        x: (P, C, COLUMNS), the input, which becomes the input of the last layer.
        normed, mixed: (P, C, COLUMNS). hidden: (P, U, COLUMNS).
        work: floats of this thread alone, :func:`work_floats`.

    A thread returns when the last piece is taken, not when it is done.
    """
    size, count_of = address(sizes), address(counts)
    width, heads, head_dim, units = entry(size, 0), entry(size, 1), entry(size, 2), entry(size, 3)
    rows, time, length, room = entry(size, 4), entry(size, 5), entry(size, 6), entry(size, 7)
    threads = entry(size, 9)
    each = (time + COLUMNS - 1) // COLUMNS
    panels = rows * each
    table, span, shared_places = address(layers), address(spans), address(shared)
    in_x, in_normed, in_mixed = address(x), address(normed), address(mixed)
    in_hidden, all_turns, expanded = address(hidden), address(angles), address(work)
    counter, before_last, turning = address(counters), len(layers) - 1, len(angles) > 0
    of_layer = 2 * panels + heads + 2 * (width // PIECE) + units // PIECE
    narrow, wide, of_head = width * LINE, units * LINE, head_dim * LINE
    # This thread's own room, behind that for expanded weights.
    found = expanded + 4 * _scratch(head_dim, units)
    scores = found + panels * most(of_head, PIECE * LINE)
    computed, ready = 0, False
    while True:
        layer, stage, piece = take(
            counter, base, before_last, count_of, LAST, before_last * of_layer + heads
        )
        if stage < 0:
            break
        computed += 1
        at = table + 8 * FIELDS * layer
        if stage == 0 or stage == 3:
            place = piece * narrow
            _norm(at, NORM1 if stage == 0 else NORM2, in_x + place, width, eps, in_normed + place)
        elif stage == 1 or stage == LAST:
            if stage == LAST and not ready:
                # Each thread for itself: what another one has written there is the same.
                for place in range(0, panels * narrow, narrow):
                    _norm(at, NORM1, in_x + place, width, eps, in_normed + place)
                ready = True
            first = piece * head_dim
            for i in range(2, -1 if stage == 1 else 0, -1):
                # Of the next matrix no line is asked for, but of this one's next head.
                after = least(first + threads * head_dim, width - head_dim)
                _product(
                    format, at + 8 * (QUERY + 4 * i), width, first, head_dim, panels, in_normed,
                    narrow, False, found, of_head, expanded, after,
                )  # fmt: skip
                for panel in range(panels):
                    place = found + panel * of_head
                    if i < 2 and turning:
                        turns = all_turns + panel * of_head
                        rotate(place, turns, head_dim * COLUMNS)
                    if i > 0:
                        row, begun = panel // each, panel % each * COLUMNS
                        held = entry(at, KEYS if i == 1 else VALUES)
                        slot = (row * heads + piece) * room + length - time + begun
                        columns = least(COLUMNS, time - begun)
                        _keep(place, head_dim, columns, held + 4 * slot * head_dim)
            for panel in range(panels if stage == 1 else 0):
                row, before = panel // each, length - time + panel % each * COLUMNS
                slab = 4 * (row * heads + piece) * room * head_dim
                other = 4 * piece * entry(span, 3 * row + 2) * head_dim
                place = shared_places + 16 * (layer * rows + row)
                _attend(
                    found + panel * of_head, entry(place, 0) + other, entry(place, 1) + other,
                    entry(span, 3 * row + 1), entry(at, KEYS) + slab, entry(at, VALUES) + slab,
                    entry(span, 3 * row), before, least(length, before + COLUMNS), head_dim,
                    in_mixed + panel * narrow + piece * of_head, scores,
                )  # fmt: skip
        elif stage == 4:
            first = piece * PIECE
            after = least(first + threads * PIECE, units - PIECE)
            target = in_hidden + first * LINE
            _product(
                format, at + 8 * ENTER, width, first, PIECE, panels, in_normed, narrow,
                False, target, wide, expanded, after,
            )  # fmt: skip
            if entry(at, GATE) != 0:
                _product(
                    format, at + 8 * GATE, width, first, PIECE, panels, in_normed, narrow,
                    False, found, PIECE * LINE, expanded, after,
                )  # fmt: skip
            for panel in range(panels):
                place = target + panel * wide
                if entry(at, GATE) != 0:
                    swiglu(place, found + panel * PIECE * LINE, PIECE * COLUMNS)
                else:
                    gelu(place, 0, PIECE * COLUMNS)
        else:
            first = piece * PIECE
            after = least(first + threads * PIECE, width - PIECE)
            column, inputs, source, stride = OUT, width, in_mixed, narrow
            if stage == 5:
                column, inputs, source, stride = LEAVE, units, in_hidden, wide
            _product(
                format, at + 8 * column, inputs, first, PIECE, panels, source, stride,
                True, in_x + first * LINE, narrow, expanded, after,
            )  # fmt: skip
        finish(counter)
    return computed


def piece_counts(sizes: np.ndarray) -> np.ndarray:
    """How many pieces the stages of a layer have, and the last layer's keys and values."""
    width, heads, _, units, rows, time, *_ = map(int, sizes)
    panels = rows * -(-time // COLUMNS)
    products = (width // PIECE, units // PIECE)
    counts = (panels, heads, products[0], panels, products[1], products[0], heads)
    return np.array(counts, np.int64)


def work_floats(sizes: np.ndarray) -> int:
    """How many floats a thread needs for itself."""
    _, _, head_dim, units, rows, time, length, _, before, _ = map(int, sizes)
    panels = rows * -(-time // COLUMNS)
    scores = before + length + 3 * ROWS
    found = panels * max(head_dim, PIECE)
    expanded = max(head_dim, PIECE) * (PART + units // 16)
    return expanded + (found + scores) * COLUMNS


def wanted(format: Format) -> list[tuple[Kernel, Sequence[Any]]]:
    """The kernel for blocks of this format, with the types of its arguments."""
    integers, table = types.int64[::1], types.int64[:, ::1]
    panels, places = types.float32[:, :, ::1], types.int64[:, :, ::1]
    arguments: list[Any] = [format.numba_type, integers, types.int64, table]
    arguments += [
        *[integers] * 2,
        table,
        places,
        panels,
        types.float32,
        *[panels] * 4,
        types.float32[::1],
    ]
    return [(prompt, arguments)]
