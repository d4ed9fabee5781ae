"""The estimator of the velocity: a causal U-Net over mel frames, all at one rate.

One level down, several in the middle, one up. A level is a causal residual block, conditioned on
the time, and transformer blocks that attend to all frames. Reference: chatterbox's
``s3gen/decoder.py``, after Matcha-TTS (Mehta et al., 2023); the second time is that of mean flows
(Geng et al., 2025).

Dimensions: B batch, T frames, M mel channels, C channels, E time embedding (4C), H heads, D head
width.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .. import ops
from ..config import EstimatorConfig
from ..ops import parallel
from ..ops.layers import Conv1d, length_mask

TIME_SCALE = 1000.0
NORM_EPS = 1e-5
KERNEL = 3
"""Frames of a convolution: two earlier ones and the frame that it computes."""


def time_sinusoids(times: tuple[float, ...], size: int) -> mx.array:
    """Sines, then cosines, of 1000 * time at ``size // 2`` rates from 1 down to 1 / 10,000.

    Gives (len(times), size) in float32 whatever the weights are: the angles reach 1000.
    """
    half = size // 2
    rates = np.exp(np.arange(half) * -(math.log(10_000.0) / (half - 1)))
    angles = TIME_SCALE * np.array(times)[:, None] * rates
    return mx.array(np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32))


def all_inputs(x: mx.array, mu: mx.array, speaker: mx.array, condition: mx.array) -> mx.array:
    """The channels of the first level (B, T, 4M); ``speaker`` is (B, M), the others (B, T, M)."""
    return mx.concatenate([x, mu, mx.broadcast_to(speaker[:, None], x.shape), condition], axis=-1)


def causal_conv(inputs: int, outputs: int) -> Conv1d:
    """A convolution over a frame and the two before it."""
    return Conv1d(inputs, outputs, KERNEL, padding=(KERNEL - 1, 0))


class TimeMLP(nn.Module):
    """4M sinusoids to E."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear1 = nn.Linear(inputs, outputs)
        self.linear2 = nn.Linear(outputs, outputs)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear2(ops.silu(self.linear1(x)))


class CausalBlock(nn.Module):
    """Causal convolution, norm over channels, Mish."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = causal_conv(inputs, outputs)
        self.norm = nn.LayerNorm(outputs, eps=NORM_EPS)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, inputs) to (B, T, outputs)."""
        return parallel.map_windows(self._window, x, self.conv.halo)

    def _window(self, x: mx.array, padding: parallel.Halo) -> mx.array:
        return ops.mish(self.norm(self.conv(x, padding=padding)))


class ResnetBlock(nn.Module):
    """Two causal blocks with the time added between them, and a pointwise residual."""

    def __init__(self, inputs: int, outputs: int, time_embedding: int):
        super().__init__()
        self.block1 = CausalBlock(inputs, outputs)
        self.time = nn.Linear(time_embedding, outputs)
        self.block2 = CausalBlock(outputs, outputs)
        self.residual = nn.Linear(inputs, outputs)

    def __call__(self, x: mx.array, time: mx.array) -> mx.array:
        y = self.block1(x)
        return self.block2(y + self.time(time).astype(y.dtype)) + self.residual(x)


class Attention(nn.Module):
    """Attention of every frame to every frame, without positions: the convolutions carry those."""

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        inner = config.heads * config.head_dim
        self._heads, self._scale = config.heads, config.head_dim**-0.5
        self.q = nn.Linear(config.channels, inner, bias=False)
        self.k = nn.Linear(config.channels, inner, bias=False)
        self.v = nn.Linear(config.channels, inner, bias=False)
        self.out = nn.Linear(inner, config.channels)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        """(B, T, C) to the same."""
        k, v = (
            ops.split_heads(parallel.map_time(linear, x), self._heads)
            for linear in (self.k, self.v)
        )

        def attend(x: mx.array) -> mx.array:
            q = self.q(x).reshape(*x.shape[:2], self._heads, -1).swapaxes(1, 2)
            y = ops.attention(q, k, v, scale=self._scale, mask=mask)
            return self.out(y.swapaxes(1, 2).reshape(*x.shape[:2], -1))

        return parallel.map_time(attend, x)


