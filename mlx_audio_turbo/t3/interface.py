"""What the decoder asks of a T3, the language model from text to speech tokens.

Dimensions: B utterances, R cache rows per utterance, T time, P positions of the prefix, C width,
V speech ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import mlx.core as mx
import numpy as np
from typing_extensions import Self

from ..config import Quantization
from ..options import SamplingOptions
from .sampling import Filter


@dataclass(frozen=True, eq=False)
class Condition:
    """What precedes the text in the sequence.

    speaker: (1, 256), the speaker embedding of the voice encoder.
    prompt_tokens: (1, P), speech tokens of the reference clip.
    exaggeration: strength of the emotion; only the original model has it.
    """

    speaker: mx.array
    prompt_tokens: mx.array
    exaggeration: float = 0.5


class Cache(Protocol):
    """Keys and values of the positions that the transformer has processed, for some rows."""

    @property
    def offset(self) -> int:
        """Positions held, padding included."""
        ...

    @property
    def arrays(self) -> list[mx.array]:
        """Every buffer, for the caller to evaluate."""
        ...

    def copy(self) -> Self:
        """An independent cache that shares the buffers until one of the two writes."""
        ...

    def release_spare(self) -> None:
        """Free the room for positions to come, for a prefix that is only continued in copies."""
        ...

    @classmethod
    def gather(cls, rows: Sequence[tuple[Self, int, int]]) -> Self:
        """One cache of rows from several caches, which are emptied.

        Args:
            rows: for each a cache, its index there, and how many of the last positions are its own.
        """
        ...


Forward: TypeAlias = Callable[[mx.array, Any, Sequence[int]], mx.array]
"""``forward(x, cache, lengths)``: logits (B * R, V), float32, of what follows ``x`` (B * R, T, C).

The rows of an utterance are neighbours. The cache grows by ``x``. ``lengths`` (B * R,) counts the
positions of each row in it: the last ones; the positions before are padding. The cache is one of
the model's own.
"""


SpeechRows: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Embeddings (B, C), float32, of speech ids (B,) at positions (B,)."""


class AtOnce:
    """A :data:`Forward` whose logits are in memory when it returns: a CPU's own form."""


class T3(Protocol):
    """A language model that the decoder can run."""

    @property
    def filters(self) -> Sequence[Filter]:
        """The sampling filters, in the model's order."""
        ...

    @property
    def invalid_ids(self) -> Sequence[int]:
        """Speech ids that are never sampled."""
        ...

    def __call__(self, embeddings: mx.array) -> mx.array:
        """Hidden states (B, T, C), after the last norm, of ``embeddings`` (B, T, C)."""
        ...

    def logits(self, hidden: mx.array) -> mx.array:
        """Float32 logits (..., V) of the speech token that follows ``hidden`` (..., C)."""
        ...

    @property
    def speech_vocabulary(self) -> int:
        """V, the number of speech ids."""
        ...

    def rows(self, options: SamplingOptions) -> int:
        """R, the cache rows that an utterance takes with these options."""
        ...

    def room(self, prefix: int, text_ids: mx.array) -> int:
        """How many speech tokens fit after ``prefix`` positions and ``text_ids`` (T,).

        Raises:
            OptionError: the text is too long for the model.
        """
        ...

    def prefix(self, condition: Condition) -> mx.array:
        """Embeddings (1, P, C) of the condition."""
        ...

    def embed_input(self, text_ids: mx.array, rows: int) -> mx.array:
        """Embeddings (R, T, C) of ``text_ids`` (T,) and the start of speech after them."""
        ...

    def embed_speech(self, ids: mx.array, positions: mx.array) -> mx.array:
        """Embeddings (B, T, C) of speech ids (B, T).

        Args:
            positions: (B, T) or (T,); the start token is at 0 and the first sampled token at 1.
        """
        ...

    def speech_rows(self) -> SpeechRows:
        """:meth:`embed_speech` in NumPy, for arithmetic in float32 on a CPU."""
        ...

    def make_cache(self) -> Cache:
        """An empty cache."""
        ...

    def make_forward(self) -> Forward:
        """The forward pass for the current device."""
        ...

    def reads_stored(self) -> bool:
        """Whether :meth:`make_forward` on a CPU reads half and quantised weights as they are."""
        ...

    def start_compiling(
        self, quantization: Quantization | None, floats: str, *, keep: bool = False
    ) -> None:
        """Compile the kernels for weights of this kind in the background, where there are some.

        Args:
            floats: ``"float32"``, ``"float16"`` or ``"bfloat16"``, of what is not quantised.
            keep: this process does not end before the code is in the cache.
        """
        ...


def prefill_prefix(model: T3, condition: Condition) -> Cache:
    """The cache after the condition, which every sentence of a voice shares."""
    cache, embeddings = model.make_cache(), model.prefix(condition)
    model.make_forward()(embeddings, cache, [0])
    return cache
