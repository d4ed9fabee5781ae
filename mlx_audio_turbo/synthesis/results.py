"""Text to the tasks of the loop, and its pieces to what callers get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np

from ..config import SAMPLE_RATE
from ..errors import TextError
from ..speech import AudioChunk, Speech
from ..text.segments import Segment, pack
from ..text.tokenizer import normalize_text
from ..voice import Voice
from .scheduler import Clock, Piece, Task


def segments_of(text: str, limit: int) -> list[Segment]:
    """What is spoken in one go each, at most ``limit`` characters long.

    Raises:
        TextError: nothing to say.
        OptionError: ``limit`` is too low.
    """
    if not isinstance(text, str):
        raise TextError(f"the text is a {type(text).__name__}; give a str")
    normalize_text(text)
    segments = pack(text, limit=limit)
    if not any(segment.speakable for segment in segments):
        raise TextError("the text has no letter or digit; give at least one word to say")
    # A text that is spoken in one go goes as it came: where it begins with a space matters.
    return segments if len(segments) > 1 else [Segment(text, "end", "")]


def tasks_of(
    work: Sequence[tuple[Sequence[Segment], Voice]], seed: int, first: int
) -> Iterator[Task]:
    """A task for each segment from ``first`` on, of each text with its voice."""
    key = mx.random.key(seed)
    for index, (segments, voice) in enumerate(work):
        for place, segment in enumerate(segments[first:], first):
            yield Task(index, (place,), segment, voice, key)


def chunks_of(pieces: Iterable[Piece]) -> Iterator[AudioChunk]:
    """Each piece as the caller of a stream sees it."""
    for index, piece in enumerate(pieces):
        segment = piece.task.segment
        yield AudioChunk(
            audio=piece.audio,
            sample_rate=SAMPLE_RATE,
            index=index,
            is_last=piece.last and segment.pause == "end",
            text=segment.text,
        )


def speeches(
    texts: Sequence[str], pieces: Iterable[Piece], seed: int, clock: Clock
) -> Iterator[Speech]:
    """One for each text."""
    held: list[Piece] = []
    for piece in pieces:
        held.append(piece)
        if piece.last and piece.task.segment.pause == "end":
            yield joined(texts[piece.task.text], held, seed, clock)
            held = []


def parts(
    segments: Sequence[Segment], pieces: Iterable[Piece], seed: int, clock: Clock
) -> Iterator[Speech]:
    """One for each segment of a text, each with its own time."""
    before = dict(clock.seconds)
    held: list[Piece] = []

    def part() -> Speech:
        nonlocal before
        speech = joined(segments[held[0].task.path[0]].text, held, seed, clock)
        spent = {stage: speech.seconds[stage] - before[stage] for stage in before}
        before = dict(speech.seconds)
        held.clear()
        return replace(speech, seconds=spent)

    for piece in pieces:
        path = piece.task.path
        if held and held[0].task.path[0] != path[0]:
            yield part()
        held.append(piece)
        # Of a segment that was split, only the next one tells the end.
        if piece.last and len(path) == 1:
            yield part()
    if held:
        yield part()


def joined(text: str, pieces: Sequence[Piece], seed: int, clock: Clock) -> Speech:
    """All pieces as one."""
    return Speech(
        audio=np.concatenate([piece.audio for piece in pieces]),
        text=text,
        tokens=np.array([token for piece in pieces for token in piece.tokens], np.int32),
        seed=seed,
        seconds=dict(clock.seconds),
        notes=tuple(note for piece in pieces for note in piece.notes),
    )
