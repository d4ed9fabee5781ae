"""What the tests of a GPU's code path share: trained-like weights, and ledgers of graphs."""

from __future__ import annotations

import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map_with_path

from mlx_audio_turbo.ops import device
from mlx_audio_turbo.presets import TINY

from .helpers import normal

VIEWS = {"Broadcast", "Transpose", "Reshape", "Slice", "ExpandDims", "Squeeze", "Unflatten"}
VIEWS |= {"Flatten", "Split", "AsStrided"}
MADE = {"Full"}
"""What makes the weights of :func:`lazy`."""
NO_KERNEL_ON_CUDA = {"LUF", "QRF", "SVD", "Inverse", "Cholesky", "Eig", "Eigh", "Hadamard", "FFT"}


@contextmanager
def on_cpus_path() -> Iterator[None]:
    """Inside, work takes the CPU's own form whatever is forced."""
    with mock.patch.object(device, "_FORCED", "0"):
        yield


def trained_like(module: nn.Module, seed: int = 0) -> None:
    """Weights of a trained model's magnitudes: Snake's alphas from 0 to 20, gains near 1."""
    rng = np.random.default_rng(seed)

    def sample(name: str, array: mx.array) -> mx.array:
        values = rng.standard_normal(array.shape)
        if "alpha" in name:
            values = np.concatenate([[0, 1e-8, 1e-4], rng.uniform(0, 20, array.shape)])
            values = values[: array.size]
        elif array.ndim == 1:
            values = 0.1 * values + ("norm" in name or "ln_" in name) * ("bias" not in name)
        else:
            values /= np.sqrt(np.prod(array.shape[1:]))
        if name.startswith("conv_out"):
            values = values * 0.3
        return mx.array(values.astype(np.float32))

    module.update(tree_map_with_path(sample, module.parameters()))


def log_mel(frames: int) -> mx.array:
    """(1, frames, 80) from -11.5 to 2."""
    return -4.75 + 6.75 * mx.tanh(normal(1, frames, TINY.s3gen.mels, seed=5))


def ledger(function: Callable[..., mx.array], *arguments: mx.array) -> list[dict]:
    """The primitives of a graph, with the shapes and types of what they make."""
    found: list[dict] = []
    with mock.patch.object(mx, "contiguous", lambda x, *_: x):
        mx.export_function(found.append, function, *arguments)
    return [each for each in found if each["type"] == "primitive"]


def largest(primitives: list[dict]) -> int:
    """Bytes of the largest array that is no view."""
    sizes = [
        int(np.prod(shape)) * dtype.size
        for each in primitives
        if each["name"] not in VIEWS
        for _, shape, dtype in each["outputs"]
    ]
    return max(sizes)


def lazy(module: nn.Module, dtype: mx.Dtype = mx.float16) -> Any:
    """``module`` with weights that are not evaluated.

    Each has a number of its own: a ledger merges operations on equal ones.
    """
    number = itertools.count()

    def weight(_: str, array: mx.array) -> mx.array:
        return mx.full(array.shape, mx.array(next(number), dtype))

    module.update(tree_map_with_path(weight, module.parameters()))
    return module


def evaluated(module: nn.Module, dtype: mx.Dtype = mx.float16) -> Any:
    """``module`` with zeros, whose making is part of no graph."""
    module.update(tree_map_with_path(lambda _, a: mx.zeros(a.shape, dtype), module.parameters()))
    mx.eval(module.parameters())
    return module


@contextmanager
def fused_as_one() -> Iterator[None]:
    """Stand-ins for MLX's fused operations, which are many primitives where the CPU runs them."""

    def attention(q: mx.array, k: mx.array, v: mx.array, **_: Any) -> mx.array:
        return mx.depends([q], [k, v])[0]  # one primitive, after the keys and values are written

    with (
        mock.patch.object(mx.fast, "layer_norm", lambda x, w, b, eps: mx.cumsum(x, -1)),
        mock.patch.object(mx.fast, "scaled_dot_product_attention", attention),
    ):
        yield


def kernels(*results: mx.array) -> Counter[str]:
    """The primitives of the graph of ``results`` that are no views."""
    text = io.StringIO()
    mx.export_to_dot(text, *results)
    names = re.findall(r'label ?= ?"([A-Za-z]+)[^"]*", shape=rect', text.getvalue())
    return Counter(name for name in names if name not in VIEWS)
