"""Llama in NumPy, for float32 on a CPU: the arithmetic of mlx-lm's, without a graph.

Dimensions: B batch, T time, C width, H heads, D head width.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.llama import LlamaModel, TransformerBlock

from ..config import OriginalT3Config
from .transformer_numpy import Attention, Function, Layer, Linear, NumpyForward, split, threads


def llama_forward(
    transformer: LlamaModel, head: nn.Linear, config: OriginalT3Config
) -> NumpyForward:
    """The forward pass of ``transformer`` and ``head``, float32, on views of their arrays."""
    frequencies = rotary_frequencies(config)

    def place(x: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, Function]:
        return x, rotation(*cosines_and_sines(positions, frequencies))

    layers = [make_layer(BlockWeights.of(block), config) for block in transformer.layers]
    return NumpyForward(place, layers, RMSNorm(transformer.norm), head)


def rotary_frequencies(config: OriginalT3Config) -> np.ndarray:
    """Radians a position (D / 2,), float32, scaled as Llama 3's are.

    Those that turn seldom within the original context are divided by a factor, those that turn
    often kept, and those between blended.
    """
    # In float32, by MLX and in the order of the reference: the last bit of a frequency counts once
    # for each position, and NumPy's powers have others.
    scaling, size = config.rope_scaling, config.head_dim
    plain = 1 / config.rope_theta ** (mx.arange(0, size, 2) / size)
    turns = scaling.original_positions / (2 * np.pi / plain)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = (turns - low) / (high - low)
    blended = (1 - kept) * plain / scaling.factor + kept * plain
    rare = mx.where(turns < low, plain / scaling.factor, blended)
    return np.array(mx.where(turns > high, plain, rare))


def cosines_and_sines(
    positions: np.ndarray, frequencies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the angles at ``positions`` (B, T), each (B, T, D / 2)."""
    angles = positions[..., None].astype(np.float32) * frequencies
    return np.cos(angles), np.sin(angles)


def rotation(cosines: np.ndarray, sines: np.ndarray) -> Function:
    """The rotary embedding with these angles (B, T, D / 2), of (B, H, T, D)."""
    half, cosines, sines = cosines.shape[-1], cosines[:, None], sines[:, None]

    def rotate(x: np.ndarray) -> np.ndarray:
        first, second = x[..., :half], x[..., half:]
        y = np.empty(x.shape, np.float32)
        np.multiply(first, cosines, out=y[..., :half])
        y[..., :half] -= second * sines
        np.multiply(second, cosines, out=y[..., half:])
        y[..., half:] += first * sines
        return y

    return rotate


def linear_layers(block: TransformerBlock) -> dict[str, nn.Linear]:
    """The linear layers of a block, by the names in :class:`BlockWeights`."""
    attention, mlp = block.self_attn, block.mlp
    return {
        "query": attention.q_proj,
        "key": attention.k_proj,
        "value": attention.v_proj,
        "out": attention.o_proj,
        "up": mlp.up_proj,
        "gate": mlp.gate_proj,
        "down": mlp.down_proj,
    }


class BlockWeights(NamedTuple):
    """The parameters of a block in float32."""

    norms: tuple[RMSNorm, RMSNorm]
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    out: np.ndarray
    up: np.ndarray
    gate: np.ndarray
    down: np.ndarray

    @classmethod
    def of(cls, block: TransformerBlock) -> BlockWeights:
        """Views of the block's own arrays."""
        layers = linear_layers(block)
        return cls(norms_of(block), **{name: np.asarray(x.weight) for name, x in layers.items()})


def norms_of(block: TransformerBlock) -> tuple[RMSNorm, RMSNorm]:
    """Those before attention and before the feed-forward."""
    return RMSNorm(block.input_layernorm), RMSNorm(block.post_attention_layernorm)


def make_layer(weights: BlockWeights, config: OriginalT3Config) -> Layer:
    """The layer with these weights, which are not copied."""
    shares = threads(config.heads)
    return Layer(
        [_attention(weights, config, heads) for heads in split(config.heads, shares)],
        [FeedForward(weights, some) for some in split(config.feed_forward, shares)],
        weights.norms,
    )


def _attention(block: BlockWeights, config: OriginalT3Config, heads: slice) -> Attention:
    channels = slice(heads.start * config.head_dim, heads.stop * config.head_dim)
    query, key, value = (Linear(each[channels]) for each in (block.query, block.key, block.value))
    return Attention(heads, query, key, value, Linear(block.out[:, channels]))


class FeedForward:
    """Some hidden units of the SwiGLU feed-forward."""

    def __init__(self, block: BlockWeights, units: slice):
        self.gate, self.up = Linear(block.gate[units]), Linear(block.up[units])
        self.down = Linear(block.down[:, units])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(B, T, C) to the same."""
        y, gate = self.up(x), self.gate(x)
        y *= gate
        # gate / (1 + exp(-gate)); the exponential of a very negative gate may be infinite.
        with np.errstate(over="ignore"):
            np.exp(np.negative(gate, out=gate), out=gate)
        gate += 1
        y /= gate
        return self.down(y)


class RMSNorm:
    """An ``nn.RMSNorm``."""

    def __init__(self, module: nn.RMSNorm):
        self.weight, self._eps = np.asarray(module.weight), module.eps

    def __call__(self, x: np.ndarray) -> np.ndarray:
        square = np.square(x).mean(axis=-1, keepdims=True)
        y = x / np.sqrt(square + self._eps)
        y *= self.weight
        return y
