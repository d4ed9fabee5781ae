"""GPT-2 in NumPy, for float32 on a CPU: the arithmetic of :mod:`.gpt2`, without a graph.

Dimensions: B batch, T time, L time with the cache, C width, H heads, D head width, V speech ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import T3Config
from ..ops import blas
from .cache import KeyValueCache, LayerCache
from .gpt2 import GPT2, MLP, Attention, Block

MAX_THREADS = 8
"""With more cores than this memory bandwidth is the limit."""
SLOPE = math.sqrt(2 / math.pi)


class NumpyForward:
    """A :data:`~.interface.Forward` that runs at once, on views of the model's own arrays.

    A step is a product of one row with every weight, and many small operations. On a CPU MLX needs
    several times NumPy's time per operation, and multiplies matrices only, where NumPy has the
    product of matrix and vector; a token takes about two thirds of MLX's time.

    Each thread computes some of the heads and some of the hidden units, so that the threads
    synchronise twice a layer. OpenBLAS's own threads synchronise at every product and spin while
    they wait, which makes them slow beside other busy processes.
    """

    def __init__(self, transformer: GPT2, head: nn.Linear, config: T3Config):
        shares = min(blas.cores(), MAX_THREADS, config.heads)
        self._positions = np.asarray(transformer.wpe.weight)
        self._layers = [_Layer(block, config, shares) for block in transformer.h]
        self._norm = _Norm(transformer.ln_f)
        weight = np.asarray(head.weight)
        self._head = [weight[some] for some in _shares(len(weight), shares)]
        self._bias = np.asarray(head.bias)

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        padding = [cache.offset - length for length in lengths]
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        with blas.one_thread():
            y = np.asarray(x) + self._positions[positions]
            for layer, held in zip(self._layers, cache.layers, strict=True):
                y = layer(y, held, padding)
            last = self._norm(y[:, -1])
            scores = _run_parallel([partial(_product, weight, last) for weight in self._head])
        return mx.array(np.concatenate(scores, axis=-1) + self._bias)


class _Layer:
    """A :class:`~.gpt2.Block`."""

    def __init__(self, block: Block, config: T3Config, shares: int):
        units = block.mlp.c_fc.bias.size
        self._heads, self._head_dim = config.heads, config.head_dim
        self._norm1, self._norm2 = _Norm(block.ln_1), _Norm(block.ln_2)
        self._attention = [
            _Attention(block.attn, config, heads) for heads in _shares(config.heads, shares)
        ]
        self._feed_forward = [_FeedForward(block.mlp, some) for some in _shares(units, shares)]
        self._bias1 = np.asarray(block.attn.c_proj.bias)
        self._bias2 = np.asarray(block.mlp.c_proj.bias)

    def __call__(self, x: np.ndarray, cache: LayerCache, padding: Sequence[int]) -> np.ndarray:
        """(B, T, C) to the same; ``padding`` (B,) counts the first positions, which are masked."""
        batch, time, _ = x.shape
        held = cache.append_in_place((batch, self._heads, time, self._head_dim))
        y = self._norm1(x)
        shares = _run_parallel([partial(some, y, *held, padding) for some in self._attention])
        x = sum(shares, x + self._bias1)
        y = self._norm2(x)
        return sum(
            _run_parallel([partial(some, y) for some in self._feed_forward]), x + self._bias2
        )


class _Attention:
    """Some heads of a :class:`~.gpt2.Attention`, without the last bias."""

    def __init__(self, attention: Attention, config: T3Config, heads: slice):
        self._heads, width = heads, config.width
        channels = slice(heads.start * config.head_dim, heads.stop * config.head_dim)
        weights = np.asarray(attention.c_attn.weight).reshape(3, width, width)[:, channels]
        biases = np.asarray(attention.c_attn.bias).reshape(3, width)[:, channels]
        self._qkv = list(zip(weights, biases, strict=True))
        self._out = np.asarray(attention.c_proj.weight)[:, channels]
        self._scale = config.head_dim**-0.5

    def __call__(
        self, x: np.ndarray, keys: np.ndarray, values: np.ndarray, padding: Sequence[int]
    ) -> np.ndarray:
        """(B, T, C) to the same; writes the last T of ``keys`` and ``values`` (B, H, L, D)."""
        batch, time, _ = x.shape
        keys, values = keys[:, self._heads], values[:, self._heads]
        q, keys[:, :, -time:], values[:, :, -time:] = (
            (_product(weight, x) + bias).reshape(batch, time, keys.shape[1], -1).swapaxes(1, 2)
            for weight, bias in self._qkv
        )
        scores = (q * self._scale) @ keys.swapaxes(2, 3)
        if time > 1:
            scores[..., -time:] += np.triu(np.full((time, time), -np.inf, np.float32), 1)
        for row, hidden in zip(scores, padding, strict=True):
            row[..., :hidden] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        y = (scores @ values) / scores.sum(axis=-1, keepdims=True)
        return _product(self._out, y.swapaxes(1, 2).reshape(batch, time, -1))


class _FeedForward:
    """Some hidden units of a :class:`~.gpt2.MLP`, without the last bias."""

    def __init__(self, mlp: MLP, units: slice):
        self._weight1 = np.asarray(mlp.c_fc.weight)[units]
        self._bias1 = np.asarray(mlp.c_fc.bias)[units]
        self._weight2 = np.asarray(mlp.c_proj.weight)[:, units]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(B, T, C) to the same."""
        x = _product(self._weight1, x) + self._bias1
        # The tanh form of GELU, in place: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x ** 3))).
        u = x * x
        u *= SLOPE * 0.044715
        u += SLOPE
        u *= x
        np.tanh(u, out=u)
        u += 1
        u *= x
        u *= 0.5
        return _product(self._weight2, u)


class _Norm:
    def __init__(self, module: nn.LayerNorm):
        self._weight, self._bias = np.asarray(module.weight), np.asarray(module.bias)
        self._eps = module.eps

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(x).mean(axis=-1, keepdims=True)
        x /= np.sqrt(variance + self._eps)
        x *= self._weight
        x += self._bias
        return x


def _product(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``weight`` (outputs, inputs) times each row of ``x`` (..., inputs)."""
    # The weight comes first: OpenBLAS is then faster with few rows.
    return (weight @ x.reshape(-1, x.shape[-1]).T).T.reshape(*x.shape[:-1], -1)


def _shares(count: int, shares: int) -> list[slice]:
    """``range(count)`` in about equal slices."""
    return [slice(count * i // shares, count * (i + 1) // shares) for i in range(shares)]


def _run_parallel(tasks: Sequence[Callable[[], np.ndarray]]) -> list[np.ndarray]:
    """The results of all tasks: the first runs here, the others in threads."""
    others = [_threads().submit(task) for task in tasks[1:]]
    return [tasks[0](), *(other.result() for other in others)]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="mlx_audio_turbo")
