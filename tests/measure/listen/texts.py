"""Long texts, made of the fixed sentences."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, Voice

from .words import Errors, Heard, Recogniser, by_sentence, compare, spoken

SENTENCES = Path(__file__).parents[2] / "data" / "sentences_40.txt"
"""Unseen in training, fixed before anything was measured on them."""


def sentences() -> list[str]:
    return SENTENCES.read_text("utf-8").splitlines()


def paragraph(texts: Sequence[str], characters: int) -> list[str]:
    """The first sentences, together as long as ``characters`` allow."""
    chosen: list[str] = []
    for text in texts:
        if len(" ".join([*chosen, text])) > characters:
            break
        chosen.append(text)
    return chosen


def long_text(texts: Sequence[str], words: int) -> list[str]:
    """The sentences in one random order after another, none beside itself, until ``words``."""
    chance, chosen, count = random.Random(0), [], 0
    while True:
        order = list(texts)
        chance.shuffle(order)
        if chosen and chosen[-1] == order[0]:
            order.append(order.pop(0))
        for text in order:
            chosen.append(text)
            count += len(spoken(text))
            if count >= words:
                return chosen


def in_parts(
    model: ChatterboxTurbo, texts: Sequence[str], voice: Voice, seed: int
) -> Iterator[np.ndarray]:
    """The sentences spoken as one text, segment by segment."""
    for part in model.generate_parts(" ".join(texts), voice=voice, seed=seed):
        yield part.audio


def in_chunks(
    model: ChatterboxTurbo, texts: Sequence[str], voice: Voice, seed: int
) -> Iterator[np.ndarray]:
    """The same, streamed."""
    audio: list[np.ndarray] = []
    for chunk in model.stream(" ".join(texts), voice=voice, seed=seed):
        audio.append(chunk.audio)
        if len(chunk.tokens):  # which the last chunk of a segment holds
            yield np.concatenate(audio)
            audio = []


def listen(
    recogniser: Recogniser, texts: Sequence[str], segments: Iterable[np.ndarray]
) -> tuple[Errors, list[Heard]]:
    """The errors of the whole, and what was heard of each sentence.

    The recogniser takes the segments one by one, since it splits long audio within words.
    """
    found = [word for audio in segments for word in recogniser.words(audio)]
    wanted = [spoken(text) for text in texts]
    return compare([word for words in wanted for word in words], found), by_sentence(wanted, found)
