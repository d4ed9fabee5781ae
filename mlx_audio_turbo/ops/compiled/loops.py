"""Loops over vectors of memory, in LLVM's language, for intrinsics of kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import cgutils

from . import vectors as v
from .vectors import WIDTH

STEP = 4 * WIDTH
"""Bytes of a vector."""


@contextmanager
def each_step(builder: Any, start: Any, stop: Any, step: int) -> Iterator[Any]:
    """The code of a loop: the offset."""
    with cgutils.for_range_slice(builder, start, stop, v.I64(step), v.I64) as (offset, _):
        yield offset


def each_vector(builder: Any, count: Any) -> Any:
    """A loop over the vectors of ``count`` values: the offset of each in bytes."""
    return each_step(builder, v.I64(0), builder.mul(count, v.I64(4)), STEP)


def vector_at(builder: Any, address: Any, offset: Any) -> Any:
    """The vector at ``address + offset``."""
    return v.load(builder, builder.add(address, offset), v.VECTOR)


def variable(builder: Any, value: Any = None) -> Any:
    """Room for a vector, which becomes a register; zeros by default."""
    made = cgutils.alloca_once(builder, v.VECTOR)
    builder.store(v.filled(0) if value is None else value, made)
    return made


def nothing(generate: Any) -> Any:
    """A code generator without a result."""

    def run(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        generate(builder, *arguments)
        return context.get_dummy_value()

    return run
