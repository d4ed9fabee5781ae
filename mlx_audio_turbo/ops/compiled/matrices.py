"""The weights of a Linear layer where they lie, for kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .formats import Format
from .products import OUTPUTS, product

_NAMES = {mx.float32: "float32", mx.float16: "float16", mx.bfloat16: "bfloat16"}


@dataclass(frozen=True, eq=False)
class Matrix:
    """Weights (outputs, inputs), with the arrays that hold them: views of MLX's own.

    scales, biases: (outputs, groups) of a quantised matrix.
    """

    format: Format
    outputs: int
    inputs: int
    weights: np.ndarray
    scales: np.ndarray | None = None
    biases: np.ndarray | None = None

    @classmethod
    def of(cls, layer: nn.Linear | nn.QuantizedLinear) -> Matrix | None:
        """The weights of ``layer``; None where kernels do not take them."""
        weight = layer.weight
        if isinstance(layer, nn.QuantizedLinear):
            if layer.mode != "affine" or layer.bits not in (4, 6, 8):
                return None
            format = Format(layer.bits, layer.group_size, _NAMES[layer.scales.dtype])
            inputs = layer.scales.shape[1] * layer.group_size
            scales, biases = view(layer.scales), view(layer["biases"])
        elif weight.dtype in _NAMES:
            format = Format(0, 0, _NAMES[weight.dtype])
            inputs, scales, biases = weight.shape[1], None, None
        else:
            return None
        outputs = weight.shape[0]
        if outputs < OUTPUTS or inputs % format.span:
            return None
        return cls(format, outputs, inputs, view(weight), scales, biases)

    def part(self, some: slice) -> Matrix:
        """Some of the outputs."""
        scales, biases = (
            None if each is None else each[some] for each in (self.scales, self.biases)
        )
        return replace(
            self,
            outputs=some.stop - some.start,
            weights=self.weights[some],
            scales=scales,
            biases=biases,
        )

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Of weights, scales and biases."""
        parts = (self.weights, self.scales, self.biases)
        return tuple(0 if part is None else part.ctypes.data for part in parts)  # pyright: ignore

    def times(self, x: np.ndarray) -> np.ndarray:
        """(rows, inputs) to (rows, outputs), float32, on one thread."""
        rows = len(x)
        kept = rows if rows == 1 else -(-rows // 4) * 4
        x = np.concatenate([x, np.zeros((kept - rows, self.inputs))]).astype(np.float32)
        y = np.empty((kept, self.outputs), np.float32)
        scratch = np.empty(2 * self.outputs * (self.inputs // self.format.span), np.float32)
        sizes = (self.inputs, self.outputs, rows)
        product(
            self.format, np.array(self.addresses, np.int64), *sizes, x, np.zeros_like(x), y, scratch
        )
        return y[:rows]


def view(array: mx.array) -> np.ndarray:
    """An array of MLX as NumPy's, row by row; bfloat16 as the uint16 of its bits.

    It is copied only where MLX holds it in another order, as it does what was made of a transposed
    array of NumPy.
    """
    mx.eval(array)
    array = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    return np.ascontiguousarray(np.asarray(array))


def floats(array: mx.array) -> np.ndarray:
    """A small array of MLX in float32."""
    return np.ascontiguousarray(np.asarray(array.astype(mx.float32)))
