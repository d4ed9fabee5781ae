"""Products of matrices for kernels, in tiles that fit the registers.

A tile is ``ROWS`` rows of the result by ``COLUMNS`` neighbouring columns, which are time. The left
factor, most often a weight, is read value by value where it lies, with any strides; the right one
and the result are vectors along the columns. Nothing is packed, and a convolution is a product
whose right factor is read again at a later column for each tap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils, types

from . import vectors as v
from .parts import part
from .words import apart, intrinsic

VECTORS = 3
ROWS = 8 if v.WIDTH == 16 else 4
"""With 3 vectors of columns, what 32 registers of AVX-512 or NEON hold, or 16 of AVX2."""
COLUMNS = VECTORS * v.WIDTH


def _generate(builder: Any, arguments: Sequence[Any], ahead: Callable[[Any], None]) -> None:
    """The code of one tile; ``ahead`` is called with the number of each step."""
    a, a_row, a_step, a_tap, b, b_step, b_tap, taps, count, *rest = arguments
    bias, added, added_row, c, c_row = rest
    sums = [[cgutils.alloca_once(builder, v.VECTOR) for _ in range(VECTORS)] for _ in range(ROWS)]
    for row in sums:
        for each in row:
            builder.store(v.filled(0), each)
    with builder.if_then(builder.icmp_signed("!=", bias, v.I64(0))):
        for i, row in enumerate(sums):
            value = v.repeated(builder, v.load(builder, v.at(builder, bias, 4 * i), v.FLOAT))
            for each in row:
                builder.store(value, each)
    lines = [builder.add(a, builder.mul(a_row, v.I64(i))) for i in range(ROWS)]
    with cgutils.for_range(builder, taps, intp=v.I64) as tap:
        line = builder.mul(tap.index, a_tap)
        right = builder.add(b, builder.mul(tap.index, b_tap))
        starts = [builder.add(each, line) for each in lines]
        with cgutils.for_range(builder, count, intp=v.I64) as step:
            ahead(step.index)
            offset = builder.mul(step.index, a_step)
            place = builder.add(right, builder.mul(step.index, b_step))
            columns = [
                v.load(builder, v.at(builder, place, 4 * v.WIDTH * j), v.VECTOR)
                for j in range(VECTORS)
            ]
            for start, row in zip(starts, sums, strict=True):
                value = v.load(builder, builder.add(start, offset), v.FLOAT)
                value = v.repeated(builder, value)
                for column, each in zip(columns, row, strict=True):
                    builder.store(v.fma(builder, value, column, builder.load(each)), each)
    with builder.if_then(builder.icmp_signed("!=", added, v.I64(0))):
        for i, row in enumerate(sums):
            line = builder.add(added, builder.mul(added_row, v.I64(i)))
            for j, each in enumerate(row):
                more = v.load(builder, v.at(builder, line, 4 * v.WIDTH * j), v.VECTOR)
                builder.store(builder.fadd(builder.load(each), more), each)
    for i, row in enumerate(sums):
        line = builder.add(c, builder.mul(c_row, v.I64(i)))
        for j, each in enumerate(row):
            v.store(builder, builder.load(each), v.at(builder, line, 4 * v.WIDTH * j))


@intrinsic
def tile(
    typing: Any,
    a: Any,
    a_row: Any,
    a_step: Any,
    a_tap: Any,
    b: Any,
    b_step: Any,
    b_tap: Any,
    taps: Any,
    count: Any,
    bias: Any,
    added: Any,
    added_row: Any,
    c: Any,
    c_row: Any,
) -> Any:
    """One tile of :func:`multiply`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _generate(builder, arguments, lambda step: None)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 14), generate


@intrinsic
def tile_ahead(
    typing: Any,
    ahead: Any,
    ahead_row: Any,
    ahead_step: Any,
    a: Any,
    a_row: Any,
    a_step: Any,
    b: Any,
    b_step: Any,
    count: Any,
    bias: Any,
    added: Any,
    added_row: Any,
    c: Any,
    c_row: Any,
) -> Any:
    """One tile of :func:`multiply_ahead`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, row, bytes, a, a_row, a_step, b, b_step, count, *rest = arguments
        turns = ROWS.bit_length() - 1

        def ahead(step: Any) -> None:
            place = builder.mul(builder.and_(step, v.I64(ROWS - 1)), row)
            column = builder.mul(builder.lshr(step, v.I64(turns)), bytes)
            v.prefetch(builder, builder.add(builder.add(first, place), column), near=False)

        none, once = v.I64(0), v.I64(1)
        factors = (a, a_row, a_step, none, b, b_step, none, once, count)
        _generate(builder, (*factors, *rest), ahead)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 14), generate


@part
def multiply(a, a_row, a_step, b, b_step, count, bias, added, added_row, c, c_row, rows):  # pyright: ignore
    """c (rows, COLUMNS) = a (rows, count) times b (count, COLUMNS), plus bias and ``added``.

    All are addresses, and bytes from one row or step to the next. ``bias`` (rows,) and ``added``
    (rows, COLUMNS), which may be c itself, are 0 where there is none. ``rows`` is a multiple of
    :data:`ROWS`.
    """
    for row in range(0, rows, ROWS):
        more = added + row * added_row if added != 0 else 0
        of_rows = bias + 4 * row if bias != 0 else 0
        tile(
            a + row * a_row, a_row, a_step, 0, b, b_step, 0, 1, count,
            of_rows, more, added_row, c + row * c_row, c_row,
        )  # fmt: skip


@part
def multiply_ahead(
    ahead, ahead_row, ahead_step, a, a_row, a_step, b, b_step, count, bias, added, added_row,
    c, c_row, rows,
):  # fmt: skip  # pyright: ignore
    """:func:`multiply`, which asks for what is needed next while it computes.

    That is as many rows at ``ahead``, ``ahead_row`` bytes apart, of ``ahead_step`` bytes for every
    ``ROWS`` of ``count``.
    """
    apart()
    for row in range(0, rows, ROWS):
        more = added + row * added_row if added != 0 else 0
        of_rows = bias + 4 * row if bias != 0 else 0
        tile_ahead(
            ahead + row * ahead_row, ahead_row, ahead_step, a + row * a_row, a_row, a_step,
            b, b_step, count, of_rows, more, added_row, c + row * c_row, c_row,
        )  # fmt: skip


@part
def multiply_parts(a, a_row, a_step, a_part, b, b_step, b_part, parts, count, c, c_row, rows):  # pyright: ignore
    """c (rows, COLUMNS): the sum of the products of ``parts`` pairs of factors."""
    for row in range(0, rows, ROWS):
        tile(
            a + row * a_row, a_row, a_step, a_part, b, b_step, b_part, parts, count,
            0, 0, 0, c + row * c_row, c_row,
        )  # fmt: skip


@part
def convolve(weight, bias, x, x_row, inputs, taps, dilation, added, added_row, c, c_row, rows):  # pyright: ignore
    """c (rows, COLUMNS): a convolution of x (inputs, time), whose first column is the first tap's.

    ``weight`` is (rows, taps, inputs), ``bias`` (rows,), or 0 where there is none.
    """
    for row in range(0, rows, ROWS):
        more = added + row * added_row if added != 0 else 0
        of_rows = bias + 4 * row if bias != 0 else 0
        tile(
            weight + row * 4 * taps * inputs, 4 * taps * inputs, 4, 4 * inputs,
            x, x_row, 4 * dilation, taps, inputs,
            of_rows, more, added_row, c + row * c_row, c_row,
        )  # fmt: skip
