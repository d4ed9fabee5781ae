"""Scaled dot-product attention."""

from __future__ import annotations

import mlx.core as mx

from .device import slow_functions
from .elementwise import STEP, power_of_e

# Scores held at a time. 8 heads of 1,000 x 1,000 in blocks of this size: 90 ms of one core, in
# four times that 92, in half 95; MLX's fused form, which is not fused on the CPU, takes 145.
_SCORES = 1 << 18
_NEVER = -1e30  # a masked score: finite, so that a row with every key masked stays finite


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: mx.array | str | None = None,
) -> mx.array:
    """Scaled dot-product attention over (B, H, T, D); ``mask`` is additive, boolean or "causal"."""
    if not slow_functions(q):
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    batch, heads, time, _ = q.shape
    keys = k.shape[2]
    q = q * (scale * STEP)
    k = mx.contiguous(k).swapaxes(2, 3)
    # With a column of ones the product with the values brings each row's normaliser along.
    v = mx.concatenate([v, mx.ones((*v.shape[:3], 1), v.dtype)], axis=3)
    bias = None if mask is None or isinstance(mask, str) else _additive(mask) * STEP
    rows = max(1, _SCORES // (batch * heads * keys))
    parts: list[mx.array] = []
    for start in range(0, time, rows):
        stop = min(start + rows, time)
        seen = keys
        block = q[:, :, start:stop]
        if parts:  # one block after another: only one's scores are in memory
            block = mx.depends([block], parts[-1:])[0]
        if mask == "causal":
            # Query t sees the keys up to t + keys - time: nothing past the block's last query.
            seen = keys - time + stop
            scores = block @ k[..., :seen] + _triangle(stop - start, seen) * STEP
        else:
            scores = block @ k
            if bias is not None:
                scores = scores + (bias[..., start:stop, :] if bias.shape[-2] > 1 else bias)
        weights = power_of_e(scores - _row_maximum(scores)) @ v[..., :seen, :]
        parts.append(weights[..., :-1] / weights[..., -1:])
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)


def _additive(mask: mx.array) -> mx.array:
    return mx.where(mask, 0.0, _NEVER) if mask.dtype == mx.bool_ else mask


def _triangle(rows: int, keys: int) -> mx.array:
    """0 where a key is at or before its query, when the last query meets the last key."""
    last = mx.arange(keys - rows, keys)[:, None]
    return mx.where(mx.arange(keys) <= last, 0.0, _NEVER)


def _row_maximum(scores: mx.array) -> mx.array:
    # MLX reduces a row value by value (1,100 M/s); halves of it compare twice as fast.
    while (length := scores.shape[-1]) > 128:
        half = (length + 1) // 2
        scores = mx.maximum(scores[..., :half], scores[..., -half:])
    return scores.max(axis=-1, keepdims=True)
