"""The residual stacks of the vocoder: dilated convolutions with Snake between them.

Dimensions: B batch, T time, C channels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from .. import ops
from ..ops import parallel
from ..ops.layers import Conv1d


class Residual(nn.Module):
    """Snake, dilated convolution, snake, convolution, added to the input."""

    def __init__(self, channels: int, kernel: int, dilation: int):
        super().__init__()
        half = kernel // 2
        self.alpha1 = mx.ones((channels,))
        self.conv1 = Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * half)
        self.alpha2 = mx.ones((channels,))
        self.conv2 = Conv1d(channels, channels, kernel, padding=half)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, C) to the same."""
        return parallel.map_windows(
            self._branch, x, self.conv1.halo, self.conv2.halo, residual=True
        )

    def _branch(self, x: mx.array, padding1: parallel.Halo, padding2: parallel.Halo) -> mx.array:
        x = self.conv1(ops.snake(x, self.alpha1), padding=padding1)
        return self.conv2(ops.snake(x, self.alpha2), padding=padding2)


class ResidualStack(nn.Module):
    """One :class:`Residual` per dilation."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]):
        super().__init__()
        self.units = [Residual(channels, kernel, dilation) for dilation in dilations]

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, C) to the same."""
        for unit in self.units:
            x = unit(x)
        return x


def residuals(
    x: mx.array, source: mx.array, of_source: ResidualStack, stacks: Sequence[ResidualStack]
) -> mx.array:
    """Add the source behind its stack to ``x``; the mean of the stacks of the sum."""
    x = x + of_source(source)
    return functools.reduce(mx.add, [stack(x) for stack in stacks]) / len(stacks)
