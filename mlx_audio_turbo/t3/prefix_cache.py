"""The voice's part of the sequence, computed once for all its sentences."""

from __future__ import annotations

from collections import OrderedDict

import mlx.core as mx

from .cache import KeyValueCache
from .decoder import prefill_prefix
from .turbo import T3


class PrefixCache:
    """Caches after speaker and prompt of the last few voices; at full size 74 MB each in float32.

    T3 is causal: the keys and values of the prefix do not depend on the text that follows.
    """

    def __init__(self, model: T3, *, voices: int = 4):
        self._model, self._voices = model, voices
        self._held: OrderedDict[str, KeyValueCache] = OrderedDict()

    def get(self, fingerprint: str, speaker: mx.array, prompt_tokens: mx.array) -> KeyValueCache:
        """The cache of the voice of this fingerprint; to be continued in a copy.

        Args:
            speaker: (1, 256).
            prompt_tokens: (1, P).
        """
        if fingerprint in self._held:
            self._held.move_to_end(fingerprint)
            return self._held[fingerprint]
        cache = prefill_prefix(self._model, speaker, prompt_tokens)
        cache.trim()
        mx.eval(cache.arrays)
        self._held[fingerprint] = cache
        if len(self._held) > self._voices:
            self._held.popitem(last=False)
        return cache

    def clear(self) -> None:
        """Let go of all voices."""
        self._held.clear()
