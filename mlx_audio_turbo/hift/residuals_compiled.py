"""The residual stacks of the vocoder in compiled kernels, in float32.

Dimensions: T time, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ..ops.compiled import vocoder_kernels as kernels
from ..ops.compiled.panels import Addresses, kept
from ..ops.compiled.tiles import COLUMNS
from ..ops.compiled.vocoder_kernels import MARGIN
from ..ops.fast_math import SINE_SQUARED_SCALE
from ..ops.lanes import for_each, lane_count
from .residuals import Residual, ResidualStack

WINDOW = 1 << 16
"""Values of the window that a task holds: two of them fit the cache of a core."""


def residuals(
    x: mx.array, source: mx.array, of_source: ResidualStack, stacks: Sequence[ResidualStack]
) -> mx.array:
    """Add the source behind its stack to ``x``; the mean of the stacks of the sum.

    All (B, T, C).
    """
    units = kept(of_source, _units)
    branches = [kept(stack, _units) for stack in stacks]
    results: list[mx.array] = []
    for row in range(x.shape[0]):
        start = _to_rows(x[row])
        # The memory of all results: fresh pages take the time of a fifth of the products.
        places = np.zeros_like(start), np.zeros_like(start)
        start += _through(units, _to_rows(source[row]), places)
        total = _through(branches[0], start, places).copy()
        for branch in branches[1:]:
            total += _through(branch, start, places)
        total *= np.float32(1 / len(branches))
        results.append(_from_rows(total))
    return mx.stack(results)


def _units(stack: ResidualStack) -> list[_Unit]:
    return [_Unit(unit) for unit in stack.units]


def _through(
    units: Sequence[_Unit], x: np.ndarray, places: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """(C, T between margins) to the same, in one of two places with zeros in their margins."""
    for i, unit in enumerate(units):
        unit(x, places[i % 2])
        x = places[i % 2]
    return x


class _Unit:
    def __init__(self, unit: Residual):
        conv = unit.conv1.weight
        self._channels, self._taps = conv.shape[0], conv.shape[1]
        self._dilation = 2 * unit.conv1.halo[0] // (self._taps - 1)
        self._weights = Addresses(
            unit.alpha1 * (1 / math.pi),
            SINE_SQUARED_SCALE / (unit.alpha1 + 1e-9),
            unit.conv1.weight,
            unit.conv1.bias,
            unit.alpha2 * (1 / math.pi),
            SINE_SQUARED_SCALE / (unit.alpha2 + 1e-9),
            unit.conv2.weight,
            unit.conv2.bias,
        )

    def __call__(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write the result for ``x`` to ``y``."""
        time = x.shape[1] - 2 * MARGIN
        half = self._taps // 2
        tiles = max(2, WINDOW // self._channels // COLUMNS)
        step = tiles * COLUMNS - 2 * half
        count = -(-time // step)
        size = self._channels * (2 * tiles * COLUMNS + 2 * self._dilation * half + 64)
        scratch = np.empty((lane_count(), size), np.float32)

        def work(lane: int, index: int) -> None:
            start = index * step
            kernels.residual(
                x.ctypes.data, y.ctypes.data, time, self._channels, self._taps, self._dilation,
                start, min(time, start + step), self._weights.array, scratch[lane],
            )  # fmt: skip

        for_each(work, count)


def _to_rows(x: mx.array) -> np.ndarray:
    """(T, C) to (C, T between margins)."""
    values = np.ascontiguousarray(np.asarray(x))
    time, channels = values.shape
    y = np.zeros((channels, time + 2 * MARGIN), np.float32)
    kernels.transpose(
        values.ctypes.data, time, channels, 4 * channels,
        y.ctypes.data + 4 * MARGIN, 4 * y.shape[1],
    )  # fmt: skip
    return y


def _from_rows(x: np.ndarray) -> mx.array:
    """The inverse of :func:`_to_rows`."""
    channels, time = x.shape[0], x.shape[1] - 2 * MARGIN
    y = np.empty((time, channels), np.float32)
    kernels.transpose(
        x.ctypes.data + 4 * MARGIN, channels, time, 4 * x.shape[1], y.ctypes.data, 4 * channels
    )
    return mx.array(y)
