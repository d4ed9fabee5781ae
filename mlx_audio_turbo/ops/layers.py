"""Modules that several networks share, built on the kernels of ``ops``."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .. import ops


class Conv1d(nn.Module):
    """1-D convolution of (batch, time, channels); ``padding`` may be (left, right)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self.weight = mx.zeros((outputs, kernel, inputs // groups))
        if bias:
            self.bias = mx.zeros((outputs,))
        self._stride, self._padding = stride, padding
        self._dilation, self._groups = dilation, groups

    @property
    def halo(self) -> tuple[int, int]:
        """Steps before and after that a result step reads, where padding keeps the length."""
        padding = self._padding
        return (padding, padding) if isinstance(padding, int) else padding

    def __call__(self, x: mx.array, *, padding: int | tuple[int, int] | None = None) -> mx.array:
        """(B, T, inputs) to (B, T', outputs); ``padding``, where given, replaces the module's."""
        return ops.conv1d(
            x,
            self.weight,
            self.get("bias"),
            stride=self._stride,
            padding=self._padding if padding is None else padding,
            dilation=self._dilation,
            groups=self._groups,
        )


class ConvTranspose1d(nn.Module):
    """Transposed 1-D convolution; weight (outputs, kernel, inputs)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, padding: int):
        super().__init__()
        self.weight = mx.zeros((outputs, kernel, inputs))
        self.bias = mx.zeros((outputs,))
        self._stride, self._padding = stride, padding

    def __call__(self, x: mx.array) -> mx.array:
        return ops.conv_transpose1d(
            x, self.weight, self.bias, stride=self._stride, padding=self._padding
        )


class Conv2d(nn.Module):
    """Convolution of (batch, frequency, time, channels), square, with ``stride`` over frequency."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int):
        super().__init__()
        self.weight = mx.zeros((outputs, kernel, kernel, inputs))
        self._stride, self._padding = stride, padding

    def __call__(self, x: mx.array) -> mx.array:
        return ops.conv2d(x, self.weight, stride=self._stride, padding=self._padding)


class ScaleShift(nn.Module):
    """A batch norm at inference: x * weight + bias.

    The converter folds the running statistics in, in float64, so that half precision loses no
    small variance.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = mx.ones((channels,))
        self.bias = mx.zeros((channels,))

    def __call__(self, x: mx.array) -> mx.array:
        return x * self.weight + self.bias


def length_mask(lengths: mx.array, time: int) -> mx.array:
    """True for the first ``lengths`` (B,) of ``time`` steps; gives (B, time)."""
    return mx.arange(time) < lengths[:, None]
