"""The results of a model: speech, and chunks of a stream."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .audio.files import encode_audio, to_int16, write_audio
from .config import SAMPLE_RATE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLAIN_SECONDS = 60
"""A notebook stores the audio that it plays: longer speech is embedded as mp3."""


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """Audio of a stream.

    audio: (samples,) float32, may be empty in the last chunk.
    index: counts the chunks of a stream from 0.
    text: the segment of the text that is spoken.
    tokens: (tokens,) int32, the speech tokens of the segment, in its last chunk; else empty.
    notes: what went wrong in the segment, in its last chunk; mostly empty.
    """

    audio: np.ndarray
    sample_rate: int
    index: int
    is_last: bool
    text: str
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Speech:
    """One utterance.

    audio: (samples,) float32 within ±0.99.
    tokens: (tokens,) int32 speech tokens that were sampled, at 25 per second.
    seed: gives the same audio again for the same text, voice, options and model.
    seconds: what each stage took, by name.
    notes: what did not go as it should, in words; empty for most.
    watermarked: whether the audio carries Perth's watermark.

    In a notebook it shows a player.
    """

    audio: np.ndarray
    text: str
    tokens: np.ndarray
    seed: int
    sample_rate: int = SAMPLE_RATE
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    watermarked: bool = False

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

    def to_int16(self) -> np.ndarray:
        """The samples (samples,) as 16-bit integers, for sound cards and other libraries."""
        return to_int16(self.audio)

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of audio; below 1 is faster than it plays."""
        return sum(self.seconds.values()) / self.duration if len(self.audio) else 0.0

    def plot(self, path: str | Path | None = None) -> Figure:
        """Waveform, mel spectrogram, F0 and tokens, one above the other; ``path`` keeps an image.

        Raises:
            ExtraError: matplotlib is not installed, or the image cannot be written.
        """
        from .plotting import compare

        return compare(self, path=path)

    def with_watermark(self) -> Speech:
        """This speech with Perth's watermark; unchanged where it has one or is under 0.1 s long.

        Raises:
            ExtraError: resemble-perth is not installed.
        """
        from .audio import watermark

        if self.watermarked or self.duration < watermark.SHORTEST:
            return self
        audio = watermark.apply(self.audio, self.sample_rate)
        return replace(self, audio=audio, watermarked=True)

    def _repr_html_(self) -> str:
        suffix = "wav" if self.duration <= _PLAIN_SECONDS else "mp3"
        sound = base64.b64encode(encode_audio(self.audio, self.sample_rate, suffix)).decode()
        kind = {"wav": "wav", "mp3": "mpeg"}[suffix]
        return (
            f'<audio controls src="data:audio/{kind};base64,{sound}"></audio>'
            f"<div>{html.escape(self.text)}</div>"
        )

    def __repr__(self) -> str:
        words = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        return f"Speech({self.duration:.2f} s, {words!r}, seed={self.seed})"
