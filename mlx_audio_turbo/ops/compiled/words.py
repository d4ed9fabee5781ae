"""Words for kernels: what numba's own language lacks.

A ``Vector`` is ``WIDTH`` values of float32 in registers. Addresses are integers.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.extending import models, register_model

from . import vectors as v

part: Any = numba.njit(nogil=True)
"""Decorates a function that kernels call."""
intrinsic: Any = extending.intrinsic
"""Numba's own, which a checker of types takes for a function of two arguments more."""
ADDRESSES = types.Array(types.int64, 1, "C")
VALUES = types.Array(types.float32, 1, "C")
"""Types of arguments of kernels."""

WIDTH = v.WIDTH


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Vector")


VECTOR = _VectorType()


@register_model(_VectorType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, type: Any):
        super().__init__(manager, type, v.VECTOR)


def _vectors(made: Callable[..., Any]) -> Callable[[Any, Any, Any, Any], Any]:
    """The code generator of a word that is ``made(builder, *arguments)``."""
    return lambda context, builder, signature, arguments: made(builder, *arguments)


@intrinsic
def load(typing: Any, address: Any) -> Any:
    """The vector at ``address``."""
    return VECTOR(types.int64), _vectors(lambda builder, at: v.load(builder, at, v.VECTOR))


@intrinsic
def load_one(typing: Any, address: Any) -> Any:
    """The float32 at ``address``."""
    return types.float32(types.int64), _vectors(lambda builder, at: v.load(builder, at, v.FLOAT))


