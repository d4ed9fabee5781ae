"""The part of the sequence before the text, computed once for all sentences of a voice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import mlx.core as mx

from .interface import T3, Cache, Condition, prefill_prefix


class PrefixCache:
    """Caches of the last few voices, after speaker and prompt; at full size 74 MB each in float32.

    T3 is causal: the keys and values of the prefix do not depend on the text that follows. The same
    voice with another exaggeration has another prefix.
    """

    def __init__(self, model: T3, *, voices: int = 4):
        self._model, self._voices = model, voices
        self._held: OrderedDict[Hashable, Cache] = OrderedDict()

    def get(self, fingerprint: str, condition: Condition) -> Cache:
        """The cache of a voice, to be continued in a copy.

        Args:
            fingerprint: of the voice that ``condition`` was made of.
        """
        key = (fingerprint, condition.exaggeration)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        cache = prefill_prefix(self._model, condition)
        cache.release_spare()
        mx.eval(cache.arrays)
        self._held[key] = cache
        if len(self._held) > self._voices:
            self._held.popitem(last=False)
        return cache

    def clear(self) -> None:
        """Free all caches."""
        self._held.clear()
