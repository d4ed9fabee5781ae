"""Perceiver resampler (Jaegle et al., 2021): a prompt of any length to a fixed number of rows.

Dimensions: B batch, T time, Q queries, C width, H heads, D head width.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .. import ops
from ..config import OriginalT3Config


class AttentionBlock(nn.Module):
    """Multi-head attention with one norm for queries and context, and a residual connection."""

    def __init__(self, config: OriginalT3Config):
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.to_q = nn.Linear(config.width, config.width)
        self.to_k = nn.Linear(config.width, config.width)
        self.to_v = nn.Linear(config.width, config.width)
        self.proj_out = nn.Linear(config.width, config.width)
        self._heads = config.perceiver_heads

    def __call__(self, x: mx.array, context: mx.array) -> mx.array:
        """``x`` (B, T, C) after attention to ``context`` (B, L, C)."""
        context = self.norm(context)
        q = self._split(self.to_q(self.norm(x)))
        k, v = self._split(self.to_k(context)), self._split(self.to_v(context))
        y = ops.attention(q, k, v, scale=q.shape[-1] ** -0.5)
        return x + self.proj_out(y.transpose(0, 2, 1, 3).reshape(x.shape))

    def _split(self, x: mx.array) -> mx.array:
        """(B, T, C) to (B, H, T, D)."""
        return x.reshape(*x.shape[:2], self._heads, -1).transpose(0, 2, 1, 3)


class Perceiver(nn.Module):
    """Learned queries attend to the prompt, then to themselves, with the same weights."""

    def __init__(self, config: OriginalT3Config):
        super().__init__()
        self.pre_attention_query = mx.zeros((1, config.perceiver_queries, config.width))
        self.attn = AttentionBlock(config)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, C) to (B, Q, C)."""
        batch, (_, *shape) = len(x), self.pre_attention_query.shape
        x = self.attn(mx.broadcast_to(self.pre_attention_query, (batch, *shape)), x)
        return self.attn(x, x)
