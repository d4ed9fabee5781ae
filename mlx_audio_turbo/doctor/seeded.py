"""Numbers that are the same bits on every machine: weights, inputs and ids from a name."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

GAINS = (
    (r"conv_out\.weight$", 0.5),  # the logarithm of the magnitude stays moderate
    (r"units\.\d+\.conv2\.weight$", 0.3),  # residual units add up
    (r"wpe\.weight$", 0.1),
    (r"f0\.linear\.weight$", 80.0),  # F0 in the range of speech
)
"""Factors for the weights that a pattern matches, so that every activation stays moderate."""


def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    """Float32 in [-1, 1), from the raw bits of a Philox generator keyed by ``name``."""
    count = math.prod(shape)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(-(-count // 2)).astype("<u8").view("<u4")
    values = (raw[:count] >> np.uint32(8)).astype(np.float32)
    return (values * np.float32(2**-23) - np.float32(1)).reshape(shape)


def spread(name: str, *shape: int) -> np.ndarray:
    """Float32 of variance 1 and mean 0, uniform."""
    return uniform(name, shape) * np.float32(math.sqrt(3))


def ids(name: str, count: int, *, below: int) -> np.ndarray:
    """(count,) int32 from 0 up to ``below``."""
    return ((uniform(name, (count,)) + 1) * 0.5 * below).astype(np.int32)


def fill(network: nn.Module, name: str, dtype: mx.Dtype = mx.float32) -> None:
    """Give every parameter seeded values that depend on its name.

    Matrices and kernels keep the variance of their input, gains are near 1, biases near 0.
    """
    flat: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # pyright: ignore
    network.load_weights(
        [
            (key, mx.array(_values(f"{name}.{key}", array.shape)).astype(dtype))
            for key, array in flat
        ],
        strict=True,
    )
    mx.eval(network.parameters())


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = uniform(name, shape)
    if len(shape) < 2:
        last = name.rpartition(".")[2]
        if last.startswith("alpha"):
            return 1 + 0.9 * values
        return 0.1 * values + (last == "weight")
    gain = next((gain for pattern, gain in GAINS if re.search(pattern, name)), 1.0)
    fan_in = 1 if "emb" in name else math.prod(shape[1:])
    return values * np.float32(gain * math.sqrt(3 / fan_in))
