"""One step of decoding: the last token of every row in, the scores of its next one out.

The same arithmetic in two forms, chosen by the device: :func:`device_step` is the network itself,
:class:`HostStep` its equal in NumPy for a CPU. Dimensions: B batch, T time, C width, H heads, D
head width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .. import blas, ops
from .cache import KeyValueCache
from .gpt2 import Block
from .model import T3

Step: TypeAlias = Callable[[mx.array, KeyValueCache, Sequence[int]], mx.array]
"""``step(ids, cache, lengths)``: scores (B, V), float32, of what follows ``ids`` (B,).

The cache grows by the position of ``ids``. ``lengths`` counts the positions that each row has of
its own in it: the last ones; what stands before them is padding that nobody looks at.
"""


def step_of(model: T3) -> Step:
    """The step that suits the device that runs new work."""
    weights = [model.speech_emb.weight, model.speech_head.weight]
    plain = all(weight.dtype == mx.float32 for weight in weights)
    return HostStep(model) if plain and not ops.on_gpu() else partial(device_step, model)


def device_step(model: T3, ids: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
    """A :data:`Step` through the network, lazily."""
    offset = cache.offset
    positions = mask = None
    if min(lengths) < offset:
        positions = mx.array(list(lengths))[:, None]
        mask = mx.arange(offset + 1) >= offset - positions[..., None, None]
    hidden = model(model.embed_speech(ids[:, None]), cache=cache, positions=positions, mask=mask)
    return model.logits(hidden[:, -1])


class HostStep:
    """A :data:`Step` in NumPy, at once, on views of the model's own arrays.

    A token is one product of a row with every weight, and small things between. MLX spends 6 µs on
    each of the 2,200 primitives of a step on the CPU, which takes as long as the weights take from
    memory, and its product knows matrices only; NumPy spends 1 µs on a quarter as many, and has the
    product of matrix and vector. Turbo on two cores with 48 GB/s: 51 ms a token there, 30 here, of
    which 25 are the weights' way.
    """

    def __init__(self, model: T3):
        self._embeddings = np.asarray(model.speech_emb.weight)
        self._positions = np.asarray(model.tfmr.wpe.weight)
        self._layers = [_Layer(block, model.config.heads) for block in model.tfmr.h]
        self._norm, self._head = _Norm(model.tfmr.ln_f), _Linear(model.speech_head)

    def __call__(self, ids: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        positions, offset = np.asarray(lengths), cache.offset
        padding = [offset - length for length in lengths]
        with blas.numpy_threads():
            x = self._embeddings[np.asarray(ids)] + self._positions[positions]
            for layer, held in zip(self._layers, cache.layers, strict=True):
                x = layer(x, *held.append_in_place(), padding)
            return mx.array(self._head(self._norm(x)))


class _Linear:
    def __init__(self, module: nn.Linear):
        self._weight, self._bias = np.asarray(module.weight), np.asarray(module.bias)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(B, inputs) to (B, outputs)."""
        # The weight first: eight rows then take 45 ms where x @ W.T takes 57.
        return (self._weight @ x.T).T + self._bias


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
    """A :class:`~.gpt2.Block` for one position of every row."""

    def __init__(self, block: Block, heads: int):
        self._heads = heads
        self._norm1, self._norm2 = _Norm(block.ln_1), _Norm(block.ln_2)
        self._qkv, self._out = _Linear(block.attn.c_attn), _Linear(block.attn.c_proj)
        self._linear1, self._linear2 = _Linear(block.mlp.c_fc), _Linear(block.mlp.c_proj)

    def __call__(
        self, x: np.ndarray, keys: np.ndarray, values: np.ndarray, padding: Sequence[int]
    ) -> np.ndarray:
        """(B, C) to the same.

        Args:
            keys, values: (B, H, T, D) of all positions; this one's, the last, are written here.
            padding: positions at the start of each row that it does not see.
        """
        qkv = self._qkv(self._norm1(x)).reshape(len(x), 3, self._heads, -1)
        q, keys[:, :, -1], values[:, :, -1] = qkv.swapaxes(0, 1)
        scores = (keys @ (q * q.shape[-1] ** -0.5)[..., None])[..., 0]
        for row, hidden in zip(scores, padding, strict=True):
            row[:, :hidden] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        x = x + self._out((scores[:, :, None] @ values).reshape(x.shape))
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
