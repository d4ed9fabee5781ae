"""Random weights for the F0 predictor that give voiced and unvoiced stretches for any mel.

Plain random weights put F0 near 0.02 Hz, so that the harmonic source never runs. Here F0 is 2 Hz
plus a weighted sum of (feature + 1): exactly 2 Hz, clearly unvoiced, where every feature of the
last convolution lies on ELU's floor of -1. A few equal gate channels in the convolution before it
drive all features to that floor or leave them alone. Their input is the derivative in time of the
features below, so that both cases occur at any level of the mel. Elsewhere F0 is 115 +- 42 Hz.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Normal = Callable[..., np.ndarray]
"""(what, *shape) to float64 values of mean 0 and deviation 1; each ``what`` has its own values."""

GATES = 8
_RISE = 150 / 3.8
"""Hz; what the carriers add to the plateau on average."""
_PLATEAU = 2.0


def draw(name: str, shape: tuple[int, ...], normal: Normal) -> np.ndarray:
    """The tensor ``name``, given below ``f0_predictor.``, in float64."""
    if name == "classifier.weight":
        return _classifier(shape, normal)
    if name == "classifier.bias":
        # where all features are -1 the weights, which sum to _RISE, are taken off again
        return np.full(shape, _RISE + _PLATEAU)
    _, index, *leaf = name.split(".")
    layer = int(index) // 2
    values = normal("", *shape)
    if leaf == ["bias"]:
        values *= 0.1
        if layer == 3:
            values[:GATES] -= 1
    elif leaf[-1] == "original0":
        values = 1 + 0.058 * values
        if layer == 3:
            values[:GATES] *= 5
    else:
        _shape_direction(values, layer, normal)
    return values


def _shape_direction(values: np.ndarray, layer: int, normal: Normal) -> None:
    inputs = values.shape[1]
    if layer < 3:
        # alike in the three taps: smooth in time
        values *= 0.6
        values += 0.8 * normal("level", *values.shape[:2], 1)
    if layer == 0:
        # independent of the mel's mean level
        values -= values.mean(axis=1, keepdims=True)
    if layer == 3:
        derivative = normal("gate", inputs)
        values[:GATES] *= 0.03
        values[:GATES, :, 0] += derivative
        values[:GATES, :, 2] -= derivative
    if layer == 4:
        values[:, :GATES] *= 0.1
        values[: len(values) // 2] *= 0.2
        values[:, :GATES, 1] -= math.sqrt(3 * inputs / GATES)


def _classifier(shape: tuple[int, ...], normal: Normal) -> np.ndarray:
    half = shape[1] // 2
    values = normal("", *shape)
    for part in (values[:, :half], values[:, half:]):
        part -= part.mean()
    values *= 10 / math.sqrt(half)
    values[:, :half] *= 0.1
    values[:, :half] += _RISE / half
    return values
