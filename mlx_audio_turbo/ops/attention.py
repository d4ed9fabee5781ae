"""Scaled dot-product attention."""

from __future__ import annotations

import mlx.core as mx

from .device import BLOCK, on_cuda, on_gpu, slow_functions
from .fast_math import exp2_times_constant

_LOG2_E = 1.4426950408889634
_NEVER = -1e30  # a masked score: finite, so that a row with every key masked stays finite


def split_heads(x: mx.array, heads: int) -> mx.array:
    """Keys or values (B, T, H D) to (B, H, T, D).

    On the CPU they are copied once, for all ranges of queries; a GPU's kernel reads the view.
    """
    y = x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)
    return y if on_gpu() else mx.contiguous(y)


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: mx.array | str | None = None,
) -> mx.array:
    """Scaled dot-product attention over (B, H, T, D); ``mask`` is additive, boolean or "causal"."""
    if isinstance(mask, mx.array) and on_cuda():
        mask = mx.contiguous(mask)  # cuDNN refuses a view with odd strides
    # A single query has few scores, and the plain form fewer primitives.
    if q.shape[2] == 1 or not slow_functions(q):
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    return _attention_by_blocks(q, k, v, scale=scale, mask=mask)


def _attention_by_blocks(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: mx.array | str | None
) -> mx.array:
    # MLX's fused form is not fused on the CPU. Blocks of scores, one after another, stay in a
    # core's cache; with "causal", half of the scores are never computed.
    batch, heads, time, _ = q.shape
    keys = k.shape[2]
    q = (q * (scale * _LOG2_E)).swapaxes(2, 3)
    causal = mask == "causal" if isinstance(mask, str) else False
    bias = None if mask is None or isinstance(mask, str) else _additive(mask)
    some = max(1, BLOCK // (batch * time * keys))
    rows = max(1, BLOCK // (batch * some * keys))
    rows = -(-time // -(-time // rows))  # no block much smaller than the others
    if rows < time or some < heads:  # once, not in every block
        k, v = mx.contiguous(k), mx.contiguous(v)
    ones = mx.ones((keys, 1))
    last: list[mx.array] = []
    lines: list[mx.array] = []
    for head in range(0, heads, some):
        q_part, k_part, v_part = (x[:, head : head + some] for x in (q, k, v))
        line: list[mx.array] = []
        for start in range(0, time, rows):
            stop = min(start + rows, time)
            # Query t attends to the keys up to t + keys - time: none past the block's last query.
            seen = keys - time + stop if causal else keys
            block = q_part[..., start:stop]
            if last:
                block = mx.depends([block], last)[0]
            # By key and query: MLX computes the maximum along a row value by value, that across
            # rows vectorised. For the sum, a product with ones is faster still.
            scores = (k_part[:, :, :seen] if causal else k_part) @ block
            if causal:
                scores = scores + _triangle(stop - start, seen)
            elif bias is not None:
                scores = scores + _part(_part(bias, 1, head, some), 3, start, rows)
            weights = exp2_times_constant(scores - scores.max(axis=2, keepdims=True))
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
