"""The one loop: segments of text in, pieces of audio out.

Streaming is this loop with chunks, a whole utterance is it without, and a batch is it with several
places. Nothing here knows threads or files.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce

import mlx.core as mx
import numpy as np

from .. import ops
from ..config import SAMPLE_RATE, SPEECH_CODES, RenderingConfig
from ..loading.networks import Networks
from ..options import (
    MAX_TOKENS,
    SpeakingOptions,
)
from ..t3.decoder import Decoder, Request
from ..t3.prefix_cache import PrefixCache
from ..text.segments import Segment, pause_after, split_again
from ..voice import Voice
from .noise import Draws, fold
from .ordering import InOrder
from .token_to_wav import Renderer, alike, push_together, tokens_due
from .watchdog import Verdict, Watchdog, fade_out, trim

log = logging.getLogger("mlx_audio_turbo")


@dataclass(frozen=True)
class Task:
    """One segment to speak.

    text: the index of the text that it is of.
    path: its place in the text; the parts of a segment that was split add a number to it.
    seed_key: (2,), the key of the text's seed; place and attempt give the segment's own.
    """

    text: int
    path: tuple[int, ...]
    segment: Segment
    voice: Voice
    seed_key: mx.array
    attempt: int = 0

    @property
    def place(self) -> tuple[int, tuple[int, ...]]:
        """Where it stands among all tasks."""
        return self.text, self.path

    @property
    def key(self) -> mx.array:
        """(2,), of this attempt."""
        return reduce(fold, (*self.path, self.attempt), self.seed_key)


@dataclass(frozen=True, eq=False)
class Piece:
    """Audio of a task, in order; ``last`` closes the task and carries what is known of it then."""

    task: Task
    audio: np.ndarray
    last: bool
    tokens: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=lambda: {"tokens": 0.0, "audio": 0.0})

    def time(self, stage: str, started: float) -> None:
        self.seconds[stage] += time.perf_counter() - started


class _Utterance:
    """A task on its way."""

    def __init__(self, task: Task, renderer: Renderer, watchdog: Watchdog | None):
        self.task, self.renderer, self.watchdog = task, renderer, watchdog
        self.tokens: list[int] = []
        self.chunk = 0
        self.given: list[np.ndarray] = []

    @property
    def spoken(self) -> list[int]:
        """Its tokens that are speech."""
        return [token for token in self.tokens if token < SPEECH_CODES]

    def hear(self, token: int) -> Verdict | None:
        """Take a token; tells when it has run astray."""
        self.tokens.append(token)
        return self.watchdog.feed(token) if self.watchdog else None


def rendered_together(options: SpeakingOptions) -> int:
    """How many utterances that have ended are rendered together.

    On a GPU as many as are decoded together: short ones leave it idle. On the CPU each for itself:
    its cores are busy with one, and the first is there the sooner. Streams wait for nobody.
    """
    return options.batch_size if ops.on_gpu() and options.chunks is None else 1


class Speaker:
    """The loop over one call's tasks."""

    def __init__(
        self,
        networks: Networks,
        encode_text: Callable[[str], list[int]],
        prefixes: PrefixCache,
        options: SpeakingOptions,
        clock: Clock,
        *,
        rendering: RenderingConfig,
    ):
        self._rendering = rendering
        self._networks, self._encode_text, self._prefixes = networks, encode_text, prefixes
        self._options, self._clock = options, clock
        self._decoder = Decoder(networks.t3, options=options.sampling)
        self._active: dict[int, _Utterance] = {}
        self._ended: list[tuple[_Utterance, tuple[str, ...]]] = []  # and not rendered
        self._together = rendered_together(options)
        self._again: deque[Task] = deque()
        self._ids = 0

    def speak(self, tasks: Iterable[Task]) -> Iterator[Piece | None]:
        """Pieces in the order of the tasks; None between the steps that give none."""
        waiting = iter(tasks)
        order = InOrder()
        more = True
        while True:
            while more and len(self._active) < self._options.batch_size:
                task = self._again.popleft() if self._again else next(waiting, None)
                if task is None:
                    more = False
                    break
                order.begin(task)
                if not task.segment.speakable:
                    yield from order.give(self._close(task, [], [], ()))
                    continue
                self._begin(task)
            if not self._active:
                for piece in self._render_ended():
                    yield from order.give(piece)
                return
            started = time.perf_counter()
            drawn = self._decoder.step()
            self._clock.time("tokens", started)
            yield None
            for number, token in drawn:
                if number not in self._active:
                    continue
                for piece in self._take(number, token, order):
                    yield from order.give(piece)
            more = more or bool(self._again)

    def close(self) -> None:
        """Free what decoding holds."""
        for number in list(self._active):
            with suppress(KeyError):  # it has ended, and there was no time to take that in
                self._decoder.remove(number)
        self._active.clear()

    def _begin(self, task: Task) -> None:
        voice, options = task.voice, self._options
        decode_key, render_key = mx.random.split(task.key)
        prefix = self._prefixes.get(
            voice.fingerprint,
            mx.array(voice.speaker_embedding)[None],
            mx.array(voice.t3_prompt_tokens)[None],
        )
        renderer = Renderer(
            self._networks.s3gen,
            voice,
            Draws(render_key),
            self._rendering,
            window=options.chunks.window if options.chunks else 0,
        )
        watchdog = Watchdog(options.watchdog) if options.watchdog else None
        utterance = _Utterance(task, renderer, watchdog)
        self._ids += 1
        self._decoder.add(
            Request(
                id=self._ids,
                text_ids=mx.array(self._encode_text(task.segment.text)),
                prefix=prefix,
                key=decode_key,
                max_tokens=options.max_tokens,
            )
        )
        self._active[self._ids] = utterance

    def _take(self, number: int, token: int | None, order: InOrder) -> Iterator[Piece]:
        """What a token (None at the end) makes possible."""
        utterance, options = self._active[number], self._options
        if token is None:
            del self._active[number]
            if len(utterance.tokens) < options.max_tokens:
                yield from self._finish(utterance, ())
                return
            note = f"reached the limit of {options.max_tokens} tokens"
            yield from self._too_long(utterance, note, order)
            return
        verdict = utterance.hear(token)
        if verdict is not None:
            del self._active[number]
            self._decoder.remove(number)
            yield from self._astray(utterance, verdict)
            return
        if options.chunks and len(utterance.spoken) >= tokens_due(utterance.chunk, options.chunks):
            utterance.chunk += 1
            started = time.perf_counter()
            audio = list(utterance.renderer.push(utterance.spoken, final=False))
            self._clock.time("audio", started)
            utterance.given += audio
            if audio:
                yield Piece(utterance.task, np.concatenate(audio), last=False)

    def _too_long(self, utterance: _Utterance, note: str, order: InOrder) -> Iterator[Piece]:
        task = utterance.task
        parts = split_again(task.segment) if self._options.max_tokens >= MAX_TOKENS else []
        if len(parts) > 1 and not utterance.given:
            log.warning("%r %s: split and spoken in %d parts", _short(task), note, len(parts))
            tasks = [
                replace(task, path=(*task.path, i), segment=part, attempt=0)
                for i, part in enumerate(parts)
            ]
            order.split(task, tasks)
            self._again.extend(tasks)
            return
        yield from self._finish(utterance, (f"{note} and ends there",))

    def _astray(self, utterance: _Utterance, verdict: Verdict) -> Iterator[Piece]:
        task = utterance.task
        if not utterance.given and task.attempt < self._options.retries:
            log.warning("%r ran astray (%s): drawn again", _short(task), verdict)
            self._again.appendleft(replace(task, attempt=task.attempt + 1))
            return
        del utterance.tokens[max(1, verdict.start) :]
        yield from self._finish(utterance, (f"ran astray ({verdict}) and ends there",))

    def _finish(self, utterance: _Utterance, notes: tuple[str, ...]) -> Iterator[Piece]:
        for note in notes:
            log.warning("%r %s", _short(utterance.task), note)
        self._ended.append((utterance, notes))
        if len(self._ended) >= self._together:
            yield from self._render_ended()

    def _render_ended(self) -> Iterator[Piece]:
        """The rest of the audio of all that have ended."""
        ended, self._ended = self._ended, []
        for group in alike([(utterance.renderer, utterance.spoken) for utterance, _ in ended]):
            started = time.perf_counter()
            some = [ended[index] for index in group]
            if len(some) == 1:
                rests = [list(some[0][0].renderer.push(some[0][0].spoken, final=True))]
            else:
                rests = push_together(
                    [utterance.renderer for utterance, _ in some],
                    [utterance.spoken for utterance, _ in some],
                )
            self._clock.time("audio", started)
            for (utterance, notes), rest in zip(some, rests, strict=True):
                tokens = tuple(utterance.tokens)
                yield self._close(utterance.task, utterance.given, rest, notes, tokens)

    def _close(
        self,
        task: Task,
        given: list[np.ndarray],
        rest: list[np.ndarray],
        notes: tuple[str, ...],
        tokens: tuple[int, ...] = (),
    ) -> Piece:
        """The last piece: the rest of the audio, trimmed, and the pause that follows."""
        audio = np.concatenate([*rest, np.zeros(0, np.float32)])
        options = self._options
        if options.trim and len(audio):
            gone = sum(map(len, given))
            keep = trim(
                np.concatenate([*given, audio]),
                sample_rate=SAMPLE_RATE,
                options=options.trim,
            )
            # What was given cannot be taken back.
            if (keep := max(0, keep - gone)) < len(audio):
                audio = fade_out(audio[:keep], sample_rate=SAMPLE_RATE)
        pause = np.zeros(round(pause_after(task.segment, options.pauses) * SAMPLE_RATE), np.float32)
        return Piece(task, np.concatenate([audio, pause]), last=True, tokens=tokens, notes=notes)


def _short(task: Task) -> str:
    text = task.segment.text
    return text if len(text) <= 40 else f"{text[:37]}..."
