"""Attention of one query, for kernels, in LLVM's language. Arguments are addresses and counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types

from . import vectors as v
from .loops import STEP, each_step, each_vector, nothing, variable, vector_at
from .parts import part
from .words import WIDTH, intrinsic


@intrinsic
def _scores(typing: Any, q: Any, keys: Any, count: Any, row: Any, scores: Any) -> Any:
    """The products of q with ``count`` keys of ``row`` bytes.

    Each is added up like one ``fma`` after another, and the total of these.
    """

    def generate(builder: Any, q: Any, keys: Any, count: Any, row: Any, scores: Any) -> None:
        def products(position: Any, number: int) -> list[Any]:
            first = builder.add(keys, builder.mul(position, row))
            places = [builder.add(first, builder.mul(row, v.I64(i))) for i in range(number)]
            sums = [variable(builder) for _ in places]
            with each_step(builder, v.I64(0), row, STEP) as i:
                left = vector_at(builder, q, i)
                for each, place in zip(sums, places, strict=True):
                    more = v.fma(builder, left, vector_at(builder, place, i), builder.load(each))
                    builder.store(more, each)
            return [builder.load(each) for each in sums]

        def place(position: Any) -> Any:
            return builder.add(scores, builder.mul(position, v.I64(4)))

        whole = builder.and_(count, v.I64(-WIDTH))
        with each_step(builder, v.I64(0), whole, WIDTH) as position:
            v.store(builder, v.totals(builder, products(position, WIDTH)), place(position))
        with each_step(builder, whole, count, 1) as position:
            v.store(builder, v.total(builder, products(position, 1)[0]), place(position))

    return types.void(*[types.int64] * 5), nothing(generate)


@intrinsic
def _shares(typing: Any, scores: Any, count: Any) -> Any:
    """exp(score - the highest) in place, and the sum of them; WIDTH values behind are lost."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scores, count = arguments
        end = builder.mul(count, v.I64(4))
        v.store(builder, v.filled(-1e30), builder.add(scores, end))
        highest = variable(builder, vector_at(builder, scores, v.I64(0)))
        with each_step(builder, v.I64(STEP), end, STEP) as i:
            higher = v.larger(builder, vector_at(builder, scores, i), builder.load(highest))
            builder.store(higher, highest)
        most = v.repeated(builder, v.folded(builder, builder.load(highest), v.larger))
        sums = variable(builder)
        with each_vector(builder, count) as i:
            weight = v.exp(builder, builder.fsub(vector_at(builder, scores, i), most))
            v.store(builder, weight, builder.add(scores, i))
            builder.store(builder.fadd(builder.load(sums), weight), sums)
        return v.total(builder, builder.load(sums))

    return types.float32(types.int64, types.int64), generate


@intrinsic
def _mixed(
    typing: Any,
    scores: Any,
    values: Any,
    count: Any,
    later_values: Any,
    later_count: Any,
    row: Any,
    share: Any,
    y: Any,
) -> Any:
    """y = the sum of values of ``row`` bytes, in two places, by their scores, times ``share``."""

    def generate(
        builder: Any,
        scores: Any,
        values: Any,
        count: Any,
        later_values: Any,
        later_count: Any,
        row: Any,
        share: Any,
        y: Any,
    ) -> None:
        share = v.repeated(builder, share)
        later_scores = builder.add(scores, builder.mul(count, v.I64(4)))
        sides = ((scores, values, count), (later_scores, later_values, later_count))
        with each_step(builder, v.I64(0), row, 4 * STEP) as i:
            sums = [variable(builder) for _ in range(4)]
            for of_side, at, number in sides:
                with cgutils.for_range(builder, number, intp=v.I64) as position:
                    place = builder.add(of_side, builder.mul(position.index, v.I64(4)))
                    weight = v.repeated(builder, v.load(builder, place, v.FLOAT))
                    value = builder.add(at, builder.mul(position.index, row))
                    value = builder.add(value, i)
                    for j, each in enumerate(sums):
                        found = v.load(builder, v.at(builder, value, j * STEP), v.VECTOR)
                        builder.store(v.fma(builder, weight, found, builder.load(each)), each)
            target = builder.add(y, i)
            for j, each in enumerate(sums):
                total = builder.fmul(builder.load(each), share)
                v.store(builder, total, v.at(builder, target, j * STEP))

    return types.void(*[types.int64] * 6, types.float32, types.int64), nothing(generate)


@part
def attend(q, keys, values, count, own_keys, own_values, own_count, width, y, scores):  # pyright: ignore
    """y (D,) = attention of q (D,) to ``count`` positions, and to its row's own ones behind them.

    keys, values: (..., D). scores: room for all positions and WIDTH values.

    A row of q is scaled already.
    """
    row = 4 * width
    for side in range(2):
        place, number = keys if side == 0 else own_keys, count if side == 0 else own_count
        _scores(q, place, number, row, scores if side == 0 else scores + 4 * count)
    share = np.float32(1) / _shares(scores, count + own_count)
    _mixed(scores, values, count, own_values, own_count, row, share, y)
