"""From logits to the next speech token: filters, each a pure function, and the random choice.

A model applies its filters in an order of its own, which is part of how it sounds. Dimensions: B
batch, V speech ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

import mlx.core as mx
import numpy as np

from .. import ops
from ..options import SamplingOptions

Filter: TypeAlias = Callable[[mx.array, mx.array, SamplingOptions], mx.array]
"""``filter(scores, history, options)``: new scores (B, V); removed ids are -inf.

``history`` (B, V) is true for the ids that the repetition penalty applies to.
"""


def temperature(scores: mx.array, history: mx.array, options: SamplingOptions) -> mx.array:
    """Divide by the temperature, which must not be 0."""
    return scores / options.temperature


def top_k(scores: mx.array, history: mx.array, options: SamplingOptions) -> mx.array:
    """Keep the ``top_k`` highest scores and all that tie with the last of them; 0 keeps all."""
    count = options.top_k
    if not 0 < count < scores.shape[-1]:
        return scores
    least = mx.min(mx.topk(scores, count, axis=-1), axis=-1, keepdims=True)
    return mx.where(scores < least, -mx.inf, scores)


def top_p(scores: mx.array, history: mx.array, options: SamplingOptions) -> mx.array:
    """Remove the least likely ids whose probabilities sum to at most ``1 - top_p``.

    Holtzman et al., 2020. One id always stays; 1 keeps all.
    """
    if options.top_p >= 1:
        return scores
    order = mx.argsort(scores, axis=-1)
    rising = mx.take_along_axis(scores, order, axis=-1)
    # The threshold is a share of the same running sum, so that most of its float32 drift cancels.
    mass = mx.cumsum(mx.exp(rising - rising[:, -1:]), axis=-1)
    below = mass <= (1 - options.top_p) * mass[:, -1:]
    below[:, -1] = False
    return mx.put_along_axis(scores, order, mx.where(below, -mx.inf, rising), axis=-1)


def min_p(scores: mx.array, history: mx.array, options: SamplingOptions) -> mx.array:
    """Remove the ids less likely than ``min_p`` times the likeliest; 0 keeps all.

    Nguyen et al., 2024.
    """
    if options.min_p <= 0:
        return scores
    # The logarithm of the share, x - max, against that of min_p. Each is a float32 and its rounding
    # error (Knuth's two-sum): a share that is compared in float32 alone is wrong by up to 3 ulp.
    largest = mx.max(scores, axis=-1, keepdims=True)
    share = scores - largest
    lost = share - scores
    error = (scores - (share - lost)) - (largest + lost)
    least = math.log(options.min_p)
    rounded = float(np.float32(least))
    below = (share - rounded) + (error - (least - rounded)) < 0
    # The error of -inf is NaN.
    return mx.where(below | (share == -mx.inf), -mx.inf, scores)


def repetition_penalty(scores: mx.array, history: mx.array, options: SamplingOptions) -> mx.array:
    """Multiply negative scores of the history by the penalty and divide the others by it.

    Keskar et al., 2019. Each id is penalised once, however often it occurred.
    """
    penalty = options.repetition_penalty
    penalised = mx.where(scores < 0, scores * penalty, scores / penalty)
    return mx.where(history, penalised, scores)


def filter_logits(
    logits: mx.array, history: mx.array, options: SamplingOptions, filters: Sequence[Filter]
) -> mx.array:
    """Scores (B, V) whose softmax is the distribution to sample from; removed ids are -inf.

    Args:
        logits: (B, V), float32.
        history: (B, V), true where the repetition penalty applies.
        options: the temperature must not be 0.
        filters: in the order of the model.
    """
    for apply in filters:
        logits = apply(logits, history, options)
    return logits


def sample(
    logits: mx.array,
    history: mx.array,
    options: SamplingOptions,
    filters: Sequence[Filter],
    keys: mx.array,
) -> mx.array:
    """Sample one id per row, (B,); ``keys`` (B, 2) holds a random key for each.

    The sample of a row depends on its own key and logits only. At temperature 0 it is the likeliest
    id, without filters.
    """
    return _sampler(options, tuple(filters))(logits, history, keys)


@lru_cache(maxsize=64)
def _sampler(options: SamplingOptions, filters: tuple[Filter, ...]) -> Callable[..., mx.array]:
    """:func:`sample` with these options, compiled on a GPU."""

    @ops.fused()
    def sampled(logits: mx.array, history: mx.array, keys: mx.array) -> mx.array:
        if options.temperature == 0:
            return mx.argmax(logits, axis=-1)
        return _categorical(filter_logits(logits, history, options, filters), keys)

    return sampled


_categorical = mx.vmap(lambda scores, key: mx.random.categorical(scores, key=key))


def add_to_history(history: mx.array, ids: mx.array) -> mx.array:
    """``history`` (B, V) with the ``ids`` (B,) set too."""
    return history | (mx.arange(history.shape[-1]) == ids[:, None])
