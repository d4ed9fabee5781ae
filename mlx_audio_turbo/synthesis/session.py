"""A call on its way through the scheduler: its tasks, its utterances and its pieces."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..audio.trimming import fade_out, speech_end
from ..config import SAMPLE_RATE, SPEECH_CODES
from ..options import SpeakingOptions
from ..t3.decoder import Decoder
from ..text.segments import pause_after
from .ordering import InOrder
from .tasks import Clock, Piece, Task
from .token_to_wav import TokenToWav
from .watchdog import Verdict, Watchdog

PATIENCE = 60.0
"""Seconds that the rendering of a whole utterance may be put off for streams."""
MAX_READY = 64
"""Pieces that wait for the caller before a session starts no more tasks."""


class Session:
    """The tasks of one call and the pieces of their audio.

    ready: pieces for the caller, in the order of the tasks.
    active: utterances that are being decoded; unrendered: those that wait for their audio.
    error: what one of its utterances raised.
    """

    def __init__(
        self,
        tasks: Iterator[Task],
        encode_text: Callable[[str], list[int]],
        options: SpeakingOptions,
        clock: Clock,
        pending: Callable[[], bool],
    ):
        self.encode_text, self.options, self.clock = encode_text, options, clock
        self.ready: deque[Piece] = deque()
        self.active = self.unrendered = 0
        self.error: BaseException | None = None
        self.opened = time.monotonic()
        self._waiting: Iterator[Task] | None = tasks
        self._pending = pending
        self._again: deque[Task] = deque()
        self._order = InOrder()
        self._emitted: tuple[float, float] | None = None  # when the first audio came, and its end

    @property
    def done(self) -> bool:
        """Whether all pieces were made and taken."""
        more = self._waiting is not None or self._again or self.active or self.unrendered
        return not more and not self.ready and self.error is None

    @property
    def asleep(self) -> bool:
        """Whether it can do nothing until its next task is known."""
        busy = self._again or self.active or self.unrendered or self.ready
        return self._waiting is not None and not busy and self._pending()

    @property
    def wants_task(self) -> bool:
        """Whether another of its tasks can start."""
        more = bool(self._again) or (self._waiting is not None and not self._pending())
        return more and self.active < self.options.batch_size and len(self.ready) < MAX_READY

    @property
    def deadline(self) -> float:
        """When its next audio is wanted: at the end of the audio that a stream has so far."""
        if self.options.chunks is None:
            return self.opened + PATIENCE
        return self._emitted[1] if self._emitted else self.opened

    def next_task(self) -> Task | None:
        """The next task, which keeps its place in the order from now on; None at the end."""
        if self._again:
            task = self._again.popleft()
        else:
            task = next(self._waiting, None) if self._waiting is not None else None
            if task is None:
                self._waiting = None
                return None
        self._order.begin(task)
        return task

    def again(self, task: Task) -> None:
        """Start a task again, before all others."""
        self.active -= 1
        self._again.appendleft(task)

    def split(self, task: Task, parts: list[Task]) -> None:
        """Replace a task by its parts."""
        self.active -= 1
        self._order.split(task, parts)
        self._again.extend(parts)

    def add(self, piece: Piece) -> None:
        """Take a piece; pieces whose turn has come become ready."""
        now, seconds = time.monotonic(), len(piece.audio) / SAMPLE_RATE
        start, end = self._emitted or (now, now)
        self._emitted = start, max(end, now) + seconds
        self.ready.extend(self._order.add(piece))

    def fail(self, error: BaseException) -> None:
        """End with an error, which the caller gets after the pieces that are ready."""
        self.error = error
        self._waiting = None
        self._again.clear()
        self.active = self.unrendered = 0

    def last_piece(
        self,
        task: Task,
        emitted: list[np.ndarray],
        rest: list[np.ndarray],
        notes: tuple[str, ...],
        tokens: tuple[int, ...] = (),
    ) -> Piece:
        """The last piece of a task: the remaining audio, trimmed, and the pause after it."""
        audio = np.concatenate([*rest, np.zeros(0, np.float32)])
        options = self.options
        if options.trim and len(audio):
            start = sum(map(len, emitted))
            keep = speech_end(
                np.concatenate([*emitted, audio]),
                sample_rate=SAMPLE_RATE,
                options=options.trim,
            )
            # Emitted audio stays as it is.
            if (keep := max(0, keep - start)) < len(audio):
                audio = fade_out(audio[:keep], sample_rate=SAMPLE_RATE)
        pause = np.zeros(round(pause_after(task.segment, options.pauses) * SAMPLE_RATE), np.float32)
        return Piece(task, np.concatenate([audio, pause]), last=True, tokens=tokens, notes=notes)


class Utterance:
    """A task that is being decoded or rendered.

    chunk: chunks that were queued for rendering; emitted: their audio.
    """

    def __init__(
        self,
        task: Task,
        session: Session,
        decoder: Decoder,
        renderer: TokenToWav,
        watchdog: Watchdog | None,
    ):
        self.task, self.session, self.decoder, self.renderer = task, session, decoder, renderer
        self.tokens: list[int] = []
        self.chunk = 0
        self.emitted: list[np.ndarray] = []
        self.notes: tuple[str, ...] = ()
        self._watchdog = watchdog

    @property
    def speech_tokens(self) -> list[int]:
        """Its tokens without the special ones."""
        return [token for token in self.tokens if token < SPEECH_CODES]

    def add(self, token: int) -> Verdict | None:
        """Append a token; gives a verdict where generation has run away."""
        self.tokens.append(token)
        return self._watchdog.feed(token) if self._watchdog else None


@dataclass(eq=False)
class Rendering:
    """Audio to make: a chunk of an utterance, or its rest.

    tokens: all speech tokens of the utterance up to the end of the chunk. A chunk that is rendered
        late has the same tokens, and so the same audio, as one that is rendered at once.
    """

    utterance: Utterance
    tokens: Sequence[int]
    final: bool
    queued: float = field(default_factory=time.monotonic)

    @property
    def session(self) -> Session:
        """The session of the utterance."""
        return self.utterance.session

    @property
    def deadline(self) -> tuple[float, float]:
        """What is rendered first; chunks of an utterance keep their order."""
        return self.session.deadline, self.queued

    def due(self, waits: bool) -> bool:
        """Whether it can be rendered now; ``waits``: for others of its session."""
        return not (self.final and waits)
