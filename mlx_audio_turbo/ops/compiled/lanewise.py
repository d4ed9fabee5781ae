"""Functions of every value of a vector, for kernels: exponentials, activations, norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba.core import cgutils, types

from ..fast_math import FOURTH_ROOT, HALF_SINE, HALF_SINE_SCALE, ROUNDER
from . import vectors as v
from .tiles import VECTORS
from .words import intrinsic

LOG2_E = math.log2(math.e)
# 2 ** f for |f| <= 0.5, lowest power first: off by 2e-8 before rounding.
_POWER = (
    1.0, 0.693147207, 0.240226509, 0.0555032723, 0.00961805668, 0.00134004282, 0.000154614447,
)  # fmt: skip
_LEAST = -126.0


def _polynomial(builder: Any, x: Any, coefficients: Any) -> Any:
    """The polynomial with these coefficients, lowest power first."""
    value = v.filled(coefficients[-1], x.type)
    for coefficient in coefficients[-2::-1]:
        value = v.fma(builder, value, x, v.filled(coefficient, x.type))
    return value


def _chosen(builder: Any, sign: str, a: Any, b: Any) -> Any:
    """The greater or the lesser (``sign`` of a against b) of two vectors, value by value."""
    return builder.select(builder.fcmp_ordered(sign, a, b), a, b)


def greater(builder: Any, a: Any, b: Any) -> Any:
    """The greater of two vectors, value by value."""
    return _chosen(builder, ">", a, b)


def exp2(builder: Any, x: Any) -> Any:
    """2 ** x for x up to 127; 2 ** -126 for all that is below."""
    x = greater(builder, x, v.filled(_LEAST))
    shifted = builder.fadd(x, v.filled(ROUNDER))
    fraction = builder.fsub(x, builder.fsub(shifted, v.filled(ROUNDER)))
    power = builder.bitcast(_polynomial(builder, fraction, _POWER), v.INTEGERS)
    exponent = builder.shl(builder.bitcast(shifted, v.INTEGERS), v.filled(23, v.INTEGERS))
    return builder.bitcast(builder.add(power, exponent), v.VECTOR)


def _silu(builder: Any, x: Any) -> Any:
    e = exp2(builder, builder.fmul(_chosen(builder, ">", x, v.filled(-87.0)), v.filled(-LOG2_E)))
    return builder.fdiv(x, builder.fadd(e, v.filled(1)))


def _gelu(builder: Any, x: Any) -> Any:
    """As ``fast_math.fast_gelu``."""
    size = _chosen(builder, ">", x, builder.fsub(v.filled(0), x))
    root = _polynomial(builder, size, FOURTH_ROOT)
    root = builder.fmul(root, root)
    rest = builder.fdiv(size, builder.fmul(root, root))
    return builder.fsub(greater(builder, x, v.filled(0)), rest)


def _mish(builder: Any, x: Any) -> Any:
    """As ``fast_math.fast_mish``."""
    small = _chosen(builder, "<", x, v.filled(32))
    e = exp2(builder, builder.fmul(small, v.filled(LOG2_E)))
    weight = builder.fmul(e, builder.fadd(e, v.filled(2)))
    return builder.fmul(x, builder.fdiv(weight, builder.fadd(weight, v.filled(2))))


def _snake(builder: Any, x: Any, turns: Any, scale: Any) -> Any:
    """As ``activations.snake``, with the factors of ``fast_math.sine_squared``."""
    turned = builder.fmul(x, turns)
    nearest = builder.fsub(builder.fadd(turned, v.filled(ROUNDER)), v.filled(ROUNDER))
    rest = builder.fsub(turned, nearest)
    square = _chosen(builder, "<", builder.fmul(rest, rest), v.filled(0.25))
    value = _polynomial(builder, square, (*HALF_SINE[::-1], 1.0))
    value = builder.fmul(value, square)
    less = builder.fsub(value, v.filled(1 / HALF_SINE_SCALE))
    return v.fma(builder, builder.fmul(less, value), scale, x)


def _over_vectors(function: Callable[[Any, Any], Any]) -> Any:
    """``apply(address, vectors)``: the function of so many vectors, in place."""

    @intrinsic
    def apply(typing: Any, address: Any, vectors: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, vectors = arguments
            with cgutils.for_range(builder, vectors, intp=v.I64) as loop:
                place = builder.add(address, builder.mul(loop.index, v.I64(4 * v.WIDTH)))
                v.store(builder, function(builder, v.load(builder, place, v.VECTOR)), place)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return apply


silu = _over_vectors(_silu)
gelu = _over_vectors(_gelu)
mish = _over_vectors(_mish)


@intrinsic
def snake(typing: Any, source: Any, target: Any, vectors: Any, turns: Any, scale: Any) -> Any:
    """The function of so many vectors at ``source``, written to ``target``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target, vectors, turns, scale = arguments
        turns, scale = v.repeated(builder, turns), v.repeated(builder, scale)
        with cgutils.for_range(builder, vectors, intp=v.I64) as loop:
            offset = builder.mul(loop.index, v.I64(4 * v.WIDTH))
            x = v.load(builder, builder.add(source, offset), v.VECTOR)
            y = _snake(builder, x, turns, scale)
            v.store(builder, y, builder.add(target, offset))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3, *[types.float32] * 2), generate


