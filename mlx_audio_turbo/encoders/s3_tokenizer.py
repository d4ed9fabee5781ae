"""S3 tokenizer V2: 16 kHz log-mel at 100 frames/s to speech tokens at 25/s.

Whisper-like encoder whose attention carries an FSMN memory, then finite scalar quantisation
(Du et al., CosyVoice 2, 2024; FSMN: Zhang et al., 2018; FSQ: Mentzer et al., 2023).

Dimensions: B batch, F mel frames, T tokens, M mel bins, W width, H heads, D head width, Q codebook
dimensions.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .. import ops
from ..config import S3TokenizerConfig
from ..ops.layers import Conv1d

LEVELS = 3
"""Values that each codebook dimension can take."""
BOUND = 0.9990000128746033
"""Keeps tanh clear of +-1, where rounding would leave the levels; the published model's float32."""


class MemoryAttention(nn.Module):
    """Rotary self-attention plus an FSMN memory: a depthwise convolution over the values."""

    def __init__(self, config: S3TokenizerConfig):
        super().__init__()
        width, kernel = config.width, config.memory_kernel
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.fsmn_block = Conv1d(
            width,
            width,
            kernel,
            padding=((kernel - 1) // 2, kernel // 2),
            groups=width,
            bias=False,
        )
        self._heads, self._head_dim = config.heads, config.head_dim

    def __call__(self, x: mx.array) -> mx.array:
        batch, time, width = x.shape
        v = self.value(x)
        memory = v + self.fsmn_block(v)
        q, k, v = (
            y.reshape(batch, time, self._heads, self._head_dim).transpose(0, 2, 1, 3)
            for y in (self.query(x), self.key(x), v)
        )
        q, k = self._rotate(q), self._rotate(k)
        attended = ops.attention(q, k, v, scale=self._head_dim**-0.5)
        attended = self.out(attended.transpose(0, 2, 1, 3).reshape(batch, time, width))
        # The memory passes by the output projection.
        return attended + memory

    def _rotate(self, x: mx.array) -> mx.array:
        """Turn the pair (d, d + D / 2) by t * 10000 ** (-2 d / D) (Su et al., 2021)."""
        return mx.fast.rope(
            x, self._head_dim, traditional=False, base=10_000.0, scale=1.0, offset=0
        )


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: S3TokenizerConfig):
        super().__init__()
        width = config.width
        self.attn = MemoryAttention(config)
        self.attn_ln = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), ops.gelu, nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attn(self.attn_ln(x))
        return x + self.mlp(self.mlp_ln(x))


class Encoder(nn.Module):
    """Two convolutions that halve the frame rate each, then the blocks; no final norm."""

    def __init__(self, config: S3TokenizerConfig):
        super().__init__()
        self.conv1 = Conv1d(config.mels, config.width, 3, stride=2, padding=1)
        self.conv2 = Conv1d(config.width, config.width, 3, stride=2, padding=1)
        self.blocks = [Block(config) for _ in range(config.layers)]

    def __call__(self, log_mel: mx.array) -> mx.array:
        x = ops.gelu(self.conv1(log_mel))
        x = ops.gelu(self.conv2(x))
        for block in self.blocks:
            x = block(x)
        return x


class ScalarQuantizer(nn.Module):
    """Each of Q projections becomes one ternary digit of the token, the first the lowest."""

    def __init__(self, config: S3TokenizerConfig):
        super().__init__()
        self.project_down = nn.Linear(config.width, config.codebook_dims)

    def __call__(self, hidden: mx.array) -> mx.array:
        bounded = mx.tanh(self.project_down(hidden).astype(mx.float32)) * BOUND
        digits = (mx.round(bounded) + 1).astype(mx.int32)  # halves to even
        places = mx.array([LEVELS**q for q in range(digits.shape[-1])], mx.int32)
        return (digits * places).sum(axis=-1)


class S3Tokenizer(nn.Module):
    """Log-mel to speech tokens, one per four frames (the last may have fewer)."""

    def __init__(self, config: S3TokenizerConfig):
        super().__init__()
        self.encoder = Encoder(config)
        self.quantizer = ScalarQuantizer(config)

    def encode(self, log_mel: mx.array) -> mx.array:
        """Hidden states (B, T, W) of ``log_mel`` (B, F, M); T is ceil(ceil(F / 2) / 2)."""
        return self.encoder(log_mel)

    def quantize(self, hidden: mx.array) -> mx.array:
        """Tokens (B, T), int32 below 3 ** Q, of hidden states (B, T, W)."""
        return self.quantizer(hidden)

    def __call__(self, log_mel: mx.array) -> mx.array:
        """Tokens (B, T) of ``log_mel`` (B, F, M)."""
        return self.quantize(self.encode(log_mel))
