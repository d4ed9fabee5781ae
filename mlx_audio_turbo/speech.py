"""What the model gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .audio.files import write_audio
from .config import SAMPLE_RATE


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """Audio as it comes.

    audio: (samples,) float32, may be empty in the last chunk.
    index: counts the chunks of a stream from 0.
    text: the segment of the text that is spoken.
    """

    audio: np.ndarray
    sample_rate: int
    index: int
    is_last: bool
    text: str


@dataclass(frozen=True, eq=False)
class Speech:
    """One utterance.

    audio: (samples,) float32 within ±0.99.
    tokens: (tokens,) int32 speech tokens that were sampled, at 25 per second.
    seed: gives the same audio again for the same text, voice, options and model.
    seconds: what each stage took, by name.
    notes: what did not go as it should, in words; empty for most.
    """

    audio: np.ndarray
    text: str
    tokens: np.ndarray
    seed: int
    sample_rate: int = SAMPLE_RATE
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Length of the audio in seconds."""
        return len(self.audio) / self.sample_rate

    def save(self, path: str | Path) -> Path:
        """Write the audio, whole or not at all; the suffix chooses the format.

        Raises:
            AudioError: an unknown suffix, or a place that cannot be written.
        """
        return write_audio(path, self.audio, self.sample_rate)