class _Panel:
    """Loops over the rows of a panel (rows, COLUMNS), all columns at a time."""

    def __init__(self, builder: Any, address: Any):
        self._builder, self._address = builder, address

    def places(self, row: Any, count: int = VECTORS) -> list[Any]:
        start = self._builder.mul(row, v.I64(4 * v.WIDTH * VECTORS))
        start = self._builder.add(self._address, start)
        return [v.at(self._builder, start, 4 * v.WIDTH * j) for j in range(count)]

    def row(self, row: Any) -> list[Any]:
        return [v.load(self._builder, place, v.VECTOR) for place in self.places(row)]

    def write(self, row: Any, values: list[Any]) -> None:
        for place, value in zip(self.places(row), values, strict=True):
            v.store(self._builder, value, place)


def _variables(builder: Any, value: float) -> list[Any]:
    made = [cgutils.alloca_once(builder, v.VECTOR) for _ in range(VECTORS)]
    for each in made:
        builder.store(v.filled(value), each)
    return made


@intrinsic
def norm(typing: Any, x: Any, rows: Any, weight: Any, bias: Any, eps: Any, target: Any) -> Any:
    """The norm over the rows of each column of a panel, times weight, plus bias (rows,)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, rows, weight, bias, eps, target = arguments
        source, target = _Panel(builder, x), _Panel(builder, target)
        share = builder.fdiv(v.FLOAT(1), builder.sitofp(rows, v.FLOAT))
        share = v.repeated(builder, share)
        sums = _variables(builder, 0)
        with cgutils.for_range(builder, rows, intp=v.I64) as loop:
            for each, value in zip(sums, source.row(loop.index), strict=True):
                builder.store(builder.fadd(builder.load(each), value), each)
        means = [builder.fmul(builder.load(each), share) for each in sums]
        squares = _variables(builder, 0)
        with cgutils.for_range(builder, rows, intp=v.I64) as loop:
            for each, value, mean in zip(squares, source.row(loop.index), means, strict=True):
                rest = builder.fsub(value, mean)
                builder.store(v.fma(builder, rest, rest, builder.load(each)), each)
        factors = []
        for each in squares:
            variance = v.fma(builder, builder.load(each), share, v.repeated(builder, eps))
            factors.append(builder.fdiv(v.filled(1), v.root(builder, variance)))
        with cgutils.for_range(builder, rows, intp=v.I64) as loop:
            offset = builder.mul(loop.index, v.I64(4))
            gain, more = (
                v.repeated(builder, v.load(builder, builder.add(each, offset), v.FLOAT))
                for each in (weight, bias)
            )
            target.write(
                loop.index,
                [
                    v.fma(builder, builder.fmul(builder.fsub(value, mean), factor), gain, more)
                    for value, mean, factor in zip(
                        source.row(loop.index), means, factors, strict=True
                    )
                ],
            )
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, types.float32, types.int64), generate


@intrinsic
def rms_norm(typing: Any, x: Any, rows: Any, weight: Any, eps: Any, target: Any) -> Any:
    """The RMS norm over the rows of each column of a panel, times weight (rows,)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, rows, weight, eps, target = arguments
        source, target = _Panel(builder, x), _Panel(builder, target)
        share = v.repeated(builder, builder.fdiv(v.FLOAT(1), builder.sitofp(rows, v.FLOAT)))
        squares = _variables(builder, 0)
        with cgutils.for_range(builder, rows, intp=v.I64) as loop:
            for each, value in zip(squares, source.row(loop.index), strict=True):
                builder.store(v.fma(builder, value, value, builder.load(each)), each)
        factors = []
        for each in squares:
            mean = v.fma(builder, builder.load(each), share, v.repeated(builder, eps))
            factors.append(builder.fdiv(v.filled(1), v.root(builder, mean)))
        with cgutils.for_range(builder, rows, intp=v.I64) as loop:
            place = builder.add(weight, builder.mul(loop.index, v.I64(4)))
            gain = v.repeated(builder, v.load(builder, place, v.FLOAT))
            values = zip(source.row(loop.index), factors, strict=True)
            target.write(
                loop.index,
                [builder.fmul(builder.fmul(value, factor), gain) for value, factor in values],
            )
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3, types.float32, types.int64), generate


