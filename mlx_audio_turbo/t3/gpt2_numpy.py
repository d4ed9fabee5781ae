"""GPT-2 in NumPy, for float32 on a CPU: the arithmetic of :mod:`.gpt2`, without a graph.

Dimensions: B batch, T time, C width.
"""

from __future__ import annotations

import math

import mlx.nn as nn
import numpy as np

from ..config import T3Config
from .gpt2 import GPT2, MLP, Block
from .gpt2 import Attention as MLXAttention
from .transformer_numpy import Attention, Layer, Linear, NumpyForward, split, threads

SLOPE = math.sqrt(2 / math.pi)


def gpt2_forward(transformer: GPT2, head: nn.Linear, config: T3Config) -> NumpyForward:
    """The forward pass of ``transformer`` and ``head``, float32, on views of their arrays."""
    positions = np.asarray(transformer.wpe.weight)

    def place(x: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, None]:
        return x + positions[at], None

    layers = [_layer(block, config) for block in transformer.h]
    return NumpyForward(place, layers, LayerNorm(transformer.ln_f), head)


def _layer(block: Block, config: T3Config) -> Layer:
    shares, units = threads(config.heads), block.mlp.c_fc.bias.size
    return Layer(
        [_attention(block.attn, config, heads) for heads in split(config.heads, shares)],
        [FeedForward(block.mlp, some) for some in split(units, shares)],
        (LayerNorm(block.ln_1), LayerNorm(block.ln_2)),
        (np.asarray(block.attn.c_proj.bias), np.asarray(block.mlp.c_proj.bias)),
    )


def _attention(attention: MLXAttention, config: T3Config, heads: slice) -> Attention:
    width = config.width
    channels = slice(heads.start * config.head_dim, heads.stop * config.head_dim)
    weights = np.asarray(attention.c_attn.weight).reshape(3, width, width)[:, channels]
    biases = np.asarray(attention.c_attn.bias).reshape(3, width)[:, channels]
    query, key, value = map(Linear, weights, biases)
    return Attention(
        heads, query, key, value, Linear(np.asarray(attention.c_proj.weight)[:, channels])
    )


class FeedForward:
    """Some hidden units of a :class:`~.gpt2.MLP`, without the last bias."""

    def __init__(self, mlp: MLP, units: slice):
        weight, bias = (np.asarray(each)[units] for each in (mlp.c_fc.weight, mlp.c_fc.bias))
        self.enter = Linear(weight, bias)
        self.leave = Linear(np.asarray(mlp.c_proj.weight)[:, units])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(B, T, C) to the same."""
        x = self.enter(x)
        # The tanh form of GELU, in place: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x ** 3))).
        u = x * x
        u *= SLOPE * 0.044715
        u += SLOPE
        u *= x
        np.tanh(u, out=u)
        u += 1
        u *= x
        u *= 0.5
        return self.leave(u)


class LayerNorm:
    """An ``nn.LayerNorm``."""

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
