"""Words for kernels: what numba's own language lacks."""

from __future__ import annotations

from typing import Any

import numba
from numba import extending
from numba.core import types

from . import vectors as v

part: Any = numba.njit(nogil=True)
"""Decorates a function that kernels call."""
intrinsic: Any = extending.intrinsic
"""Numba's own, which a checker of types takes for a function of two arguments more."""
ADDRESSES = types.Array(types.int64, 1, "C")
VALUES = types.Array(types.float32, 1, "C")
"""Types of arguments of kernels."""


@intrinsic
def address(typing: Any, array: Any) -> Any:
    """Where the first value of an array lies."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.ptrtoint(data, v.I64)

    return types.int64(array), generate
