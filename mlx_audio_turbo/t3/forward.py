"""T3 from embeddings to the scores of the next token, in the form that suits the device.

The same arithmetic twice: :func:`on_device` is the network itself, :class:`OnHost` its equal in
NumPy for a CPU. Dimensions: B batch, T time, L time with what came before, C width, H heads, D head
width, V speech ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .. import ops
from ..config import T3Config
from ..ops import blas
from .cache import KeyValueCache, LayerCache
from .gpt2 import MLP, Attention, Block
from .turbo import T3

MOST_SHARES = 8
"""Cores that share a step at most: by then memory is what there is too little of."""
SLOPE = math.sqrt(2 / math.pi)

Forward: TypeAlias = Callable[[mx.array, KeyValueCache, Sequence[int]], mx.array]
"""``forward(x, cache, lengths)``: scores (B, V), float32, of what follows ``x`` (B, T, C).

The cache grows by ``x``. ``lengths`` counts the positions that each row had in it of its own: the
last ones; what stands before them is padding that nobody looks at.
"""


def forward_of(model: T3) -> Forward:
    """The form for the device that runs new work."""
    plain = model.speech_emb.weight.dtype == model.speech_head.weight.dtype == mx.float32
    return OnHost(model) if plain and not ops.on_gpu() else partial(on_device, model)


def on_device(model: T3, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
    """A :data:`Forward` through the network, lazily."""
    offset, time = cache.offset, x.shape[1]
    positions = mask = None
    if min(lengths) < offset:
        own = mx.array(list(lengths))[:, None]
        positions = own + mx.arange(time)
        key, query = mx.arange(offset + time), mx.arange(offset, offset + time)[:, None]
        mask = ((key >= (offset - own)[..., None]) & (key <= query))[:, None]
    hidden = model(x, cache=cache, positions=positions, mask=mask)
    return model.logits(hidden[:, -1])


class OnHost:
    """A :data:`Forward` in NumPy, at once, on views of the model's own arrays.

    A token is one product of a row with every weight, and small things between. MLX spends 6 µs on
    each of the 2,200 primitives of a step on the CPU, which takes as long as the weights take from
    memory, and its product knows matrices only; NumPy spends 1 µs on a quarter as many, and has the
    product of matrix and vector. Turbo on two cores with 48 GB/s: 51 ms a token there, 33 here, of
    which 25 are the weights' way.

    Each core takes some of the heads and of the hidden units, so that the cores meet twice a layer.
    OpenBLAS's own threads meet at every product, and wait for each other in a loop that gives way
    to whoever else wants the processor: beside a busy program a token took eight times as long.
    """

    def __init__(self, model: T3):
        config = model.config
        shares = min(blas.cores(), MOST_SHARES, config.heads)
        self._positions = np.asarray(model.tfmr.wpe.weight)
        self._layers = [_Layer(block, config, shares) for block in model.tfmr.h]
        self._norm = _Norm(model.tfmr.ln_f)
        weight = np.asarray(model.speech_head.weight)
        self._head = [weight[some] for some in _shares(len(weight), shares)]
        self._bias = np.asarray(model.speech_head.bias)

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        padding = [cache.offset - length for length in lengths]
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        with blas.one_thread():
            y = np.asarray(x) + self._positions[positions]
            for layer, held in zip(self._layers, cache.layers, strict=True):
                y = layer(y, held, padding)
            last = self._norm(y[:, -1])
            scores = _together([partial(_product, weight, last) for weight in self._head])
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
        """(B, T, C) to the same; ``padding`` (B,) counts positions that a row does not see."""
        batch, time, _ = x.shape
        held = cache.append_in_place((batch, self._heads, time, self._head_dim))
        y = self._norm1(x)
        shares = _together([partial(some, y, *held, padding) for some in self._attention])
        x = sum(shares, x + self._bias1)
        y = self._norm2(x)
        return sum(_together([partial(some, y) for some in self._feed_forward]), x + self._bias2)


class _Attention:
    """Some heads' share of a :class:`~.gpt2.Attention`, but for the last bias."""

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
    """Some hidden units' share of a :class:`~.gpt2.MLP`, but for the last bias."""

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
    # The weight first: OpenBLAS is then quicker with few rows, by a fifth with eight.
    return (weight @ x.reshape(-1, x.shape[-1]).T).T.reshape(*x.shape[:-1], -1)


def _shares(count: int, shares: int) -> list[slice]:
    """The range of ``count`` in about equal parts."""
    return [slice(count * i // shares, count * (i + 1) // shares) for i in range(shares)]


def _together(tasks: Sequence[Callable[[], np.ndarray]]) -> list[np.ndarray]:
    """The results of all, the first made here and the others by threads."""
    others = [_threads().submit(task) for task in tasks[1:]]
    return [tasks[0](), *(other.result() for other in others)]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST_SHARES, thread_name_prefix="mlx_audio_turbo")
