"""The filters of :mod:`.sampling` in NumPy, for logits in memory: the same scores, bit for bit.

A choice is 40 small operations, of which MLX takes 1 ms on a CPU and NumPy a tenth. Dimensions: V
speech ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import mlx.core as mx
import numpy as np

from ..options import SamplingOptions
from . import sampling

HostFilter: TypeAlias = Callable[[np.ndarray, np.ndarray, SamplingOptions], np.ndarray]
"""``filter(scores, history, options)``: new scores (V,), of one utterance."""
AHEAD = 16
"""Choices for which random numbers are drawn together."""


def _temperature(scores: np.ndarray, history: np.ndarray, options: SamplingOptions) -> np.ndarray:
    return scores / np.float32(options.temperature)


def _top_k(scores: np.ndarray, history: np.ndarray, options: SamplingOptions) -> np.ndarray:
    count = options.top_k
    if not 0 < count < len(scores):
        return scores
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.where(scores < least, -np.inf, scores)


def _top_p(scores: np.ndarray, history: np.ndarray, options: SamplingOptions) -> np.ndarray:
    if options.top_p >= 1:
        return scores
    rising = np.sort(scores)
    # What is removed already has no mass.
    rising = rising[np.searchsorted(rising, -np.inf, side="right") :]
    spread = rising - rising[-1]
    count, sure = _least_likely(np.exp(spread), options.top_p)
    if not sure:
        # The last bits of MLX's exponential decide. To evaluate it takes as long as all the rest.
        count, _ = _least_likely(np.asarray(mx.exp(mx.array(spread))), options.top_p)
    least = rising[count]
    kept = np.where(scores < least, -np.inf, scores)
    # Of ids with equal scores the first ones are removed first.
    ties = count - int(np.searchsorted(rising, least))
    if ties:
        kept[np.flatnonzero(scores == least)[:ties]] = -np.inf
    return kept


def _least_likely(shares: np.ndarray, top_p: float) -> tuple[int, bool]:
    """How many of the rising ``shares`` are removed, and whether other last bits give the same."""
    mass = np.cumsum(shares, dtype=np.float32)
    limit = np.float32(1 - top_p) * mass[-1]
    count = int(np.count_nonzero(mass[:-1] <= limit))
    # A sum of n values is off by at most n roundings, and so is the limit; an exponential by eight.
    margin = 4 * (len(mass) + 8) * 2.0**-24 * limit
    near = mass[max(0, count - 1) : count + 1]
    return count, bool((np.abs(near - limit) > margin).all())


def _min_p(scores: np.ndarray, history: np.ndarray, options: SamplingOptions) -> np.ndarray:
    if options.min_p <= 0:
        return scores
    largest = scores.max()
    least = math.log(options.min_p)
    rounded = np.float32(least)
    with np.errstate(invalid="ignore"):
        share = scores - largest
        lost = share - scores
        error = (scores - (share - lost)) - (largest + lost)
        below = (share - rounded) + (error - np.float32(least - float(rounded))) < 0
    return np.where(below | (share == -np.inf), -np.inf, scores)


def _repetition_penalty(
    scores: np.ndarray, history: np.ndarray, options: SamplingOptions
) -> np.ndarray:
    penalty = np.float32(options.repetition_penalty)
    changed, some = scores.copy(), np.flatnonzero(history)
    found = scores[some]
    changed[some] = np.where(found < 0, found * penalty, found / penalty)
    return changed


HOST: Mapping[sampling.Filter, HostFilter] = MappingProxyType(
    {
        sampling.temperature: _temperature,
        sampling.top_k: _top_k,
        sampling.top_p: _top_p,
        sampling.min_p: _min_p,
        sampling.repetition_penalty: _repetition_penalty,
    }
)
"""The filters here, by those of :mod:`.sampling`."""


class Noise:
    """The random numbers of an utterance's choices: those of :func:`~.sampling.sample`.

    They depend on its key alone, so that several choices' are drawn at a time.
    """

    def __init__(self, key: mx.array, vocabulary: int):
        self._key, self._vocabulary = key, vocabulary
        self._drawn: list[np.ndarray] = []
        self._count = 1  # the first choice does not wait for those after it

    def next(self) -> np.ndarray:
        """(V,), to be added to the scores."""
        if not self._drawn:
            keys: list[mx.array] = []
            for _ in range(self._count):
                self._key, own = mx.random.split(self._key)
                keys.append(own)
            self._drawn = list(np.asarray(self._rows(mx.stack(keys))))[::-1]
            self._count = AHEAD
        return self._drawn.pop()

    def _rows(self, keys: mx.array) -> mx.array:
        return mx.vmap(lambda key: mx.random.gumbel((self._vocabulary,), key=key))(keys)


def filter_scores(
    scores: np.ndarray,
    history: np.ndarray,
    options: SamplingOptions,
    filters: Sequence[sampling.Filter],
) -> np.ndarray:
    """:func:`~.sampling.filter_logits` of one utterance; all ``filters`` are in :data:`HOST`."""
    for each in filters:
        scores = HOST[each](scores, history, options)
    return scores


def choose(
    scores: np.ndarray,
    history: np.ndarray,
    options: SamplingOptions,
    filters: Sequence[sampling.Filter],
    noise: Noise,
) -> int:
    """The id that :func:`~.sampling.sample` gives for finite scores (V,), float32."""
    if options.temperature == 0:
        return int(np.argmax(scores))
    return int(np.argmax(filter_scores(scores, history, options, filters) + noise.next()))