@intrinsic
def softmax(typing: Any, scores: Any, keys: Any, factor: Any, shares: Any) -> Any:
    """exp(factor * (score - maximum)) of each column of a panel (keys, COLUMNS), in place.

    One over the sum of each column goes to ``shares`` (COLUMNS,).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scores, keys, factor, shares = arguments
        panel = _Panel(builder, scores)
        factor = v.repeated(builder, builder.fmul(factor, v.FLOAT(LOG2_E)))
        most = _variables(builder, -3e38)
        with cgutils.for_range(builder, keys, intp=v.I64) as loop:
            for each, value in zip(most, panel.row(loop.index), strict=True):
                builder.store(greater(builder, value, builder.load(each)), each)
        less = [
            builder.fsub(v.filled(0), builder.fmul(builder.load(each), factor)) for each in most
        ]
        sums = _variables(builder, 0)
        with cgutils.for_range(builder, keys, intp=v.I64) as loop:
            found = [
                exp2(builder, v.fma(builder, value, factor, each))
                for value, each in zip(panel.row(loop.index), less, strict=True)
            ]
            panel.write(loop.index, found)
            for each, value in zip(sums, found, strict=True):
                builder.store(builder.fadd(builder.load(each), value), each)
        _Panel(builder, shares).write(
            v.I64(0), [builder.fdiv(v.filled(1), builder.load(each)) for each in sums]
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64), generate


@intrinsic
def times_columns(typing: Any, x: Any, rows: Any, factors: Any) -> Any:
    """Multiply each column of a panel (rows, COLUMNS) by its factor (COLUMNS,), in place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, rows, factors = arguments
        panel, row = _Panel(builder, x), _Panel(builder, factors).row(v.I64(0))
        with cgutils.for_range(builder, rows, intp=v.I64) as loop:
            values = zip(panel.row(loop.index), row, strict=True)
            panel.write(loop.index, [builder.fmul(a, b) for a, b in values])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def plus_rows(typing: Any, x: Any, rows: Any, values: Any) -> Any:
    """Add to each row of a panel (rows, COLUMNS) its value (rows,), in place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, rows, values = arguments
        panel = _Panel(builder, x)
        with cgutils.for_range(builder, rows, intp=v.I64) as loop:
            place = builder.add(values, builder.mul(loop.index, v.I64(4)))
            more = v.repeated(builder, v.load(builder, place, v.FLOAT))
            panel.write(loop.index, [builder.fadd(a, more) for a in panel.row(loop.index)])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


clear = _over_vectors(lambda builder, x: v.filled(0))


@intrinsic
def copy(typing: Any, source: Any, target: Any, vectors: Any) -> Any:
    """So many vectors from ``source`` to ``target``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target, vectors = arguments
        with cgutils.for_range(builder, vectors, intp=v.I64) as loop:
            offset = builder.mul(loop.index, v.I64(4 * v.WIDTH))
            value = v.load(builder, builder.add(source, offset), v.VECTOR)
            v.store(builder, value, builder.add(target, offset))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def value(typing: Any, place: Any) -> Any:
    """The float32 at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return v.load(builder, arguments[0], v.FLOAT)

    return types.float32(types.int64), generate


@intrinsic
def put(typing: Any, place: Any, value: Any) -> Any:
    """Write a float32 to an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v.store(builder, arguments[1], arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate
