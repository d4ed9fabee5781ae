"""T3 from embeddings to the scores of the next token, in the form that suits the device.

The same arithmetic twice: :func:`on_device` is the network itself, :class:`OnHost` its equal in
NumPy for a CPU. Dimensions: B batch, T time, L time with what came before, C width, H heads, D head
width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .. import blas, ops
from .cache import KeyValueCache, LayerCache
from .gpt2 import Block
from .model import T3

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
    product of matrix and vector. Turbo on two cores with 48 GB/s: 51 ms a token there, 28 here, of
    which 25 are the weights' way. A text of 40 tokens: 263 ms there, 150 here; a voice's 376
    positions: 1.1 s there, 0.8 here, most of it for NumPy's exp and tanh.
    """

    def __init__(self, model: T3):
        blas.settle_numpy()
        self._positions = np.asarray(model.tfmr.wpe.weight)
        self._layers = [_Layer(block, model.config.heads) for block in model.tfmr.h]
        self._norm, self._head = _Norm(model.tfmr.ln_f), _Linear(model.speech_head)

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        padding = [cache.offset - length for length in lengths]
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        y = np.asarray(x) + self._positions[positions]
        for layer, held in zip(self._layers, cache.layers, strict=True):
            y = layer(y, held, padding)
        return mx.array(self._head(self._norm(y[:, -1])))


class _Linear:
    def __init__(self, module: nn.Linear):
        self._weight, self._bias = np.asarray(module.weight), np.asarray(module.bias)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(..., inputs) to (..., outputs)."""
        # The weight first: OpenBLAS is then quicker with few rows, by a fifth with eight.
        y = (self._weight @ x.reshape(-1, x.shape[-1]).T).T
        return (y + self._bias).reshape(*x.shape[:-1], -1)


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


class _Layer:
    """A :class:`~.gpt2.Block`."""

    def __init__(self, block: Block, heads: int):
        self._heads = heads
        self._norm1, self._norm2 = _Norm(block.ln_1), _Norm(block.ln_2)
        self._qkv, self._out = _Linear(block.attn.c_attn), _Linear(block.attn.c_proj)
        self._linear1, self._linear2 = _Linear(block.mlp.c_fc), _Linear(block.mlp.c_proj)

    def __call__(self, x: np.ndarray, cache: LayerCache, padding: Sequence[int]) -> np.ndarray:
        """(B, T, C) to the same; ``padding`` (B,) counts positions that a row does not see."""
        batch, time, _ = x.shape
        qkv = self._qkv(self._norm1(x)).reshape(batch, time, 3, self._heads, -1)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each (B, H, T, D)
        keys, values = cache.append_in_place(k.shape)  # (B, H, L, D)
        keys[:, :, -time:], values[:, :, -time:] = k, v
        scores = (q * q.shape[-1] ** -0.5) @ keys.swapaxes(2, 3)
        if time > 1:
            scores[..., -time:] += np.triu(np.full((time, time), -np.inf, np.float32), 1)
        for row, hidden in zip(scores, padding, strict=True):
            row[..., :hidden] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        y = (scores @ values) / scores.sum(axis=-1, keepdims=True)
        x = x + self._out(y.swapaxes(1, 2).reshape(x.shape))
        return x + self._linear2(_gelu_tanh(self._linear1(self._norm2(x))))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    u = x * x
    u *= 0.7978845608028654 * 0.044715
    u += 0.7978845608028654
    u *= x
    np.tanh(u, out=u)
    u += 1
    u *= x
    u *= 0.5
    return u
