"""Instructions that numba has no words for, as pieces of LLVM's language.

The functions take llvmlite's builder and give values; kernels call them inside of a
``numba.extending.intrinsic``. An address is a 64-bit integer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

FLOAT, HALF = ir.FloatType(), ir.HalfType()
I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
WIDTH = 16 if binding.get_host_cpu_features().get("avx512f") else 8
"""Floats of a vector: one register of AVX-512 or AVX2, two of NEON."""
VECTOR = ir.VectorType(FLOAT, WIDTH)
INTEGERS = ir.VectorType(I32, WIDTH)


def load(builder: Any, address: Any, type: Any) -> Any:
    """What lies at ``address``, which need not be aligned."""
    return builder.load(builder.inttoptr(address, type.as_pointer()), align=1)


def store(builder: Any, value: Any, address: Any) -> None:
    """Write ``value`` to ``address``, which need not be aligned."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def at(builder: Any, address: Any, offset: int) -> Any:
    """``address + offset``."""
    return builder.add(address, I64(offset)) if offset else address


def filled(value: float, type: Any = VECTOR) -> Any:
    """A vector with ``value`` everywhere."""
    return ir.Constant(type, [value] * type.count)


def repeated(builder: Any, value: Any, count: int = WIDTH) -> Any:
    """A vector with the scalar ``value`` everywhere."""
    type = ir.VectorType(value.type, count)
    none = ir.Constant(type, ir.Undefined)
    first = builder.insert_element(none, value, I32(0))
    return builder.shuffle_vector(first, none, filled(0, ir.VectorType(I32, count)))


def indices(order: Sequence[int]) -> Any:
    """The mask of a shuffle."""
    return ir.Constant(ir.VectorType(I32, len(order)), list(order))


def shuffled(builder: Any, value: Any, order: Sequence[int]) -> Any:
    """The elements ``order`` of a vector."""
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), indices(order))


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once."""
    type = a.type
    name = f"llvm.fma.v{type.count}f32" if isinstance(type, ir.VectorType) else "llvm.fma.f32"
    function = ir.FunctionType(type, [type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [a, b, c])


def root(builder: Any, x: Any) -> Any:
    """The square root of a float32, or of those of a vector."""
    name = f"llvm.sqrt.v{x.type.count}f32" if isinstance(x.type, ir.VectorType) else "llvm.sqrt.f32"
    function = ir.FunctionType(x.type, [x.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [x])


# The Taylor series of e ** r up to r ** 6; |r| is at most ln(2) / 2, and the error 1 unit.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440054690583e-4
_SERIES = [1 / math.factorial(n) for n in range(7, -1, -1)]


def exp(builder: Any, x: Any) -> Any:
    """e to the power of each value; below -87 the smallest normal number."""
    # The comparison is false for what is not a number, which then stays.
    x = larger(builder, filled(-87.0), x)
    x = builder.select(builder.fcmp_ordered(">", x, filled(88.0)), filled(88.0), x)
    name = f"llvm.rint.v{WIDTH}f32"
    function = ir.FunctionType(VECTOR, [VECTOR])
    rint = cgutils.get_or_insert_function(builder.module, function, name)
    power = builder.call(rint, [builder.fmul(x, filled(1 / math.log(2)))])
    rest = fma(builder, power, filled(-_LN2_HIGH), x)
    rest = fma(builder, power, filled(-_LN2_LOW), rest)
    y = filled(_SERIES[0])
    for factor in _SERIES[1:]:
        y = fma(builder, y, rest, filled(factor))
    exponent = builder.add(builder.fptosi(power, INTEGERS), filled(127, INTEGERS))
    scale = builder.bitcast(builder.shl(exponent, filled(23, INTEGERS)), VECTOR)
    return builder.fmul(y, scale)


def folded(builder: Any, vector: Any, both: Callable[[Any, Any, Any], Any]) -> Any:
    """A vector's elements made one, by halves."""
    count = vector.type.count
    while count > 1:
        count //= 2
        low = shuffled(builder, vector, range(count))
        vector = both(builder, low, shuffled(builder, vector, range(count, 2 * count)))
    return builder.extract_element(vector, I32(0))


def total(builder: Any, vector: Any) -> Any:
    """The sum of a vector's elements."""
    return folded(builder, vector, lambda builder, a, b: builder.fadd(a, b))


def totals(builder: Any, vectors: Sequence[Any]) -> Any:
    """A vector of the sums of ``WIDTH`` vectors' elements, each added up as by :func:`total`."""
    vectors, size = list(vectors), WIDTH
    while len(vectors) > 1:
        size //= 2
        # The halves of every part of size * 2 elements, of a pair of vectors.
        starts = range(0, 2 * WIDTH, 2 * size)
        low, high = (
            [start + half + i for start in starts for i in range(size)] for half in (0, size)
        )
        vectors = [
            builder.fadd(*(builder.shuffle_vector(*pair, indices(some)) for some in (low, high)))
            for pair in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


def larger(builder: Any, a: Any, b: Any) -> Any:
    """The larger of each pair; ``b`` where one is not a number."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def prefetch(builder: Any, address: Any, *, near: bool = True) -> None:
    """Ask for the line at ``address``, which need not exist, in the first cache or the second."""
    pointer = builder.inttoptr(address, I8.as_pointer())
    suffix = "p0i8" if "i8*" in str(pointer.type) else "p0"
    function = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
    call = cgutils.get_or_insert_function(builder.module, function, f"llvm.prefetch.{suffix}")
    builder.call(call, [pointer, I32(0), I32(3 if near else 2), I32(1)])


def widened(builder: Any, address: Any, floats: str, count: int = WIDTH) -> Any:
    """``count`` floats of the named type at ``address``, as a vector of float32."""
    type = ir.VectorType(FLOAT, count)
    if floats == "float32":
        return load(builder, address, type)
    if floats == "float16":
        return builder.fpext(load(builder, address, ir.VectorType(HALF, count)), type)
    wide = ir.VectorType(I32, count)
    bits = builder.zext(load(builder, address, ir.VectorType(I16, count)), wide)
    return builder.bitcast(builder.shl(bits, filled(16, wide)), type)
