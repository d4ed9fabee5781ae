"""Speech to words, and how far the words are from those that were to be said.

The recogniser is Moonshine tiny (MIT), whose English model is in the wheel of ``moonshine-voice``
0.1.0. It makes errors of its own: the voices that ``demo`` was trained on are at 10 to 20 %.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlx_audio_turbo.audio.resample import resample_soxr
from mlx_audio_turbo.config import SAMPLE_RATE

RECOGNISER_RATE = 16_000
PADDING = 0.3
"""Seconds of silence around an utterance, which the recogniser needs."""


class Recogniser:
    """Speech to words."""

    def __init__(self) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_model_path

        self._transcriber: Any = Transcriber(get_model_path("tiny-en"), ModelArch.TINY)

    def words(self, audio: np.ndarray) -> list[str]:
        """The words of 24 kHz samples (N,)."""
        samples = resample_soxr(audio.astype(np.float32), SAMPLE_RATE, RECOGNISER_RATE)
        silence = np.zeros(round(PADDING * RECOGNISER_RATE), np.float32)
        samples = np.concatenate(
            [silence, samples * (0.5 / max(1e-3, np.abs(samples).max())), silence]
        )
        found = self._transcriber.transcribe_without_streaming(samples.tolist(), RECOGNISER_RATE)
        return spoken(" ".join(line.text for line in found.lines))


def spoken(text: str) -> list[str]:
    """The words of a text, without marks and capitals."""
    return re.sub(r"[^a-z' ]", " ", text.lower().replace("-", " ").replace("’", "'")).split()


@dataclass(frozen=True)
class Errors:
    """Word errors over some sentences: words to insert, delete or replace."""

    wrong: int
    words: int

    @property
    def rate(self) -> float:
        """In percent."""
        return 100 * self.wrong / max(1, self.words)

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.wrong + other.wrong, self.words + other.words)


@dataclass(frozen=True)
class Heard:
    """What was heard of a sentence: its words that were right, and all words at its place."""

    wanted: int
    right: int
    found: int

    @property
    def lost(self) -> bool:
        """Most of the sentence is not there."""
        return self.right < self.wanted / 3

    @property
    def doubled(self) -> bool:
        """There are words for half a sentence more."""
        return self.found > 1.5 * self.wanted


def _distances(wanted: Sequence[str], found: Sequence[str]) -> list[list[int]]:
    """Levenshtein's table: row i and column j for the first i and j words."""
    table = [list(range(len(found) + 1))]
    for i, one in enumerate(wanted, 1):
        above, row = table[-1], [i]
        for j, other in enumerate(found, 1):
            row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (one != other)))
        table.append(row)
    return table


def compare(wanted: Sequence[str], found: Sequence[str]) -> Errors:
    """The errors of the words of a sentence."""
    return Errors(_distances(wanted, found)[-1][-1], len(wanted))


def by_sentence(sentences: Sequence[Sequence[str]], found: Sequence[str]) -> list[Heard]:
    """Each sentence of a long text, where ``found`` are the words of the whole."""
    wanted = [(word, i) for i, words in enumerate(sentences) for word in words]
    table = _distances([word for word, _ in wanted], found)
    right, taken = [0] * len(sentences), [0] * len(sentences)
    i, j = len(wanted), len(found)
    while j:
        if i and table[i][j] == table[i - 1][j] + 1:
            i -= 1
        elif i and table[i][j] == table[i - 1][j - 1] + (wanted[i - 1][0] != found[j - 1]):
            i, j = i - 1, j - 1
            right[wanted[i][1]] += wanted[i][0] == found[j]
            taken[wanted[i][1]] += 1
        else:
            j -= 1
            taken[wanted[max(0, i - 1)][1]] += 1
    return [Heard(len(words), right[i], taken[i]) for i, words in enumerate(sentences)]
