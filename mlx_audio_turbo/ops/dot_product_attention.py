"""Scaled dot-product attention."""

from __future__ import annotations

import mlx.core as mx

from .device import BLOCK, slow_functions

_LOG2_E = 1.4426950408889634
_NEVER = -1e30  # a masked score: finite, so that a row with every key masked stays finite
# 2 ** f for |f| <= 0.5, lowest power first: a minimax polynomial, relative error 7.5e-8.
_EXP2 = (1.00000007, 0.69314697, 0.2402212, 0.05550713, 0.00967554, 0.00132765)
# Added to a float32 n + f with |f| <= 0.5, it leaves n + 127 in the last bits: 2 ** n's exponent.
_TO_EXPONENT = 1.5 * 2**23 + 127


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: mx.array | str | None = None,
) -> mx.array:
    """Scaled dot-product attention over (B, H, T, D); ``mask`` is additive, boolean or "causal"."""
    # A single query has few scores, and the plain form fewer steps: 16 heads of 1 x 100 in 0.05 ms
    # against 0.09, of 1 x 700 in 0.4 both.
    if q.shape[2] == 1 or not slow_functions(q):
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    # In blocks of scores that stay in a core's cache, one after another: 8 heads of 1,000 x 1,000
    # take 66 ms of one core and 21 MB; MLX's fused form, which on the CPU is not fused, 135 ms and
    # 48 MB. Causal, 16 heads of 700 x 700: 57 against 150 ms, as half of the scores are never made.
    batch, heads, time, _ = q.shape
    keys = k.shape[2]
    q = q * (scale * _LOG2_E)
    causal = mask == "causal" if isinstance(mask, str) else False
    bias = None if mask is None or isinstance(mask, str) else _additive(mask)
    some = max(1, BLOCK // (batch * time * keys))
    rows = max(1, BLOCK // (batch * some * keys))
    if rows < time or some < heads:  # else every block would copy heads that lie side by side
        k, v = mx.contiguous(k), mx.contiguous(v)
    k = k.swapaxes(2, 3)
    last: list[mx.array] = []
    lines: list[mx.array] = []
    for head in range(0, heads, some):
        line: list[mx.array] = []
        for start in range(0, time, rows):
            stop = min(start + rows, time)
            # Query t sees the keys up to t + keys - time: nothing past the block's last query.
            seen = keys - time + stop if causal else keys
            block = q[:, head : head + some, start:stop]
            if last:
                block = mx.depends([block], last)[0]
            scores = block @ k[:, head : head + some, :, :seen]
            if causal:
                scores = scores + _triangle(stop - start, seen)
            elif bias is not None:
                scores = scores + _part(_part(bias, 1, head, some), 2, start, rows)
            weights = _exp2(scores - _row_maximum(scores))
            y = weights @ v[:, head : head + some, :seen]
            last = [y / weights.sum(axis=-1, keepdims=True)]
            line += last
        lines.append(mx.concatenate(line, axis=2))
    return mx.concatenate(lines, axis=1)


def _additive(mask: mx.array) -> mx.array:
    """In units of log 2, with four dimensions."""
    bias = mx.where(mask, 0.0, _NEVER) if mask.dtype == mx.bool_ else mask * _LOG2_E
    return bias.reshape((1,) * (4 - bias.ndim) + bias.shape)


def _part(bias: mx.array, axis: int, start: int, count: int) -> mx.array:
    if bias.shape[axis] == 1:
        return bias
    return bias[:, start : start + count] if axis == 1 else bias[:, :, start : start + count]


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


def _exp2(x: mx.array) -> mx.array:
    """2 ** x for x <= 0, and 2 ** -126 below that: 335 M values/s, by ``mx.exp`` 78."""
    x = mx.maximum(x, -126.0)
    shifted = x + _TO_EXPONENT
    fraction = x - mx.stop_gradient(shifted - _TO_EXPONENT)
    value = fraction * _EXP2[5] + _EXP2[4]
    for coefficient in _EXP2[3::-1]:
        value = value * fraction + coefficient
    exponent = mx.left_shift(shifted.view(mx.int32), 23).view(mx.float32)
    return value * mx.stop_gradient(exponent)
