"""Scaled dot-product attention."""

from __future__ import annotations

import mlx.core as mx

from .device import BLOCK, slow_functions

_LOG2_E = 1.4426950408889634
_NEVER = -1e30  # a masked score: finite, so that a row with every key masked stays finite
# 2 ** f for |f| <= 0.5, but for a factor, is (1 / (4 B) + f / ((f - B) ** 2 + G)) ** 2: Padé's form
# of exp(f / 2), fitted to a relative error of 2.7e-8. It takes 7 passes, a polynomial 10.
_CENTRE, _OFFSET = 8.661586359514256, 24.945182349427355
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
    # take 55 ms of one core and 21 MB; MLX's fused form, which on the CPU is not fused, 135 ms and
    # 48 MB. Causal, 16 heads of 700 x 700: 57 against 150 ms, as half of the scores are never made.
    batch, heads, time, _ = q.shape
    keys = k.shape[2]
    q = (q * (scale * _LOG2_E)).swapaxes(2, 3)
    causal = mask == "causal" if isinstance(mask, str) else False
    bias = None if mask is None or isinstance(mask, str) else _additive(mask)
    some = max(1, BLOCK // (batch * time * keys))
    rows = max(1, BLOCK // (batch * some * keys))
    rows = -(-time // -(-time // rows))  # no block much smaller than the others
    if rows < time or some < heads:  # else every block would copy heads that lie side by side
        k, v = mx.contiguous(k), mx.contiguous(v)
    ones = mx.ones((keys, 1))
    last: list[mx.array] = []
    lines: list[mx.array] = []
    for head in range(0, heads, some):
        q_part, k_part, v_part = (x[:, head : head + some] for x in (q, k, v))
        line: list[mx.array] = []
        for start in range(0, time, rows):
            stop = min(start + rows, time)
            # Query t sees the keys up to t + keys - time: nothing past the block's last query.
            seen = keys - time + stop if causal else keys
            block = q_part[..., start:stop]
            if last:
                block = mx.depends([block], last)[0]
            # By key and query: MLX finds the maximum along a row value by value (600 M/s), that
            # of rows in one sweep, and adds likewise, where a product with ones costs nothing.
            scores = (k_part[:, :, :seen] if causal else k_part) @ block
            if causal:
                scores = scores + _triangle(stop - start, seen)
            elif bias is not None:
                scores = scores + _part(_part(bias, 1, head, some), 3, start, rows)
            weights = _exp2_but_for_a_factor(scores - scores.max(axis=2, keepdims=True))
            weights = weights.swapaxes(2, 3)
            total = weights @ (ones[:seen] if causal else ones)
            last = [(weights @ (v_part[:, :, :seen] if causal else v_part)) / total]
            line += last
        lines.append(mx.concatenate(line, axis=2))
    return mx.concatenate(lines, axis=1)


def _additive(mask: mx.array) -> mx.array:
    """In units of log 2, with four dimensions, by key and query."""
    bias = mx.where(mask, 0.0, _NEVER) if mask.dtype == mx.bool_ else mask * _LOG2_E
    return bias.reshape((1,) * (4 - bias.ndim) + bias.shape).swapaxes(2, 3)


def _part(bias: mx.array, axis: int, start: int, count: int) -> mx.array:
    if bias.shape[axis] == 1:
        return bias
    return bias[:, start : start + count] if axis == 1 else bias[..., start : start + count]


def _triangle(rows: int, keys: int) -> mx.array:
    """0 where a key is at or before its query, when the last query meets the last key."""
    last = mx.arange(keys - rows, keys)
    return mx.where(mx.arange(keys)[:, None] <= last, 0.0, _NEVER)


def _exp2_but_for_a_factor(x: mx.array) -> mx.array:
    """2 ** x / 1200 for x <= 0, and that of -100 below: 0 beside the row's largest.

    Nothing comes near the subnormal numbers, which cost a hundredfold.
    """
    x = mx.maximum(x, -100.0)
    shifted = x + _TO_EXPONENT
    fraction = x - mx.stop_gradient(shifted - _TO_EXPONENT)
    ratio = fraction / (mx.square(fraction - _CENTRE) + _OFFSET)
    exponent = mx.left_shift(shifted.view(mx.int32), 23).view(mx.float32)
    return mx.square(ratio + 0.25 / _CENTRE) * mx.stop_gradient(exponent)
