"""From logits to the next speech token.

The order is part of the model's sound: temperature, top-k, top-p, and the repetition penalty last,
on what the filters kept. Dimensions: B batch, V speech ids.
"""

from __future__ import annotations

import mlx.core as mx

from ..options import SamplingOptions


def filter_logits(logits: mx.array, spoken: mx.array, options: SamplingOptions) -> mx.array:
    """Scores (B, V) whose softmax is the distribution to draw from; what is out is -inf.

    Args:
        logits: (B, V), float32.
        spoken: (B, V), true where the repetition penalty applies.
        options: the temperature must not be 0, which leaves nothing to draw.
    """
    scores = logits / options.temperature
    size = scores.shape[-1]
    top_k = min(options.top_k or size, size)
    if top_k < size or options.top_p < 1:
        order = mx.argsort(scores, axis=-1)
        rising = mx.take_along_axis(scores, order, axis=-1)
        rising = mx.where(rising < rising[:, size - top_k, None], -mx.inf, rising)
        if options.top_p < 1:
            # Borders are shares of the same running sum, so that its float32 drift mostly cancels.
            mass = mx.cumsum(mx.exp(rising - rising[:, -1:]), axis=-1)
            below = mass <= (1 - options.top_p) * mass[:, -1:]
            below[:, -1] = False
            rising = mx.where(below, -mx.inf, rising)
        scores = mx.put_along_axis(scores, order, rising, axis=-1)
    penalty = options.repetition_penalty
    penalised = mx.where(scores < 0, scores * penalty, scores / penalty)
    return mx.where(spoken, penalised, scores)


def sample(
    logits: mx.array, spoken: mx.array, options: SamplingOptions, keys: mx.array
) -> mx.array:
    """Draw one id per row, (B,); ``keys`` (B, 2) holds a random key for each.

    A row's draw depends on its own key and scores only, never on its neighbours.
    """
    if options.temperature == 0:
        return mx.argmax(logits, axis=-1)
    return _draw(filter_logits(logits, spoken, options), keys)


_draw = mx.vmap(lambda scores, key: mx.random.categorical(scores, key=key))


def mark(spoken: mx.array, ids: mx.array) -> mx.array:
    """``spoken`` (B, V) with the ``ids`` (B,) marked too."""
    return spoken | (mx.arange(spoken.shape[-1]) == ids[:, None])
