"""What a transformer does between products, for one row at a time: norms and activations.

All arguments but counts and eps are addresses of float32 values. The loops are written in LLVM's
language, which numba takes a tenth of the time to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from . import vectors as v
from .loops import STEP, each_step, each_vector, nothing, variable, vector_at
from .parts import part
from .products import ordered
from .words import entry, intrinsic, root


def _biased(builder: Any, x: Any, bias: Any, offset: Any) -> Any:
    """The vector at ``x + offset``, plus that at ``bias + offset`` if there is one."""
    value = vector_at(builder, x, offset)
    return value if bias is None else builder.fadd(value, vector_at(builder, bias, offset))


def _with_or_without(builder: Any, bias: Any, loop: Callable[[bool], None]) -> None:
    """The code of a loop for a bias, and for none."""
    with builder.if_else(builder.icmp_signed("!=", bias, v.I64(0))) as (some, none):
        with some:
            loop(True)
        with none:
            loop(False)


@intrinsic
def _sum(typing: Any, x: Any, count: Any) -> Any:
    """The sum of ``count`` values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, count = arguments
        sums = variable(builder)
        with each_vector(builder, count) as i:
            builder.store(builder.fadd(builder.load(sums), vector_at(builder, x, i)), sums)
        return v.total(builder, builder.load(sums))

    return types.float32(types.int64, types.int64), generate


