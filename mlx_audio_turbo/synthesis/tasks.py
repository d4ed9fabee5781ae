"""What the scheduler works on: segments of text as tasks, and pieces of their audio."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce

import mlx.core as mx
import numpy as np

from ..errors import TextError
from ..text.normalize import drop_invisible, normalize_text
from ..text.segments import Segment, split_text
from ..voice import Voice
from .noise import fold


@dataclass(frozen=True)
class Task:
    """One segment to speak.

    text: index of the text that the segment belongs to.
    path: position in the text; each part of a segment that was split appends a number.
    seed_key: (2,), random key of the text; position and attempt give the segment its own key.
    attempt: how often the segment was sampled before.
    """

    text: int
    path: tuple[int, ...]
    segment: Segment
    voice: Voice
    seed_key: mx.array
    attempt: int = 0

    @property
    def position(self) -> tuple[int, tuple[int, ...]]:
        """The sort key among all tasks."""
        return self.text, self.path

    @property
    def title(self) -> str:
        """The beginning of its text, for messages."""
        text = self.segment.text
        return text if len(text) <= 40 else f"{text[:37]}..."

    @property
    def key(self) -> mx.array:
        """(2,), random key of this attempt."""
        return reduce(fold, (*self.path, self.attempt), self.seed_key)


@dataclass(frozen=True, eq=False)
class Piece:
    """Audio of a task, in order.

    last: whether the task ends with it; ``tokens`` and ``notes`` are then those of the whole task.
    """

    task: Task
    audio: np.ndarray
    last: bool
    tokens: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=lambda: {"tokens": 0.0, "audio": 0.0})

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


@dataclass
class Work(Clock):
    """What a model has done, over all calls.

    tokens: speech tokens, in so many ``steps`` of decoding batches.
    """

    tokens: int = 0
    steps: int = 0

    def took_step(self, tokens: int) -> None:
        """Count a step that sampled so many tokens."""
        self.steps, self.tokens = self.steps + 1, self.tokens + tokens


def segments_of(text: str, limit: int) -> list[Segment]:
    """The segments of ``text``, each at most as long as ``limit`` letters.

    Raises:
        TextError: nothing to say.
        OptionError: ``limit`` is too low.
    """
    if not isinstance(text, str):
        raise TextError(f"the text is a {type(text).__name__}; give a str")
    text = drop_invisible(text)
    normalize_text(text)
    segments = split_text(text, limit=limit, by_script=True)
    if not any(segment.speakable for segment in segments):
        raise TextError("the text has no letter or digit; give at least one word to say")
    # A text of one segment stays as it was given: a space at its start changes the first letter.
    return segments if len(segments) > 1 else [Segment(text, "end", "")]


def tasks_of(
    work: Sequence[tuple[Sequence[Segment], Voice]], seed: int, first: int
) -> Iterator[Task]:
    """A task for each segment from index ``first`` on, of each text with its voice."""
    key = mx.random.key(seed)
    for index, (segments, voice) in enumerate(work):
        for position, segment in enumerate(segments[first:], first):
            yield Task(index, (position,), segment, voice, key)
