"""Llama in NumPy, for float32 on a CPU: the arithmetic of mlx-lm's, without a graph.

Dimensions: B batch, T time, C width, H heads, D head width.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.llama import MLP, LlamaModel, TransformerBlock

from ..config import OriginalT3Config
from .transformer_numpy import Attention, Function, Layer, Linear, NumpyForward, split, threads


def llama_forward(
    transformer: LlamaModel, head: nn.Linear, config: OriginalT3Config
) -> NumpyForward:
    """The forward pass of ``transformer`` and ``head``, float32, on views of their arrays."""
    frequencies = rotary_frequencies(config)

    def place(x: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, Function]:
        angles = positions[:, None, :, None].astype(np.float32) * frequencies
        return x, rotation(np.cos(angles), np.sin(angles))

    layers = [_layer(block, config) for block in transformer.layers]
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


def rotation(cosines: np.ndarray, sines: np.ndarray) -> Function:
    """The rotary embedding with these angles (B, 1, T, D / 2), of (B, H, T, D)."""

    def rotate(x: np.ndarray) -> np.ndarray:
        half = cosines.shape[-1]
        first, second = x[..., :half], x[..., half:]
        y = np.empty(x.shape, np.float32)
        np.multiply(first, cosines, out=y[..., :half])
        y[..., :half] -= second * sines
        np.multiply(second, cosines, out=y[..., half:])
        y[..., half:] += first * sines
        return y

    return rotate


def _layer(block: TransformerBlock, config: OriginalT3Config) -> Layer:
    shares = threads(config.heads)
    return Layer(
        [_attention(block, config, heads) for heads in split(config.heads, shares)],
        [FeedForward(block.mlp, some) for some in split(config.feed_forward, shares)],
        (RMSNorm(block.input_layernorm), RMSNorm(block.post_attention_layernorm)),
    )


def _attention(block: TransformerBlock, config: OriginalT3Config, heads: slice) -> Attention:
    module = block.self_attn
    channels = slice(heads.start * config.head_dim, heads.stop * config.head_dim)
    query, key, value = (
        Linear(np.asarray(each.weight)[channels])
        for each in (module.q_proj, module.k_proj, module.v_proj)
    )
    return Attention(
        heads, query, key, value, Linear(np.asarray(module.o_proj.weight)[:, channels])
    )


class FeedForward:
    """Some hidden units of the SwiGLU feed-forward."""

    def __init__(self, mlp: MLP, units: slice):
        self.gate = Linear(np.asarray(mlp.gate_proj.weight)[units])
        self.up = Linear(np.asarray(mlp.up_proj.weight)[units])
        self.down = Linear(np.asarray(mlp.down_proj.weight)[:, units])

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
        self._weight, self._eps = np.asarray(module.weight), module.eps

    def __call__(self, x: np.ndarray) -> np.ndarray:
        square = np.square(x).mean(axis=-1, keepdims=True)
        y = x / np.sqrt(square + self._eps)
        y *= self._weight
        return y