@intrinsic
def _square_sum(typing: Any, x: Any, mean: Any, count: Any) -> Any:
    """The sum of the squares of ``count`` values less their mean."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, mean, count = arguments
        mean, sums = v.repeated(builder, mean), variable(builder)
        with each_vector(builder, count) as i:
            rest = builder.fsub(vector_at(builder, x, i), mean)
            builder.store(v.fma(builder, rest, rest, builder.load(sums)), sums)
        return v.total(builder, builder.load(sums))

    return types.float32(types.int64, types.float32, types.int64), generate


@intrinsic
def _normed(
    typing: Any, x: Any, mean: Any, scale: Any, weight: Any, bias: Any, count: Any, y: Any
) -> Any:
    """y = (x - mean) * scale * weight + bias; a ``bias`` of 0 is none."""

    def generate(
        builder: Any, x: Any, mean: Any, scale: Any, weight: Any, bias: Any, count: Any, y: Any
    ) -> None:
        mean, scale = v.repeated(builder, mean), v.repeated(builder, scale)

        def loop(has_bias: bool) -> None:
            with each_vector(builder, count) as i:
                value = builder.fmul(builder.fsub(vector_at(builder, x, i), mean), scale)
                gain = vector_at(builder, weight, i)
                if has_bias:
                    value = v.fma(builder, value, gain, vector_at(builder, bias, i))
                else:
                    value = builder.fmul(value, gain)
                v.store(builder, value, builder.add(y, i))

        _with_or_without(builder, bias, loop)

    floats, places = types.float32, types.int64
    arguments = (places, floats, floats, *[places] * 4)
    return types.void(*arguments), nothing(generate)


@part
def norm(pairs, x, table, eps, count, y, spare):  # pyright: ignore
    """y = the norm of ``count`` values at x, in the order of :func:`ordered`.

    The table has the addresses of weight and bias. It is a layer norm, or an RMS norm where the
    bias is 0.
    """
    weight, bias, size = entry(table, 0), entry(table, 1), np.float32(count)
    mean = np.float32(0)
    if bias != 0:
        mean = _sum(x, count) / size
    spread = root(_square_sum(x, mean, count) / size + eps)
    target = spare if pairs else y
    _normed(x, mean, np.float32(1) / spread, weight, bias, count, target)
    if pairs:
        ordered(True, spare, y, count)


@intrinsic
def rotate(typing: Any, x: Any, angles: Any, count: Any) -> Any:
    """Turn the pairs (i, i + count / 2) at x, by cosines at ``angles`` and sines behind them."""

    def generate(builder: Any, x: Any, angles: Any, count: Any) -> None:
        half = builder.mul(count, v.I64(2))
        behind, sines = builder.add(x, half), builder.add(angles, half)
        with each_step(builder, v.I64(0), half, STEP) as i:
            a, b, cosine, sine = (
                vector_at(builder, each, i) for each in (x, behind, angles, sines)
            )
            less = builder.fsub(builder.fmul(a, cosine), builder.fmul(b, sine))
            more = builder.fadd(builder.fmul(b, cosine), builder.fmul(a, sine))
            v.store(builder, less, builder.add(x, i))
            v.store(builder, more, builder.add(behind, i))

    return types.void(*[types.int64] * 3), nothing(generate)


@intrinsic
def copied(typing: Any, x: Any, count: Any, y: Any) -> Any:
    """y = x."""

    def generate(builder: Any, x: Any, count: Any, y: Any) -> None:
        with each_vector(builder, count) as i:
            v.store(builder, vector_at(builder, x, i), builder.add(y, i))

    return types.void(*[types.int64] * 3), nothing(generate)


@intrinsic
def scaled(typing: Any, x: Any, bias: Any, factor: Any, count: Any, y: Any) -> Any:
    """y = (x + bias) * factor; a ``bias`` of 0 is none."""

    def generate(builder: Any, x: Any, bias: Any, factor: Any, count: Any, y: Any) -> None:
        factor = v.repeated(builder, factor)

        def loop(has_bias: bool) -> None:
            with each_vector(builder, count) as i:
                value = _biased(builder, x, bias if has_bias else None, i)
                v.store(builder, builder.fmul(value, factor), builder.add(y, i))

        _with_or_without(builder, bias, loop)

    return types.void(types.int64, types.int64, types.float32, *[types.int64] * 2), nothing(
        generate
    )


@intrinsic
def added(typing: Any, x: Any, bias: Any, count: Any, y: Any) -> Any:
    """y += x + bias; a ``bias`` of 0 is none."""

    def generate(builder: Any, x: Any, bias: Any, count: Any, y: Any) -> None:
        def loop(has_bias: bool) -> None:
            with each_vector(builder, count) as i:
                value = _biased(builder, x, bias if has_bias else None, i)
                v.store(builder, builder.fadd(value, vector_at(builder, y, i)), builder.add(y, i))

        _with_or_without(builder, bias, loop)

    return types.void(*[types.int64] * 4), nothing(generate)


# The tanh form is x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x ** 3).
_SLOPE, _CUBIC = -1.5957691216057308, -0.07135481282553


@intrinsic
def gelu(typing: Any, x: Any, bias: Any, count: Any) -> Any:
    """The tanh form of GELU of ``count`` values at x plus those at ``bias``, in place.

    A ``bias`` of 0 is none.
    """

    def generate(builder: Any, x: Any, bias: Any, count: Any) -> None:
        def loop(has_bias: bool) -> None:
            with each_vector(builder, count) as i:
                value = _biased(builder, x, bias if has_bias else None, i)
                square = builder.fmul(value, value)
                u = v.fma(builder, square, v.filled(_CUBIC), v.filled(_SLOPE))
                u = builder.fmul(u, value)
                below = builder.fadd(v.filled(1), v.exp(builder, u))
                v.store(builder, builder.fdiv(value, below), builder.add(x, i))

        _with_or_without(builder, bias, loop)

    return types.void(*[types.int64] * 3), nothing(generate)


@intrinsic
def swiglu(typing: Any, x: Any, gate: Any, count: Any) -> Any:
    """x *= SiLU(gate)."""

    def generate(builder: Any, x: Any, gate: Any, count: Any) -> None:
        with each_vector(builder, count) as i:
            value = vector_at(builder, gate, i)
            y = builder.fmul(vector_at(builder, x, i), value)
            below = v.exp(builder, builder.fsub(v.filled(0), value))
            y = builder.fdiv(y, builder.fadd(v.filled(1), below))
            v.store(builder, y, builder.add(x, i))

    return types.void(*[types.int64] * 3), nothing(generate)