@intrinsic
def store(typing: Any, value: Any, address: Any) -> Any:
    """Write a vector, or a float32, to ``address``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v.store(builder, *arguments)
        return context.get_dummy_value()

    return types.void(value, types.int64), generate


@intrinsic
def ask(typing: Any, address: Any) -> Any:
    """Ask for the line at ``address``, which need not exist, in the second cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v.prefetch(builder, arguments[0], near=False)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def filled(typing: Any, value: Any) -> Any:
    """A vector with the float32 ``value`` everywhere."""
    return VECTOR(types.float32), _vectors(v.repeated)


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """``a + b``."""
    return VECTOR(VECTOR, VECTOR), _vectors(lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def subtract(typing: Any, a: Any, b: Any) -> Any:
    """``a - b``."""
    return VECTOR(VECTOR, VECTOR), _vectors(lambda builder, a, b: builder.fsub(a, b))


@intrinsic
def times(typing: Any, a: Any, b: Any) -> Any:
    """``a * b``."""
    return VECTOR(VECTOR, VECTOR), _vectors(lambda builder, a, b: builder.fmul(a, b))


@intrinsic
def divide(typing: Any, a: Any, b: Any) -> Any:
    """``a / b``."""
    return VECTOR(VECTOR, VECTOR), _vectors(lambda builder, a, b: builder.fdiv(a, b))


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once."""
    return VECTOR(VECTOR, VECTOR, VECTOR), _vectors(v.fma)


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of each pair."""
    return VECTOR(VECTOR, VECTOR), _vectors(v.larger)


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """The sum of the values."""
    return types.float32(VECTOR), _vectors(v.total)


@intrinsic
def scalar_products(typing: Any, a: Any, b: Any, b_row: Any, count: Any) -> Any:
    """A vector of the products of the ``count`` bytes at a with each of ``WIDTH`` rows at b.

    Each is added up like one ``fma`` after another, and ``total`` of these.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, row, count = arguments
        sums = [cgutils.alloca_once(builder, v.VECTOR) for _ in range(WIDTH)]
        rows = [builder.add(b, builder.mul(row, v.I64(i))) for i in range(WIDTH)]
        for each in sums:
            builder.store(v.filled(0), each)
        step = v.I64(4 * WIDTH)
        with cgutils.for_range_slice(builder, v.I64(0), count, step, v.I64) as (offset, _):
            left = v.load(builder, builder.add(a, offset), v.VECTOR)
            for each, place in zip(sums, rows, strict=True):
                right = v.load(builder, builder.add(place, offset), v.VECTOR)
                builder.store(v.fma(builder, left, right, builder.load(each)), each)
        return v.totals(builder, [builder.load(each) for each in sums])

    return VECTOR(*[types.int64] * 4), generate


@intrinsic
def largest(typing: Any, a: Any) -> Any:
    """The largest value."""
    return types.float32(VECTOR), _vectors(lambda builder, a: v.folded(builder, a, v.larger))


@intrinsic
def exp(typing: Any, a: Any) -> Any:
    """e to the power of each value; below -87 the smallest normal number."""
    return VECTOR(VECTOR), _vectors(_exp)


# The Taylor series of e ** r up to r ** 6; |r| is at most ln(2) / 2, and the error 1 unit.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440054690583e-4
_SERIES = [1 / math.factorial(n) for n in range(7, -1, -1)]


def _exp(builder: Any, x: Any) -> Any:
    # The comparison is false for what is not a number, which then stays.
    x = v.larger(builder, v.filled(-87.0), x)
    x = builder.select(builder.fcmp_ordered(">", x, v.filled(88.0)), v.filled(88.0), x)
    name = f"llvm.rint.v{WIDTH}f32"
    function = ir.FunctionType(v.VECTOR, [v.VECTOR])
    rint = cgutils.get_or_insert_function(builder.module, function, name)
    power = builder.call(rint, [builder.fmul(x, v.filled(1 / math.log(2)))])
    rest = v.fma(builder, power, v.filled(-_LN2_HIGH), x)
    rest = v.fma(builder, power, v.filled(-_LN2_LOW), rest)
    y = v.filled(_SERIES[0])
    for factor in _SERIES[1:]:
        y = v.fma(builder, y, rest, v.filled(factor))
    exponent = builder.add(builder.fptosi(power, v.INTEGERS), v.filled(127, v.INTEGERS))
    scale = builder.bitcast(builder.shl(exponent, v.filled(23, v.INTEGERS)), v.VECTOR)
    return builder.fmul(y, scale)


@intrinsic
def address(typing: Any, array: Any) -> Any:
    """Where the first value of an array lies."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.ptrtoint(data, v.I64)

    return types.int64(array), generate


@intrinsic
def read_shared(typing: Any, address: Any) -> Any:
    """The counter at ``address``; what its writer had written before is then visible."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], v.I64.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def count_shared(typing: Any, address: Any) -> Any:
    """Add one to the counter at ``address``, after all that this thread has written."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], v.I64.as_pointer())
        return builder.atomic_rmw("add", pointer, v.I64(1), "acq_rel")

    return types.int64(types.int64), generate


@intrinsic
def take_shared(typing: Any, address: Any, expected: Any) -> Any:
    """Add one to the counter at ``address`` if it is ``expected``; whether it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, expected = arguments
        pointer = builder.inttoptr(place, v.I64.as_pointer())
        more = builder.add(expected, v.I64(1))
        pair = builder.cmpxchg(pointer, expected, more, "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64), generate


@intrinsic
def apart(typing: Any) -> Any:
    """Keep the part that calls this a function of its own, which is compiled once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def pause(typing: Any) -> Any:
    """Let a loop that waits for another thread take less of the core."""
    arm = platform.machine().lower() in ("arm64", "aarch64")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name, hints = ("llvm.aarch64.hint", [v.I32(1)]) if arm else ("llvm.x86.sse2.pause", [])
        function = ir.FunctionType(ir.VoidType(), [hint.type for hint in hints])
        builder.call(cgutils.get_or_insert_function(builder.module, function, name), hints)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def give_way(typing: Any) -> Any:
    """Let another thread have the core."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(v.I32, [])
        call = cgutils.get_or_insert_function(builder.module, function, "sched_yield")
        builder.call(call, [])
        return context.get_dummy_value()

    return types.void(), generate
