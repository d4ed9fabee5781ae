"""A transformer in NumPy, for float32 on a CPU: what GPT-2 and Llama have in common.

Dimensions: B batch, T time, L time with the cache, C width, H heads, D head width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeAlias, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..ops import blas
from .cache import KeyValueCache, LayerCache
from .interface import AtOnce

MAX_THREADS = 8
"""With more cores than this memory bandwidth is the limit."""
FEW_ROWS = 3
"""Up to so many rows, products of matrix and vector beat that of two matrices."""
BLOCK = 1 << 17
"""Weights in one product of several rows: 512 KB stay in a core's cache for the next row."""
Function: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""(..., C) to (..., C')."""


@dataclass(frozen=True)
class Step:
    """What all layers need to know of one call.

    padding: (B,), how many of the first positions of each row are masked.
    rotate: the rotary embedding of queries and keys (B, H, T, D); None without one.
    """

    padding: Sequence[int]
    rotate: Function | None = None


Placed: TypeAlias = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, Function | None]]
"""Embeddings (B, T, C) and their positions (B, T) to the first layer's input and ``rotate``."""


class NumpyForward(AtOnce):
    """A :data:`~.interface.Forward` that runs at once, on views of the model's own arrays.

    A step is a product of a row or two with every weight, and many small operations. On a CPU MLX
    needs several times NumPy's time per operation, and multiplies matrices only, where NumPy has
    the product of matrix and vector.

    Each thread computes some of the heads and some of the hidden units, so that the threads
    synchronise twice a layer. OpenBLAS's own threads synchronise at every product and spin while
    they wait, which makes them slow beside other busy processes.

    Args:
        place: what the positions do.
        norm: the last one.
    """

    def __init__(self, place: Placed, layers: Sequence[Layer], norm: Function, head: nn.Linear):
        self._place, self.layers, self._norm = place, layers, norm
        weight = np.asarray(head.weight)
        shares = len(layers[0].attention)
        self._head = [Linear(weight[some]) for some in split(len(weight), shares)]
        self._bias = np.asarray(head.bias) if "bias" in head else None

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        with blas.one_thread():
            y, rotate = self._place(np.asarray(x), positions)
            step = Step([cache.offset - length for length in lengths], rotate)
            for layer, held in zip(self.layers, cache.layers, strict=True):
                y = layer(y, held, step)
            last = self._norm(y[:, -1])
            scores = np.concatenate(parallel([partial(some, last) for some in self._head]), -1)
        return mx.array(scores if self._bias is None else scores + self._bias)


@dataclass(frozen=True)
class Layer:
    """Attention and feed-forward, each after a norm and in shares, beside a residual connection.

    biases: what each of the two sums of shares lacks.
    """

    attention: Sequence[Attention]
    feed_forward: Sequence[Function]
    norms: tuple[Function, Function]
    biases: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, x: np.ndarray, cache: LayerCache, step: Step) -> np.ndarray:
        """(B, T, C) to the same."""
        batch, time, width = x.shape
        heads = self.attention[-1].heads.stop
        held = cache.append_in_place((batch, heads, time, width // heads))
        y = self.norms[0](x)
        shares = parallel([partial(some, y, *held, step) for some in self.attention])
        x = sum(shares, x if self.biases is None else x + self.biases[0])
        y = self.norms[1](x)
        shares = parallel([partial(some, y) for some in self.feed_forward])
        return sum(shares, x if self.biases is None else x + self.biases[1])


@dataclass(frozen=True)
class Attention:
    """Causal self-attention of some heads, without the bias of the projection ``out``."""

    heads: slice
    query: Linear
    key: Linear
    value: Linear
    out: Linear

    def __call__(
        self, x: np.ndarray, keys: np.ndarray, values: np.ndarray, step: Step
    ) -> np.ndarray:
        """(B, T, C) to the same; writes the last T of ``keys`` and ``values`` (B, H, L, D)."""
        batch, time, _ = x.shape
        keys, values = keys[:, self.heads], values[:, self.heads]
        q, k, v = (
            each(x).reshape(batch, time, keys.shape[1], -1).swapaxes(1, 2)
            for each in (self.query, self.key, self.value)
        )
        if step.rotate is not None:
            q, k = step.rotate(q), step.rotate(k)
        keys[:, :, -time:], values[:, :, -time:] = k, v
        scores = (q * q.shape[-1] ** -0.5) @ keys.swapaxes(2, 3)
        if time > 1:
            scores[..., -time:] += np.triu(np.full((time, time), -np.inf, np.float32), 1)
        for row, hidden in zip(scores, step.padding, strict=True):
            row[..., :hidden] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        y = (scores @ values) / scores.sum(axis=-1, keepdims=True)
        return self.out(y.swapaxes(1, 2).reshape(batch, time, -1))


@dataclass(frozen=True)
class Linear:
    """``weight`` (outputs, inputs) times each row (..., inputs), plus ``bias`` (outputs,)."""

    weight: np.ndarray
    bias: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        rows = x.reshape(-1, x.shape[-1])
        # The weight comes first: OpenBLAS is then faster with few rows.
        few = 1 < len(rows) <= FEW_ROWS
        y = self._row_by_row(rows) if few else (self.weight @ rows.T).T
        y = y.reshape(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias

    def _row_by_row(self, rows: np.ndarray) -> np.ndarray:
        # OpenBLAS's product of two matrices takes three times that of one vector for two rows.
        outputs, inputs = self.weight.shape
        y, step = np.empty((len(rows), outputs), np.float32), max(1, BLOCK // inputs)
        for start in range(0, outputs, step):
            block = self.weight[start : start + step]
            for row, out in zip(rows, y[:, start : start + step], strict=True):
                np.matmul(block, row, out=out)
        return y


class Rows:
    """Rows of an embedding's table in float32, looked up where MLX's own array lies."""

    def __init__(self, table: nn.Embedding):
        weight = table.weight
        self._bits = weight.dtype == mx.bfloat16
        self._rows = np.asarray(weight.view(mx.uint16) if self._bits else weight)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """(..., C) of ids (...)."""
        found = self._rows[ids]
        if self._bits:
            return (found.astype(np.uint32) << 16).view(np.float32)
        return found.astype(np.float32, copy=False)


def takes_numpy(*modules: nn.Module) -> bool:
    """Whether the weights of all modules are float32."""
    return all(
        array.dtype == mx.float32
        for module in modules
        for _, array in cast(list[tuple[str, mx.array]], tree_flatten(module.parameters()))
    )


def threads(heads: int) -> int:
    """How many shares the work of so many heads is split into."""
    return min(blas.cores(), MAX_THREADS, heads)


def split(count: int, shares: int) -> list[slice]:
    """``range(count)`` in about equal slices."""
    return [slice(count * i // shares, count * (i + 1) // shares) for i in range(shares)]


def parallel(tasks: Sequence[Callable[[], np.ndarray]]) -> list[np.ndarray]:
    """The results of all tasks: the first runs here, the others in threads."""
    others = [pool().submit(task) for task in tasks[1:]]
    return [tasks[0](), *(other.result() for other in others)]


@cache
def pool() -> ThreadPoolExecutor:
    """The threads beside the caller's own."""
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="mlx_audio_turbo")
