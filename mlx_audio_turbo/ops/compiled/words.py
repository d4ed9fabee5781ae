"""Words for kernels: what numba's own language lacks. Addresses are integers."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

from . import vectors as v

intrinsic: Any = extending.intrinsic
"""Numba's own, which a checker of types takes for a function of two arguments more."""
ADDRESSES = types.Array(types.int64, 1, "C")
VALUES = types.Array(types.float32, 1, "C")
"""Types of arguments of kernels."""

WIDTH = v.WIDTH


def _word(made: Callable[..., Any]) -> Callable[[Any, Any, Any, Any], Any]:
    """The code generator of a word that is ``made(builder, *arguments)``."""
    return lambda context, builder, signature, arguments: made(builder, *arguments)


@intrinsic
def ask(typing: Any, address: Any) -> Any:
    """Ask for the line at ``address``, which need not exist, in the second cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v.prefetch(builder, arguments[0], near=False)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def address(typing: Any, array: Any) -> Any:
    """Where the first value of an array lies."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.ptrtoint(data, v.I64)

    return types.int64(array), generate


@intrinsic
def entry(typing: Any, table: Any, index: Any) -> Any:
    """Integer ``index`` of the table at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.add(arguments[0], builder.mul(arguments[1], v.I64(8)))
        return builder.load(builder.inttoptr(place, v.I64.as_pointer()))

    return types.int64(types.int64, types.int64), generate


def _compared(sign: str) -> Callable[[Any, Any, Any, Any], Any]:
    """The code generator of the one of two integers that ``sign`` prefers."""
    return _word(lambda builder, a, b: builder.select(builder.icmp_signed(sign, a, b), a, b))


@intrinsic
def least(typing: Any, a: Any, b: Any) -> Any:
    """The smaller of two integers; numba's ``min`` takes a function more to compile."""
    return types.int64(types.int64, types.int64), _compared("<")


@intrinsic
def most(typing: Any, a: Any, b: Any) -> Any:
    """The larger of two integers."""
    return types.int64(types.int64, types.int64), _compared(">")


@intrinsic
def root(typing: Any, a: Any) -> Any:
    """The square root of a float32."""
    return types.float32(types.float32), _word(v.root)


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
