"""UpsampleConformerEncoder: embedded speech tokens at 25 Hz to hidden frames at 50 Hz.

Pre-norm transformer blocks with the relative positions of Transformer-XL (Dai et al., 2019,
appendix B) in ESPnet's layout. A look-ahead of a few tokens precedes them, and the rate doubles
between two groups of blocks. Reference: chatterbox's ``s3gen/transformer``.

Dimensions: B batch, T tokens or frames, C width, H heads, D head width, F feed-forward width, R
queries of a range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .. import ops
from ..config import FRAMES_PER_TOKEN, EncoderConfig
from ..ops import parallel
from ..ops.layers import Conv1d, length_mask

BLOCK_NORM_EPS = 1e-12
LEAKY_SLOPE = 0.01


@lru_cache(maxsize=8)
def relative_positions(time: int, width: int) -> mx.array:
    """Sinusoids (2 * time - 1, width), float32, of the distances time - 1 down to 1 - time.

    Even channels are sines, odd ones cosines (Vaswani et al., 2017).
    """
    distances = np.arange(time - 1, -time, -1, dtype=np.float64)
    rates = np.exp(np.arange(0, width, 2) * -(math.log(10_000.0) / width))
    angles = distances[:, None] * rates
    table = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return mx.array(table.reshape(len(distances), width).astype(np.float32))


def relative_shift(scores: mx.array) -> mx.array:
    """Scores by distance (B, H, R, T + R - 1) of R adjacent queries to scores by key (B, H, R, T).

    The distances of query r begin at column R - 1 - r, one column before those of the query above:
    the result is a view with a row stride shorter by one.
    """
    batch, heads, rows, distances = scores.shape
    return mx.as_strided(
        scores,
        (batch, heads, rows, distances - rows + 1),
        (heads * rows * distances, rows * distances, distances - 1, 1),
        rows - 1,
    )


class RelativeAttention(nn.Module):
    """Attention with the weights softmax(((q + u) k + (q + v) p) / sqrt(D)).

    p is the projected sinusoid of the distance between query and key; u and v are learned.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        width = config.width
        self._heads, self._scale = config.heads, config.head_dim**-0.5
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.pos = nn.Linear(width, width, bias=False)
        self.bias_u = mx.zeros((config.heads, config.head_dim))
        self.bias_v = mx.zeros((config.heads, config.head_dim))

    def __call__(self, x: mx.array, positions: mx.array, mask: mx.array | None) -> mx.array:
        """(B, T, C) to the same, with ``positions`` of :func:`relative_positions`."""
        batch, time, width = x.shape
        q, k, v = (parallel.map_time(linear, x) for linear in (self.q, self.k, self.v))
        q = q.reshape(batch, time, self._heads, -1)
        k, v = (ops.split_heads(y, self._heads) for y in (k, v))
        p = ops.split_heads(parallel.map_time(self.pos, positions[None]), self._heads)

        def attend(start: int, stop: int) -> mx.array:
            queries = q[:, start:stop]
            # The distances from the last query to the first key up to the first query's last.
            distances = p[:, :, time - stop : 2 * time - 1 - start].swapaxes(2, 3)
            by_distance = ((queries + self.bias_v) * self._scale).swapaxes(1, 2) @ distances
            # The fused kernel takes one bias for each score: the position term is its mask.
            bias = relative_shift(by_distance)
            if mask is not None:
                bias = mx.where(mask[:, None, None], bias, mx.finfo(bias.dtype).min)
            queries = (queries + self.bias_u).swapaxes(1, 2)
            y = ops.attention(queries, k, v, scale=self._scale, mask=bias)
            return self.out(y.swapaxes(1, 2).reshape(batch, stop - start, width))

        # On a GPU the scores by distance, 2T for each head and query, are the largest array.
        scores = batch * self._heads * 2 * time
        return parallel.map_ranges(attend, time, width, values_per_step=scores)


class FeedForward(nn.Module):
    """C to F to C with SiLU."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.linear1 = nn.Linear(config.width, config.feed_forward)
        self.linear2 = nn.Linear(config.feed_forward, config.width)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear2(ops.silu(self.linear1(x)))


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to its input."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=BLOCK_NORM_EPS)
        self.attention = RelativeAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=BLOCK_NORM_EPS)
        self.feed_forward = FeedForward(config)

    def __call__(self, x: mx.array, positions: mx.array, mask: mx.array | None) -> mx.array:
        x = x + self.attention(self.attention_norm(x), positions, mask)
        return parallel.map_time(lambda y: y + self.feed_forward(self.feed_forward_norm(y)), x)


class Embed(nn.Module):
    """Linear and norm, times sqrt(C) (Vaswani et al., 2017, section 3.4)."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self._scale = math.sqrt(width)

    def __call__(self, x: mx.array) -> mx.array:
        return self.norm(self.linear(x)) * self._scale


class Lookahead(nn.Module):
    """Adds to each token a convolution of the next few; all other convolutions are causal."""

    def __init__(self, width: int, tokens: int):
        super().__init__()
        self.conv1 = Conv1d(width, width, tokens + 1, padding=(0, tokens))
        self.conv2 = Conv1d(width, width, 3, padding=(2, 0))

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.conv2(ops.leaky_relu(self.conv1(x), LEAKY_SLOPE))


def through(blocks: Sequence[Block], x: mx.array, lengths: mx.array | None) -> mx.array:
    """Carry ``x`` (B, T, C), with ``lengths`` (B,) valid steps, through the blocks."""
    mask = None if lengths is None else length_mask(lengths, x.shape[1])
    positions = relative_positions(x.shape[1], x.shape[2]).astype(x.dtype)
    for block in blocks:
        x = block(x, positions, mask)
    return x


Through = Callable[[Sequence[Block], mx.array, "mx.array | None"], mx.array]
"""The type of :func:`through`."""


class UpsampleConformerEncoder(nn.Module):
    """Embedded tokens (B, T, C) to frames (B, 2T, C)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        width = config.width
        self.config = config
        self.embed = Embed(width)
        self.lookahead = Lookahead(width, config.lookahead)
        self.blocks = [Block(config) for _ in range(config.blocks)]
        kernel = 2 * FRAMES_PER_TOKEN + 1
        self.upsample = Conv1d(width, width, kernel, padding=(kernel - 1, 0))
        self.up_embed = Embed(width)
        self.up_blocks = [Block(config) for _ in range(config.up_blocks)]
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def __call__(
        self, x: mx.array, lengths: mx.array | None = None, *, through: Through = through
    ) -> mx.array:
        """Encode ``x`` (B, T, C); gives (B, 2T, C).

        Args:
            lengths: valid tokens of each item (B,); None: all. Tokens past an item's end do not
                change its frames, and the frames past its end have no meaning.
            through: what carries the steps through the blocks.
        """
        mask = None if lengths is None else length_mask(lengths, x.shape[1])
        x = self.embed(x)
        if mask is not None:
            # The look-ahead of an item's last tokens reads zeros, as it does without padding.
            x = mx.where(mask[..., None], x, 0)
        x = through(self.blocks, self.lookahead(x), lengths)
        x = self.upsample(mx.repeat(x, FRAMES_PER_TOKEN, axis=1))
        lengths = None if lengths is None else FRAMES_PER_TOKEN * lengths
        return self.norm(through(self.up_blocks, self.up_embed(x), lengths))
