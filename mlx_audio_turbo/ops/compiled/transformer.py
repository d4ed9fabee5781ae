"""One position of a transformer for a few rows: all layers and the head in one call of each thread.

The transformer is a GPT-2 or a Llama. What one of the two lacks has the address 0: a Llama has no
biases, and its norms, without one, are RMS norms; a GPT-2 has no gate beside its hidden units, and
no angles by which queries and keys turn.

The first positions of a row may lie in a buffer that rows share, apart from those behind them.

Dimensions: B rows, C width, D head width, U hidden units, V outputs of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba.core import types

from .formats import Format
from .layer_parts import added, attend, copied, gelu, norm, rotate, scaled, swiglu
from .pieces import finish, pieces_of, start_of, take, wait
from .products import multiply, ordered
from .runtime import kernel
from .words import WIDTH, address

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
    format, head_format, counters, base, layers, head, sizes, spans, before, angles, eps,
    x, mixed, middle, hidden, logits, work,
):  # fmt: skip  # pyright: ignore
    """Take pieces of a step until none is left; how many this thread computed.

    Args:
        counters: shared by the threads; both stand at ``base`` before the step.
        layers, head: addresses; the head's are norm, matrix.
        sizes: C, number of heads, D, U, V, B; own positions with the new one, the room for them,
            and the most positions of a row before its own.
        spans: (B, 3), of each row the masked ones of its own positions, its positions before them,
            and the room of their buffer.
        before: (layers, B, 2), the addresses of keys and values before the row's own.
        angles: (B, D), cosines then sines, by which queries and keys turn; (0, D) turns none.
        x: (B, C), the input, which is overwritten. mixed, middle: (B, C). hidden: (B, U).
            logits: (B, V), without bias. Of several rows each has room for a multiple of four.
        work: floats of this thread alone, :func:`work_floats`.

    A thread returns when the last piece is taken, not when it is done.
    """
    width, heads, head_dim, units = sizes[0], sizes[1], sizes[2], sizes[3]
    vocabulary, rows, length, room, most = sizes[4], sizes[5], sizes[6], sizes[7], sizes[8]
    of_out, of_enter = pieces_of(width, OUT_PIECE), pieces_of(units, ENTER_PIECE)
    of_leave, of_head = pieces_of(width, LEAVE_PIECE), pieces_of(vocabulary, HEAD_PIECE)
    row = 4 * width
    rows_kept = rows if rows == 1 else (rows + 3) // 4 * 4
    # This thread's own room.
    prepared_at = address(work)
    spare = prepared_at + 4 * rows_kept * units
    found = spare + 4 * units
    scores = found + 4 * rows_kept * max(3 * head_dim, 2 * ENTER_PIECE)
    scratch = work[(scores - prepared_at) // 4 + most + room + WIDTH :]
    in_x, in_mixed, in_middle = address(x), address(mixed), address(middle)
    in_hidden = address(hidden)
    scale = np.float32(1) / np.sqrt(np.float32(head_dim))
    prepared, computed = np.int64(-1), 0
    while True:
        layer, stage, piece = take(
            counters, base, len(layers), (heads, of_out, of_enter, of_leave), of_head
        )
        if stage < 0:
            break
        computed += 1
        new = prepared != 5 * layer + stage
        prepared = 5 * layer + stage
        if stage == 0:
            at = layers[layer]
            if new:
                for i in range(rows):
                    norm(
                        format, in_x + i * row, at[NORM1], at[NORM1 + 1], eps, width,
                        prepared_at + i * row, spare,
                    )  # fmt: skip
            first = piece * head_dim
            for i in range(3):
                column = QUERY + 4 * i
                y = found + 4 * i * rows_kept * head_dim
                multiply(
                    format, (at[column], at[column + 1], at[column + 2]), width, first, head_dim,
                    rows, prepared_at, row, y, 4 * head_dim, scratch,
                )  # fmt: skip
                bias = at[column + 3]
                if bias != 0:
                    bias += 4 * first
                for j in range(rows):
                    scaled(y, bias, scale if i == 0 else np.float32(1), head_dim, y)
                    if i < 2 and len(angles) > 0:
                        rotate(y, address(angles) + 4 * j * head_dim, head_dim)
                    if i > 0:
                        slot = (j * heads + piece) * room + length - 1
                        held = at[KEYS] if i == 1 else at[VALUES]
                        copied(y, head_dim, held + 4 * slot * head_dim)
                    y += 4 * head_dim
            for i in range(rows):
                slab = 4 * ((i * heads + piece) * room + spans[i, 0]) * head_dim
                shared = 4 * piece * spans[i, 2] * head_dim
                attend(
                    found + 4 * i * head_dim, (before[layer, i, 0] + shared, at[KEYS] + slab),
                    (before[layer, i, 1] + shared, at[VALUES] + slab),
                    (spans[i, 1], length - spans[i, 0]), head_dim,
                    in_mixed + i * row + 4 * first, scores,
                )  # fmt: skip
        elif stage == 1 or stage == 3:
            at = layers[layer]
            if stage == 1:
                column, inputs, source = OUT, width, in_mixed
                count, base_at, target = of_out, in_x, in_middle
            else:
                column, inputs, source = LEAVE, units, in_hidden
                count, base_at, target = of_leave, in_middle, in_x
            if format.bits == 4:
                if new:
                    for i in range(rows):
                        offset = 4 * i * inputs
                        ordered(format, source + offset, prepared_at + offset, inputs)
                source = prepared_at
            first, end = start_of(width, count, piece), start_of(width, count, piece + 1)
            multiply(
                format, (at[column], at[column + 1], at[column + 2]), inputs, first, end - first,
                rows, source, 4 * inputs, target + 4 * first, row, scratch,
            )  # fmt: skip
            bias = at[column + 3]
            if bias != 0:
                bias += 4 * first
            for i in range(rows):
                place = i * row + 4 * first
                added(base_at + place, bias, end - first, target + place)
        elif stage == 2:
            at = layers[layer]
            if new:
                for i in range(rows):
                    norm(
                        format, in_middle + i * row, at[NORM2], at[NORM2 + 1], eps, width,
                        prepared_at + i * row, spare,
                    )  # fmt: skip
            first, end = start_of(units, of_enter, piece), start_of(units, of_enter, piece + 1)
            count = end - first
            multiply(
                format, (at[ENTER], at[ENTER + 1], at[ENTER + 2]), width, first, count, rows,
                prepared_at, row, in_hidden + 4 * first, 4 * units, scratch,
            )  # fmt: skip
            if at[GATE] != 0:
                multiply(
                    format, (at[GATE], at[GATE + 1], at[GATE + 2]), width, first, count, rows,
                    prepared_at, row, found, 4 * count, scratch,
                )  # fmt: skip
            for i in range(rows):
                y = in_hidden + 4 * (i * units + first)
                if at[GATE] != 0:
                    swiglu(y, found + 4 * i * count, count)
                else:
                    gelu(y, at[ENTER + 3] + 4 * first, count)
        else:
            if new:
                for i in range(rows):
                    norm(
                        head_format, in_x + i * row, head[0], head[1], eps, width,
                        prepared_at + i * row, spare,
                    )  # fmt: skip
            first = start_of(vocabulary, of_head, piece)
            end = start_of(vocabulary, of_head, piece + 1)
            multiply(
                head_format, (head[2], head[3], head[4]), width, first, end - first, rows,
                prepared_at, row, address(logits) + 4 * first, 4 * vocabulary, scratch,
            )  # fmt: skip
        finish(counters)
    return computed


def piece_count(layers: int, sizes: Sequence[int]) -> int:
    """How many pieces a step has."""
    width, heads, _, units, vocabulary, *_ = sizes
    pieces: Callable[[int, int], int] = lambda outputs, size: max(1, outputs // size)  # noqa: E731
    of_layer = heads + pieces(width, OUT_PIECE) + pieces(units, ENTER_PIECE)
    return layers * (of_layer + pieces(width, LEAVE_PIECE)) + pieces(vocabulary, HEAD_PIECE)


def work_floats(sizes: Sequence[int]) -> int:
    """How many floats a thread needs for itself."""
    width, _, head_dim, units, _, rows, _, room, before = sizes
    kept = -(-rows // 4) * 4
    # A scale and a bias for each group, of which the smallest has 32 weights.
    piece = max(3 * head_dim, 2 * OUT_PIECE, 2 * ENTER_PIECE, 2 * HEAD_PIECE) * width
    scales = 2 * max(piece, 2 * LEAVE_PIECE * units) // 32
    found = kept * max(3 * head_dim, 2 * ENTER_PIECE)
    return (kept + 1) * units + found + before + room + WIDTH + scales


def compile_step(format: Format, head_format: Format) -> None:
    """Compile what a step needs of these formats, or read it from the cache."""
    integers, table, floats = types.int64[::1], types.int64[:, ::1], types.float32[:, ::1]
    arguments: list[Any] = [format.numba_type, head_format.numba_type, integers, types.int64]
    arguments += [table, integers, integers, table, types.int64[:, :, ::1], floats, types.float32]
    step.compile(*arguments, *[floats] * 5, types.float32[::1])
    wait.compile(integers, types.int64)