class FeedForward(nn.Module):
    """C to 4C to C with the exact GELU."""

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        self.linear1 = nn.Linear(config.channels, config.feed_forward)
        self.linear2 = nn.Linear(config.feed_forward, config.channels)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear2(ops.gelu(self.linear1(x)))


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each normalised before and added to its input."""

    def __init__(self, config: EstimatorConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.channels, eps=NORM_EPS)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.channels, eps=NORM_EPS)
        self.feed_forward = FeedForward(config)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        """(B, T, C) to the same."""
        x = x + self.attention(self.attention_norm(x), mask)
        return parallel.map_time(lambda y: y + self.feed_forward(self.feed_forward_norm(y)), x)


class Level(nn.Module):
    """A residual block and its transformer blocks."""

    def __init__(self, inputs: int, config: EstimatorConfig):
        super().__init__()
        self.resnet = ResnetBlock(inputs, config.channels, config.time_embedding)
        self.blocks = [TransformerBlock(config) for _ in range(config.blocks)]

    def __call__(self, x: mx.array, time: mx.array, mask: mx.array | None) -> mx.array:
        x = self.resnet(x, time)
        for block in self.blocks:
            x = block(x, mask)
        return x


class Estimator(nn.Module):
    """The velocity of mel frames: the mean between two times of the flow, or that at the first."""

    def __init__(self, mels: int, config: EstimatorConfig):
        super().__init__()
        channels, inputs = config.channels, 4 * mels
        self.config, self._inputs = config, inputs
        self.time_mlp = TimeMLP(inputs, config.time_embedding)
        self._mean_flow = config.mean_flow
        if config.mean_flow:
            size = config.time_embedding
            self.time_mixer = nn.Linear(2 * size, size, bias=False)
        self.down = Level(inputs, config)
        self.down_conv = causal_conv(channels, channels)
        self.mid = [Level(channels, config) for _ in range(config.mid_blocks)]
        self.up = Level(2 * channels, config)
        self.up_conv = causal_conv(channels, channels)
        self.final_block = CausalBlock(channels, channels)
        self.final_proj = nn.Linear(channels, mels)

    def __call__(
        self,
        x: mx.array,
        *,
        mu: mx.array,
        speaker: mx.array,
        condition: mx.array,
        t: float,
        r: float,
        lengths: mx.array | None = None,
    ) -> mx.array:
        """Velocity (B, T, M), float32, of the state ``x`` (B, T, M) from time ``t`` to ``r``.

        Args:
            mu: the encoder's output (B, T, M).
            speaker: projected speaker embedding (B, M).
            condition: the known mel frames, zeros elsewhere (B, T, M).
            lengths: valid frames of each item (B,); None: all. Frames past an item's end are
                masked in attention; the convolutions are causal and need no mask.
        """
        x = all_inputs(x, mu, speaker, condition)
        mask = None if lengths is None else length_mask(lengths, x.shape[1])[:, None, None]
        time = self.embed_time(t, r)
        x = skip = self.down(x.astype(self.down_conv.weight.dtype), time, mask)
        x = self.down_conv(x)
        for level in self.mid:
            x = level(x, time, mask)
        x = self.up(mx.concatenate([x, skip], axis=-1), time, mask)
        return self.final_proj(self.final_block(self.up_conv(x))).astype(mx.float32)

    def embed_time(self, t: float, r: float) -> mx.array:
        """The embedding of the time, or of both times, (1, E), float32: input of each level."""
        if not self._mean_flow:
            return ops.mish(self.time_mlp(time_sinusoids((t,), self._inputs)))
        both = self.time_mlp(time_sinusoids((t, r), self._inputs))
        return ops.mish(self.time_mixer(both.reshape(1, -1)))
