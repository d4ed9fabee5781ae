"""GPT-2 (Radford et al., 2019) over embeddings: pre-norm, learned positions, no token table.

Names are GPT-2's own. Dimensions: B batch, T time, C width, H heads, D head width.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .. import ops
from ..config import T3Config
from .cache import KeyValueCache, LayerCache


class Attention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value."""

    def __init__(self, config: T3Config):
        super().__init__()
        self.c_attn = nn.Linear(config.width, 3 * config.width)
        self.c_proj = nn.Linear(config.width, config.width)
        self._heads, self._head_dim = config.heads, config.head_dim

    def __call__(
        self, x: mx.array, cache: LayerCache | None, mask: mx.array | str | None
    ) -> mx.array:
        batch, time, width = x.shape
        qkv = self.c_attn(x).reshape(batch, time, 3, self._heads, self._head_dim)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each (B, H, T, D)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        y = ops.attention(q, k, v, scale=self._head_dim**-0.5, mask=mask)
        return self.c_proj(y.transpose(0, 2, 1, 3).reshape(batch, time, width))


class MLP(nn.Module):
    """Position-wise feed-forward of four times the width, with the tanh GELU."""

    def __init__(self, config: T3Config):
        super().__init__()
        self.c_fc = nn.Linear(config.width, 4 * config.width)
        self.c_proj = nn.Linear(4 * config.width, config.width)

    def __call__(self, x: mx.array) -> mx.array:
        return self.c_proj(ops.gelu_tanh(self.c_fc(x)))


class Block(nn.Module):
    """Attention and feed-forward, each with a norm before it and a residual connection."""

    def __init__(self, config: T3Config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = MLP(config)

    def __call__(
        self, x: mx.array, cache: LayerCache | None, mask: mx.array | str | None
    ) -> mx.array:
        x = x + self.attn(self.ln_1(x), cache, mask)
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """The transformer from embeddings to hidden states."""

    def __init__(self, config: T3Config):
        super().__init__()
        self.wpe = nn.Embedding(config.positions, config.width)
        self.h = [Block(config) for _ in range(config.layers)]
        self.ln_f = nn.LayerNorm(config.width)

    def __call__(
        self,
        x: mx.array,
        *,
        cache: KeyValueCache | None = None,
        positions: mx.array | None = None,
        mask: mx.array | None = None,
    ) -> mx.array:
        """Hidden states (B, T, C) of embeddings ``x`` (B, T, C).

        Args:
            cache: the positions before ``x``; it grows by ``x``.
            positions: (T,) or (B, T), rows of the position table. By default those that follow the
                cache.
            mask: true where a query attends to a key, broadcast to (B, H, T, cache + T). By default
                causal.
        """
        time = x.shape[1]
        start = 0 if cache is None else cache.offset
        rows = self.wpe.weight[start : start + time] if positions is None else self.wpe(positions)
        x = x + rows
        visible = "causal" if mask is None and time > 1 else mask
        layers = [None] * len(self.h) if cache is None else cache.layers
        for block, layer in zip(self.h, layers, strict=True):
            x = block(x, layer, visible)
        return self.ln_f(x)
