"""How weights lie in memory, as a type that kernels are compiled for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba.core import types
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, lower_getattr, models, register_model, typeof_impl, unbox

FLOATS = {"float32": 4, "float16": 2, "bfloat16": 2}
"""The types of floats that weights, scales and biases may have, with their bytes."""
SPAN = 64
"""Weights that one turn of a product over floats takes."""


@dataclass(frozen=True)
class Format:
    """The format of a weight matrix (outputs, inputs).

    bits: 4, 6 or 8 for MLX's affine groups; 0 for floats.
    group: weights that share a scale and a bias; 0 for floats.
    floats: the type of scales and biases, or of the weights.

    As an argument of a kernel it takes no time: its fields are constants of the code.
    """

    bits: int
    group: int
    floats: str

    @property
    def span(self) -> int:
        """Weights of a row that a product takes at a time; the inputs are a multiple of it."""
        return self.group or SPAN

    @property
    def is_float32(self) -> bool:
        """Whether the weights lie as the arithmetic takes them."""
        return not self.bits and self.floats == "float32"

    def bytes(self, count: int) -> int:
        """Bytes of so many weights, without scales and biases."""
        return count * self.bits // 8 if self.bits else count * FLOATS[self.floats]

    @property
    def numba_type(self) -> FormatType:
        """The type of this argument, for ``Kernel.compile``."""
        return FormatType(self)


class FormatType(types.Type):
    """Numba's type of a :class:`Format`: one for each value."""

    def __init__(self, format: Format):
        self.format = format
        super().__init__(name=f"Format({format.bits}, {format.group}, {format.floats})")


@typeof_impl.register(Format)
def _typeof(value: Format, context: Any) -> FormatType:
    return value.numba_type


@register_model(FormatType)
class _Model(models.OpaqueModel):
    pass


@unbox(FormatType)
def _unbox(type: FormatType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def _constant(name: str, value: Callable[[Format], int]) -> None:
    """Give kernels ``format.name``, a constant."""

    def generate(context: Any, builder: Any, type: FormatType, format: Any) -> Any:
        return context.get_constant(types.int64, value(type.format))

    lower_getattr(FormatType, name)(generate)
    setattr(_Constants, f"resolve_{name}", lambda self, type: types.int64)


@infer_getattr
class _Constants(AttributeTemplate):
    key = FormatType


_constant("bits", lambda format: format.bits)
_constant("span", lambda format: format.span)
_constant("span_bytes", lambda format: format.bytes(format.span))
_constant("float_bytes", lambda format: FLOATS[format.floats])
