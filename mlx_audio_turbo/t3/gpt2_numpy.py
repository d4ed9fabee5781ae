"""GPT-2 in NumPy, for float32 on a CPU: the arithmetic of :mod:`.gpt2`, without a graph.

Dimensions: B batch, T time, C width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mlx.nn as nn
import numpy as np

from ..config import T3Config
from .gpt2 import GPT2, Block
from .transformer_numpy import Attention, Layer, Linear, NumpyForward, split, threads

SLOPE = math.sqrt(2 / math.pi)


def gpt2_forward(transformer: GPT2, head: nn.Linear, config: T3Config) -> NumpyForward:
    """The forward pass of ``transformer`` and ``head``, float32, on views of their arrays."""
    positions = np.asarray(transformer.wpe.weight)

    def place(x: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, None]:
        return x + positions[at], None

    layers = [make_layer(BlockWeights.of(block), config) for block in transformer.h]
    return NumpyForward(place, layers, LayerNorm(transformer.ln_f), head)


class BlockWeights(NamedTuple):
    """The parameters of a :class:`~.gpt2.Block` in float32; a linear layer is (weight, bias)."""

    norms: tuple[LayerNorm, LayerNorm]
    qkv: tuple[np.ndarray, np.ndarray]
    out: tuple[np.ndarray, np.ndarray]
    fc: tuple[np.ndarray, np.ndarray]
    proj: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, block: Block) -> BlockWeights:
        """Views of the block's own arrays."""
        norms = LayerNorm(block.ln_1), LayerNorm(block.ln_2)
        layers = (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        pairs = ((np.asarray(layer.weight), np.asarray(layer.bias)) for layer in layers)
        return cls(norms, *pairs)


def make_layer(weights: BlockWeights, config: T3Config) -> Layer:
    """The layer with these weights, which are not copied."""
    shares, units = threads(config.heads), weights.fc[1].size
    return Layer(
        [_attention(weights, config, heads) for heads in split(config.heads, shares)],
        [FeedForward(weights, some) for some in split(units, shares)],
        weights.norms,
        (weights.out[1], weights.proj[1]),
    )


def _attention(block: BlockWeights, config: T3Config, heads: slice) -> Attention:
    width = config.width
    channels = slice(heads.start * config.head_dim, heads.stop * config.head_dim)
    weights = block.qkv[0].reshape(3, width, width)[:, channels]
    biases = block.qkv[1].reshape(3, width)[:, channels]
    query, key, value = map(Linear, weights, biases)
    return Attention(heads, query, key, value, Linear(block.out[0][:, channels]))


class FeedForward:
    """Some hidden units of a :class:`~.gpt2.MLP`, without the last bias."""

    def __init__(self, block: BlockWeights, units: slice):
        self.enter = Linear(block.fc[0][units], block.fc[1][units])
        self.leave = Linear(block.proj[0][:, units])

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
        self.weight, self.bias = np.asarray(module.weight), np.asarray(module.bias)
        self._eps = module.eps

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(x).mean(axis=-1, keepdims=True)
        x /= np.sqrt(variance + self._eps)
        x *= self.weight
        x += self.bias
        return x
