"""Pieces of audio → what the callers of a model get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..config import SAMPLE_RATE
from ..speech import AudioChunk, Speech
from ..text.segments import Segment
from .engine import Results
from .tasks import Clock, Piece
from .text_feed import TextFeed


class Chunks:
    """The chunks of a stream, one for each piece, as an iterator.

    Unlike a generator it may be closed by another thread while a caller waits for the next chunk,
    which then ends.

    Args:
        feed: where the text comes from, if it comes in pieces.
    """

    def __init__(self, pieces: Results[Piece], feed: TextFeed | None = None):
        self._pieces, self._feed, self._index = pieces, feed, 0

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> AudioChunk:
        try:
            piece = next(self._pieces)
        except BaseException as error:
            self._end(error)
            raise
        index, self._index = self._index, self._index + 1
        segment = piece.task.segment
        return AudioChunk(
            audio=piece.audio,
            sample_rate=SAMPLE_RATE,
            index=index,
            is_last=piece.last and segment.pause == "end",
            text=segment.text,
            tokens=np.array(piece.tokens, np.int32),
            notes=piece.notes,
        )

    def close(self) -> None:
        """End the work; the remaining chunks are dropped."""
        self._pieces.close()
        if self._feed is not None:
            self._feed.close()

    def __del__(self) -> None:
        self.close()

    def _end(self, error: BaseException) -> None:
        """Take no more text; at the end of the audio, raise what ended the text early."""
        if self._feed is None:
            return
        self._feed.close()
        early, self._feed.error = self._feed.error, None
        if isinstance(error, StopIteration) and early is not None:
            raise early from None


def speeches(
    texts: Sequence[str], pieces: Iterable[Piece], seed: int, clock: Clock
) -> Iterator[Speech]:
    """One speech for each text."""
    collected: list[Piece] = []
    for piece in pieces:
        collected.append(piece)
        if piece.last and piece.task.segment.pause == "end":
            yield joined(texts[piece.task.text], collected, seed, clock)
            collected = []


def parts(
    segments: Sequence[Segment], pieces: Iterable[Piece], seed: int, clock: Clock
) -> Iterator[Speech]:
    """One speech for each segment of a text, each with its own time."""
    before = dict(clock.seconds)
    collected: list[Piece] = []

    def part() -> Speech:
        nonlocal before
        speech = joined(segments[collected[0].task.path[0]].text, collected, seed, clock)
        spent = {stage: speech.seconds[stage] - before[stage] for stage in before}
        before = dict(speech.seconds)
        collected.clear()
        return replace(speech, seconds=spent)

    for piece in pieces:
        path = piece.task.path
        if collected and collected[0].task.path[0] != path[0]:
            yield part()
        collected.append(piece)
        # The end of a segment that was split shows only in the piece after it.
        if piece.last and len(path) == 1:
            yield part()
    if collected:
        yield part()


def joined(text: str, pieces: Sequence[Piece], seed: int, clock: Clock) -> Speech:
    """All pieces as one speech."""
    return Speech(
        audio=np.concatenate([piece.audio for piece in pieces]),
        text=text,
        tokens=np.array([token for piece in pieces for token in piece.tokens], np.int32),
        seed=seed,
        seconds=dict(clock.seconds),
        notes=tuple(note for piece in pieces for note in piece.notes),
    )
