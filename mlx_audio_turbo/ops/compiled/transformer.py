"""One position of a transformer for a few rows: all layers and the head in one call of each thread.

The transformer is a GPT-2 or a Llama. What one of the two lacks has the address 0: a Llama has no
biases, and its norms, without one, are RMS norms; a GPT-2 has no gate beside its hidden units, and
no angles by which queries and keys turn.

Dimensions: B rows, C width, D head width, U hidden units, V outputs of the head, L positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import types

from . import pieces
from .attention import attend
from .formats import Format
from .layer_parts import added, copied, gelu, norm, rotate, scaled, swiglu
from .pieces import finish, pieces_of, start_of, take
from .products import multiply, ordered
from .runtime import Kernel, kernel
from .words import WIDTH, address, entry, most, root

NORM1, QUERY, KEY, VALUE, OUT, NORM2, ENTER, GATE, LEAVE, KEYS, VALUES = (
    0, 2, 6, 10, 14, 18, 20, 24, 28, 32, 33
)  # fmt: skip
"""Columns of the table of layers: addresses. A norm has two, a linear layer four: its matrix's
three and its bias."""
FIELDS = 34
OUT_PIECE, ENTER_PIECE, LEAVE_PIECE, HEAD_PIECE = 64, 128, 32, 128
"""Outputs of a piece, about."""


@kernel()
def step(
    format, head_format, counters, base, layers, head, sizes, counts, spans, before,
    angles, eps, x, mixed, middle, hidden, logits, work,
):  # fmt: skip  # pyright: ignore
    """Take pieces of a step until none is left; how many this thread computed.

    Args:
        counters: shared by the threads; both stand at ``base`` before the step.
        layers, head: addresses; the head's are norm, matrix.
        sizes: C, number of heads, D, U, V, B; own positions with the new one, the room for them,
            and the most positions of a row before its own.
        counts: of :func:`piece_counts`.
        spans: (B, 3), of each row the masked ones of its own positions, its positions before them,
            and the room of their buffer.
        before: (layers, B, 2), the addresses of keys and values before the row's own.
        angles: (B, D), cosines then sines, by which queries and keys turn; (0, D) turns none.
        x: (B, C), the input, which is overwritten. mixed, middle: (B, C). hidden: (B, U).
            logits: (B, V), without bias. Of several rows each has room for a multiple of four.
        work: floats of this thread alone, :func:`work_floats`.

    A thread returns when the last piece is taken, not when it is done.
    """
    size, count_of = address(sizes), address(counts)
    width, heads, head_dim, units = entry(size, 0), entry(size, 1), entry(size, 2), entry(size, 3)
    vocabulary, rows, length = entry(size, 4), entry(size, 5), entry(size, 6)
    room, largest = entry(size, 7), entry(size, 8)
    of_out, of_enter = entry(count_of, 1), entry(count_of, 2)
    of_leave, of_head = entry(count_of, 3), entry(count_of, 4)
    row = 4 * width
    rows_kept = rows if rows == 1 else (rows + 3) // 4 * 4
    pairs, head_pairs = format.bits == 4, head_format.bits == 4
    # This thread's own room.
    prepared_at = address(work)
    spare = prepared_at + 4 * rows_kept * units
    found = spare + 4 * units
    scores = found + 4 * rows_kept * most(3 * head_dim, 2 * ENTER_PIECE)
    scratch = scores + 4 * (largest + room + WIDTH)
    table, of_heads = address(layers), address(head)
    span, shared_places = address(spans), address(before)
    in_x, in_mixed, in_middle = address(x), address(mixed), address(middle)
    in_hidden, in_logits, turns = address(hidden), address(logits), address(angles)
    shared, layer_count, turning = address(counters), len(layers), len(angles) > 0
    piece_total = layer_count * (heads + of_out + of_enter + of_leave) + of_head
    scale = np.float32(1) / root(np.float32(head_dim))
    prepared, computed = np.int64(-1), 0
    while True:
        layer, stage, piece = take(shared, base, layer_count, count_of, 4, piece_total)
        if stage < 0:
            break
        computed += 1
        new = prepared != 5 * layer + stage
        prepared = 5 * layer + stage
        if stage == 0:
            at = table + 8 * FIELDS * layer
            if new:
                for i in range(rows):
                    norm(
                        pairs, in_x + i * row, at + 8 * NORM1, eps, width,
                        prepared_at + i * row, spare,
                    )  # fmt: skip
            first = piece * head_dim
            for i in range(3):
                column = QUERY + 4 * i
                y = found + 4 * i * rows_kept * head_dim
                multiply(
                    format, at + 8 * column, width, first, head_dim,
                    rows, prepared_at, row, y, 4 * head_dim, scratch,
                )  # fmt: skip
                bias = entry(at, column + 3)
                if bias != 0:
                    bias += 4 * first
                for j in range(rows):
                    scaled(y, bias, scale if i == 0 else np.float32(1), head_dim, y)
                    if i < 2 and turning:
                        rotate(y, turns + 4 * j * head_dim, head_dim)
                    if i > 0:
                        slot = (j * heads + piece) * room + length - 1
                        held = entry(at, KEYS if i == 1 else VALUES)
                        copied(y, head_dim, held + 4 * slot * head_dim)
                    y += 4 * head_dim
            for i in range(rows):
                masked, others = entry(span, 3 * i), entry(span, 3 * i + 1)
                slab = 4 * ((i * heads + piece) * room + masked) * head_dim
                other = 4 * piece * entry(span, 3 * i + 2) * head_dim
                place = shared_places + 16 * (layer * rows + i)
                attend(
                    found + 4 * i * head_dim, entry(place, 0) + other, entry(place, 1) + other,
                    others, entry(at, KEYS) + slab, entry(at, VALUES) + slab, length - masked,
                    head_dim, in_mixed + i * row + 4 * first, scores,
                )  # fmt: skip
        elif stage == 1 or stage == 3:
            at = table + 8 * FIELDS * layer
            if stage == 1:
                column, inputs, source = OUT, width, in_mixed
                count, base_at, target = of_out, in_x, in_middle
            else:
                column, inputs, source = LEAVE, units, in_hidden
                count, base_at, target = of_leave, in_middle, in_x
            if pairs:
                if new:
                    for i in range(rows):
                        offset = 4 * i * inputs
                        ordered(True, source + offset, prepared_at + offset, inputs)
                source = prepared_at
            first, end = start_of(width, count, piece), start_of(width, count, piece + 1)
            multiply(
                format, at + 8 * column, inputs, first, end - first,
                rows, source, 4 * inputs, target + 4 * first, row, scratch,
            )  # fmt: skip
            bias = entry(at, column + 3)
            if bias != 0:
                bias += 4 * first
            for i in range(rows):
                place = i * row + 4 * first
                added(base_at + place, bias, end - first, target + place)
        elif stage == 2:
            at = table + 8 * FIELDS * layer
            if new:
                for i in range(rows):
                    norm(
                        pairs, in_middle + i * row, at + 8 * NORM2, eps, width,
                        prepared_at + i * row, spare,
                    )  # fmt: skip
            first, end = start_of(units, of_enter, piece), start_of(units, of_enter, piece + 1)
            count = end - first
            multiply(
                format, at + 8 * ENTER, width, first, count, rows,
                prepared_at, row, in_hidden + 4 * first, 4 * units, scratch,
            )  # fmt: skip
            if entry(at, GATE) != 0:
                multiply(
                    format, at + 8 * GATE, width, first, count, rows,
                    prepared_at, row, found, 4 * count, scratch,
                )  # fmt: skip
            for i in range(rows):
                y = in_hidden + 4 * (i * units + first)
                if entry(at, GATE) != 0:
                    swiglu(y, found + 4 * i * count, count)
                else:
                    gelu(y, entry(at, ENTER + 3) + 4 * first, count)
        else:
            if new:
                for i in range(rows):
                    norm(
                        head_pairs, in_x + i * row, of_heads, eps, width,
                        prepared_at + i * row, spare,
                    )  # fmt: skip
            first = start_of(vocabulary, of_head, piece)
            end = start_of(vocabulary, of_head, piece + 1)
            multiply(
                head_format, of_heads + 16, width, first, end - first, rows,
                prepared_at, row, in_logits + 4 * first, 4 * vocabulary, scratch,
            )  # fmt: skip
        finish(shared)
    return computed


def piece_counts(sizes: Sequence[int]) -> np.ndarray:
    """How many pieces the stages of a layer have, and the head."""
    width, heads, _, units, vocabulary, *_ = sizes
    products = ((width, OUT_PIECE), (units, ENTER_PIECE), (width, LEAVE_PIECE))
    products += ((vocabulary, HEAD_PIECE),)
    return np.array([heads, *(pieces_of(*each) for each in products)], np.int64)


def work_floats(sizes: Sequence[int]) -> int:
    """How many floats a thread needs for itself."""
    width, _, head_dim, units, _, rows, _, room, before = sizes
    kept = -(-rows // 4) * 4
    # A scale and a bias for each group, of which the smallest has 32 weights.
    piece = max(3 * head_dim, 2 * OUT_PIECE, 2 * ENTER_PIECE, 2 * HEAD_PIECE) * width
    scales = 2 * max(piece, 2 * LEAVE_PIECE * units) // 32
    found = kept * max(3 * head_dim, 2 * ENTER_PIECE)
    return (kept + 1) * units + found + before + room + WIDTH + scales


def wanted(format: Format, head_format: Format) -> list[tuple[Kernel, Sequence[Any]]]:
    """The kernels of a step, with the types of their arguments."""
    integers, table, floats = types.int64[::1], types.int64[:, ::1], types.float32[:, ::1]
    arguments: list[Any] = [format.numba_type, head_format.numba_type, integers, types.int64]
    arguments += [table, *[integers] * 3, table, types.int64[:, :, ::1], floats, types.float32]
    arguments += [*[floats] * 5, types.float32[::1]]
    return [(step, arguments), *pieces.wanted()]
