"""One position of GPT-2 for a few rows: all layers and the head in one call of each thread.

The work of a step is cut into pieces: a head's attention, or some outputs of a product. Threads
take the next piece from a shared counter, and a piece starts once all pieces of the stages before
it are done. A thread that the system has put aside holds up one piece at most, and one that comes
late joins where the others are. A piece is computed in the same way by any thread, so that the
result does not depend on how many there are.

Dimensions: B rows, C width, D head width, U hidden units, V outputs of the head, L positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from .formats import Format
from .products import expand, multiply, ordered
from .runtime import kernel
from .words import (
    WIDTH,
    add,
    address,
    count_shared,
    divide,
    exp,
    filled,
    fma,
    give_way,
    larger,
    largest,
    load,
    load_one,
    part,
    pause,
    read_shared,
    store,
    subtract,
    take_shared,
    times,
    total,
)

NORM1, QKV, QKV_BIAS, OUT, OUT_BIAS, NORM2, FC, FC_BIAS, PROJ, PROJ_BIAS, KEYS, VALUES = (
    0, 2, 5, 6, 9, 10, 12, 15, 16, 19, 20, 21
)  # fmt: skip
"""Columns of the table of layers: addresses. A norm has two, a matrix three."""
FIELDS = 22
TAKEN, DONE, COUNTERS = 0, 16, 32
"""The shared counters, on a cache line each."""
OUT_PIECE, FC_PIECE, PROJ_PIECE, HEAD_PIECE, UNIT = 64, 128, 32, 128, 16
"""Outputs of a piece, about; pieces start at a multiple of ``UNIT``."""
SPINS = 4000
"""Turns of waiting before a thread offers its core to others."""
STEP = 4 * WIDTH
"""Bytes of a vector."""


@part
def _pieces(outputs, size):  # pyright: ignore
    return max(1, outputs // size)


@part
def _start(outputs, pieces, index):  # pyright: ignore
    """The first output of a piece."""
    return outputs if index == pieces else outputs // UNIT * index // pieces * UNIT


@part
def _norm(format, x, weight, eps, count, y, spare):  # pyright: ignore
    """y = the norm of ``count`` values at x, in the order of the format."""
    bias = weight[1]
    sums = filled(np.float32(0))
    for i in range(0, 4 * count, STEP):
        sums = add(sums, load(x + i))
    mean = filled(total(sums) / np.float32(count))
    squares = filled(np.float32(0))
    for i in range(0, 4 * count, STEP):
        centred = subtract(load(x + i), mean)
        squares = fma(centred, centred, squares)
    spread = np.sqrt(total(squares) / np.float32(count) + eps)
    scale = filled(np.float32(1) / spread)
    target = spare if format.bits == 4 else y
    for i in range(0, 4 * count, STEP):
        centred = times(subtract(load(x + i), mean), scale)
        store(fma(centred, load(weight[0] + i), load(bias + i)), target + i)
    if format.bits == 4:
        ordered(format, spare, y, count)


@part
def _attend(q, keys, values, first, length, width, y, scores):  # pyright: ignore
    """y (D,) = attention of q (D,) to positions ``first`` to ``length`` of keys and values (L, D).

    ``scores`` has room for L + WIDTH values; a row of q is scaled already.
    """
    row, count = 4 * width, length - first
    keys, values = keys + first * row, values + first * row
    for position in range(count):
        key = keys + position * row
        sums = times(load(q), load(key))
        for i in range(STEP, row, STEP):
            sums = fma(load(q + i), load(key + i), sums)
        store(total(sums), scores + 4 * position)
    end = scores + 4 * count
    for i in range(WIDTH):
        store(np.float32(-1e30), end + 4 * i)
    highest = load(scores)
    for i in range(STEP, 4 * count, STEP):
        highest = larger(load(scores + i), highest)
    most = filled(largest(highest))
    sums = filled(np.float32(0))
    for i in range(0, 4 * count, STEP):
        weight = exp(subtract(load(scores + i), most))
        store(weight, scores + i)
        sums = add(sums, weight)
    share = filled(np.float32(1) / total(sums))
    for i in range(0, row, 4 * STEP):
        a, b, c, d = (
            filled(np.float32(0)),
            filled(np.float32(0)),
            filled(np.float32(0)),
            filled(np.float32(0)),
        )
        for position in range(count):
            weight = filled(load_one(scores + 4 * position))
            value = values + position * row + i
            a = fma(weight, load(value), a)
            b = fma(weight, load(value + STEP), b)
            c = fma(weight, load(value + 2 * STEP), c)
            d = fma(weight, load(value + 3 * STEP), d)
        store(times(a, share), y + i)
        store(times(b, share), y + i + STEP)
        store(times(c, share), y + i + 2 * STEP)
        store(times(d, share), y + i + 3 * STEP)


@part
def _gelu(x, bias, count):  # pyright: ignore
    """The tanh form of GELU of ``count`` values at x plus those at ``bias``, in place."""
    one = filled(np.float32(1))
    # x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x ** 3).
    slope, cubic = filled(np.float32(-1.5957691216057308)), filled(np.float32(-0.07135481282553))
    for i in range(0, 4 * count, STEP):
        value = add(load(x + i), load(bias + i))
        u = times(fma(times(value, value), cubic, slope), value)
        store(divide(value, add(one, exp(u))), x + i)


@kernel()
def step(
    format, head_format, counters, base, layers, head, sizes, padding, eps,
    x, mixed, middle, hidden, logits, work,
):  # fmt: skip  # pyright: ignore
    """Take pieces of a step until none is left; how many this thread computed.

    Args:
        counters: shared by the threads; both stand at ``base`` before the step.
        layers, head: addresses; the head's are norm, matrix.
        sizes: C, number of heads, D, U, V, B, L with the new position, and room in the cache.
        padding: (B,), masked positions of each row.
        x: (B, C), the input, which is overwritten. mixed, middle: (B, C). hidden: (B, U).
            logits: (B, V), without bias. Of several rows each has room for a multiple of four.
        work: floats of this thread alone, :func:`work_floats`.

    A thread returns when the last piece is taken, not when it is done.
    """
    width, heads, head_dim, units = sizes[0], sizes[1], sizes[2], sizes[3]
    vocabulary, rows, length, room = sizes[4], sizes[5], sizes[6], sizes[7]
    of_out, of_fc = _pieces(width, OUT_PIECE), _pieces(units, FC_PIECE)
    of_proj, of_head = _pieces(width, PROJ_PIECE), _pieces(vocabulary, HEAD_PIECE)
    of_layer = heads + of_out + of_fc + of_proj
    in_layers = len(layers) * of_layer
    pieces = in_layers + of_head
    taken, done = address(counters) + 8 * TAKEN, address(counters) + 8 * DONE
    row = 4 * width
    rows_kept = rows if rows == 1 else (rows + 3) // 4 * 4
    # This thread's own room.
    prepared_at = address(work)
    spare = prepared_at + 4 * rows_kept * units
    qkv = spare + 4 * units
    scores = qkv + 3 * rows_kept * 4 * head_dim
    scratch = work[(scores - prepared_at) // 4 + room + WIDTH :]
    in_x, in_mixed, in_middle = address(x), address(mixed), address(middle)
    in_hidden = address(hidden)
    scale = np.float32(1) / np.sqrt(np.float32(head_dim))
    prepared, computed, spins = np.int64(-1), 0, 0
    while True:
        index = read_shared(taken) - base
        if index >= pieces:
            break
        layer = index // of_layer
        piece = index - layer * of_layer
        stage = 0
        if index >= in_layers:
            layer, piece, stage = np.int64(len(layers)), index - in_layers, 4
        elif piece >= heads + of_out + of_fc:
            piece, stage = piece - heads - of_out - of_fc, 3
        elif piece >= heads + of_out:
            piece, stage = piece - heads - of_out, 2
        elif piece >= heads:
            piece, stage = piece - heads, 1
        if read_shared(done) - base < index - piece:
            spins += 1
            if spins > SPINS:
                give_way()
            else:
                pause()
            continue
        if not take_shared(taken, base + index):
            continue
        spins = 0
        computed += 1
        new = prepared != 5 * layer + stage
        prepared = 5 * layer + stage
        if stage == 0:
            at = layers[layer]
            if new:
                for i in range(rows):
                    norm = (at[NORM1], at[NORM1 + 1])
                    _norm(format, in_x + i * row, norm, eps, width, prepared_at + i * row, spare)
            first = piece * head_dim
            for i in range(3):
                matrix = (at[QKV], at[QKV + 1], at[QKV + 2])
                start = i * width + first
                found = qkv + 4 * i * rows_kept * head_dim
                multiply(
                    format, matrix, width, start, head_dim, rows,
                    prepared_at, row, found, 4 * head_dim, scratch,
                )  # fmt: skip
                bias = at[QKV_BIAS] + 4 * start
                factor = filled(scale if i == 0 else np.float32(1))
                for j in range(rows):
                    for k in range(0, 4 * head_dim, STEP):
                        value = times(add(load(found + k), load(bias + k)), factor)
                        target = found + k
                        if i > 0:
                            held = at[KEYS] if i == 1 else at[VALUES]
                            slot = (j * heads + piece) * room + length - 1
                            target = held + 4 * slot * head_dim + k
                        store(value, target)
                    found += 4 * head_dim
            for i in range(rows):
                slab = 4 * (i * heads + piece) * room * head_dim
                _attend(
                    qkv + 4 * i * head_dim, at[KEYS] + slab, at[VALUES] + slab, padding[i],
                    length, head_dim, in_mixed + i * row + 4 * first, scores,
                )  # fmt: skip
        elif stage == 1 or stage == 3:
            at = layers[layer]
            if stage == 1:
                inputs, source, matrix = width, in_mixed, (at[OUT], at[OUT + 1], at[OUT + 2])
                count, base_at, target, bias = of_out, in_x, in_middle, at[OUT_BIAS]
            else:
                inputs, source, matrix = units, in_hidden, (at[PROJ], at[PROJ + 1], at[PROJ + 2])
                count, base_at, target, bias = of_proj, in_middle, in_x, at[PROJ_BIAS]
            if format.bits == 4:
                if new:
                    for i in range(rows):
                        offset = 4 * i * inputs
                        ordered(format, source + offset, prepared_at + offset, inputs)
                source = prepared_at
            first, end = _start(width, count, piece), _start(width, count, piece + 1)
            multiply(
                format, matrix, inputs, first, end - first, rows,
                source, 4 * inputs, target + 4 * first, row, scratch,
            )  # fmt: skip
            for i in range(rows):
                for k in range(4 * first, 4 * end, STEP):
                    value = add(load(base_at + i * row + k), load(bias + k))
                    store(add(value, load(target + i * row + k)), target + i * row + k)
        elif stage == 2:
            at = layers[layer]
            if new:
                for i in range(rows):
                    norm = (at[NORM2], at[NORM2 + 1])
                    _norm(
                        format, in_middle + i * row, norm, eps, width, prepared_at + i * row, spare
                    )
            first, end = _start(units, of_fc, piece), _start(units, of_fc, piece + 1)
            matrix = (at[FC], at[FC + 1], at[FC + 2])
            multiply(
                format, matrix, width, first, end - first, rows,
                prepared_at, row, in_hidden + 4 * first, 4 * units, scratch,
            )  # fmt: skip
            for i in range(rows):
                _gelu(in_hidden + 4 * (i * units + first), at[FC_BIAS] + 4 * first, end - first)
        else:
            if new:
                for i in range(rows):
                    norm = (head[0], head[1])
                    _norm(
                        head_format, in_x + i * row, norm, eps, width, prepared_at + i * row, spare
                    )
            first, end = _start(vocabulary, of_head, piece), _start(vocabulary, of_head, piece + 1)
            multiply(
                head_format, (head[2], head[3], head[4]), width, first, end - first, rows,
                prepared_at, row, address(logits) + 4 * first, 4 * vocabulary, scratch,
            )  # fmt: skip
        count_shared(done)
    return computed


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


def piece_count(layers: int, sizes: np.ndarray) -> int:
    """How many pieces a step has."""
    width, heads, _, units, vocabulary = map(int, sizes[:5])
    pieces: Callable[[int, int], int] = lambda outputs, size: max(1, outputs // size)  # noqa: E731
    of_layer = heads + pieces(width, OUT_PIECE) + pieces(units, FC_PIECE)
    return layers * (of_layer + pieces(width, PROJ_PIECE)) + pieces(vocabulary, HEAD_PIECE)


def work_floats(sizes: np.ndarray) -> int:
    """How many floats a thread needs for itself."""
    width, _, head_dim, units, _, rows, _, room = map(int, sizes)
    kept = -(-rows // 4) * 4
    # A scale and a bias for each group, of which the smallest has 32 weights.
    piece = max(3 * head_dim, 2 * OUT_PIECE, 2 * FC_PIECE, 2 * HEAD_PIECE) * width
    scales = 2 * max(piece, 2 * PROJ_PIECE * units) // 32
    return (kept + 1) * units + 3 * kept * head_dim + room + WIDTH + scales


def compile_step(format: Format, head_format: Format) -> None:
    """Compile what a step and a prompt need of these formats, or read it from the cache."""
    integers, floats = types.int64[::1], types.float32[:, ::1]
    arguments: list[Any] = [format.numba_type, head_format.numba_type, integers, types.int64]
    arguments += [types.int64[:, ::1], integers, integers, integers, types.float32]
    step.compile(*arguments, *[floats] * 5, types.float32[::1])
    wait.compile(integers, types.int64)
    if format.bits:
        places = types.UniTuple(types.int64, 3)
        expand.compile(format.numba_type, places, *[types.int64] * 3, floats)
