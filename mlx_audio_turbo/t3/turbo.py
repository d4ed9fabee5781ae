"""T3: speaker, prompt and text in; logits of speech tokens out.

One sequence, one position table over all of it: the speaker's row, the prompt's tokens, the text,
the start token, then speech. Dimensions: B batch, T time, P prompt tokens, C width, V speech ids.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..config import T3Config
from .cache import KeyValueCache
from .gpt2 import GPT2


class ConditionEncoder(nn.Module):
    """Speaker embedding to one row of the sequence."""

    def __init__(self, config: T3Config):
        super().__init__()
        self.spkr_enc = nn.Linear(config.speaker_embedding, config.width)


class T3(nn.Module):
    """The language model from text to speech tokens (25 per second)."""

    def __init__(self, config: T3Config):
        super().__init__()
        self._config = config
        self.cond_enc = ConditionEncoder(config)
        self.text_emb = nn.Embedding(config.text_vocabulary, config.width)
        self.speech_emb = nn.Embedding(config.speech_vocabulary, config.width)
        self.tfmr = GPT2(config)
        self.speech_head = nn.Linear(config.width, config.speech_vocabulary)

    @property
    def config(self) -> T3Config:
        """The sizes that this model was made with."""
        return self._config

    def make_cache(self) -> KeyValueCache:
        """An empty cache."""
        return KeyValueCache(self._config.layers)

    def prefix(self, speaker: mx.array, prompt_tokens: mx.array) -> mx.array:
        """Embeddings (B, 1 + P, C) of ``speaker`` (B, 256) and ``prompt_tokens`` (B, P)."""
        row = self.cond_enc.spkr_enc(speaker.astype(self.speech_emb.weight.dtype))
        return mx.concatenate([row[:, None], self.embed_speech(prompt_tokens)], axis=1)

    def embed_text(self, ids: mx.array) -> mx.array:
        """Embeddings (B, T, C) of text ids (B, T)."""
        return self.text_emb(ids)

    def embed_speech(self, ids: mx.array) -> mx.array:
        """Embeddings (B, T, C) of speech ids (B, T)."""
        return self.speech_emb(ids)

    def __call__(
        self,
        embeddings: mx.array,
        *,
        cache: KeyValueCache | None = None,
        positions: mx.array | None = None,
        mask: mx.array | None = None,
    ) -> mx.array:
        """Hidden states (B, T, C) of ``embeddings`` (B, T, C); arguments as in :class:`GPT2`."""
        return self.tfmr(embeddings, cache=cache, positions=positions, mask=mask)

    def logits(self, hidden: mx.array) -> mx.array:
        """Float32 scores (..., V) of the speech token that follows each of ``hidden`` (..., C)."""
        return self.speech_head(hidden).astype(mx.float32)
