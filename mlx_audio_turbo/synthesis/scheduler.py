"""The one loop: segments of text in, pieces of audio out.

A stream is this loop with chunks, a whole utterance is it without, and a batch decodes several
segments at a time. The loop knows nothing of threads or files.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

import mlx.core as mx
import numpy as np

from .. import ops
from ..config import SAMPLE_RATE, SPEECH_CODES, RenderingConfig
from ..loading.networks import Networks
from ..options import MAX_TOKENS, SpeakingOptions
from ..t3.decoder import Decoder, Request
from ..t3.interface import Condition
from ..t3.prefix_cache import PrefixCache
from ..text.segments import pause_after, split_again
from .noise import NoiseSource
from .ordering import InOrder
from .tasks import Clock, Piece, Task
from .token_to_wav import TokenToWav, group_by_length, render_batch, tokens_due
from .watchdog import Verdict, Watchdog, fade_out, trim

log = logging.getLogger("mlx_audio_turbo")


class _Utterance:
    """A task that is being decoded."""

    def __init__(self, task: Task, renderer: TokenToWav, watchdog: Watchdog | None):
        self.task, self.renderer, self.watchdog = task, renderer, watchdog
        self.tokens: list[int] = []
        self.chunk = 0
        self.emitted: list[np.ndarray] = []

    @property
    def speech_tokens(self) -> list[int]:
        """Its tokens without the special ones."""
        return [token for token in self.tokens if token < SPEECH_CODES]

    def add(self, token: int) -> Verdict | None:
        """Append a token; gives a verdict where generation has run away."""
        self.tokens.append(token)
        return self.watchdog.feed(token) if self.watchdog else None


def render_batch_size(options: SpeakingOptions) -> int:
    """How many decoded utterances are rendered together.

    A GPU renders as many as are decoded together, since short ones leave it idle. A CPU is busy
    with one, and renders each as it ends, so that the first is ready earlier. A stream never waits.
    """
    return options.batch_size if ops.on_gpu() and options.chunks is None else 1


class Scheduler:
    """The loop over the tasks of one call."""

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
        self._networks, self._encode_text, self._prefixes = networks, encode_text, prefixes
        self._options, self._clock, self._rendering = options, clock, rendering
        self._decoder = Decoder(networks.t3, options=options.sampling)
        self._active: dict[int, _Utterance] = {}
        self._decoded: list[tuple[_Utterance, tuple[str, ...]]] = []  # and not rendered
        self._render_batch = render_batch_size(options)
        self._again: deque[Task] = deque()
        self._ids = 0

    def run(self, tasks: Iterable[Task]) -> Iterator[Piece | None]:
        """Pieces in the order of the tasks; None after a step that gives none."""
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
                    yield from order.add(self._close(task, [], [], ()))
                    continue
                self._begin(task)
            if not self._active:
                for piece in self._render_decoded():
                    yield from order.add(piece)
                return
            with self._clock.timing("tokens"):
                sampled = self._decoder.step()
            yield None
            for number, token in sampled:
                if number not in self._active:
                    continue
                for piece in self._take(number, token, order):
                    yield from order.add(piece)
            more = more or bool(self._again)

    def close(self) -> None:
        """Free the memory of decoding."""
        for number in list(self._active):
            with suppress(KeyError):  # it ended in the last step, whose result was not taken
                self._decoder.remove(number)
        self._active.clear()

    def _begin(self, task: Task) -> None:
        voice, options = task.voice, self._options
        decode_key, render_key = mx.random.split(task.key)
        prefix = self._prefixes.get(
            voice.fingerprint,
            Condition(
                speaker=mx.array(voice.speaker_embedding)[None],
                prompt_tokens=mx.array(voice.t3_prompt_tokens)[None],
            ),
        )
        renderer = TokenToWav(
            self._networks.s3gen,
            voice,
            NoiseSource(render_key),
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
        """The pieces that a token makes possible; a token of None is the end."""
        utterance, options = self._active[number], self._options
        if token is None:
            del self._active[number]
            if len(utterance.tokens) < options.max_tokens:
                yield from self._finish(utterance, ())
                return
            note = f"reached the limit of {options.max_tokens} tokens"
            yield from self._too_long(utterance, note, order)
            return
        verdict = utterance.add(token)
        if verdict is not None:
            del self._active[number]
            self._decoder.remove(number)
            yield from self._runaway(utterance, verdict)
            return
        spoken = utterance.speech_tokens
        if options.chunks and len(spoken) >= tokens_due(utterance.chunk, options.chunks):
            utterance.chunk += 1
            with self._clock.timing("audio"):
                audio = list(utterance.renderer.push(spoken, final=False))
            utterance.emitted += audio
            if audio:
                yield Piece(utterance.task, np.concatenate(audio), last=False)

    def _too_long(self, utterance: _Utterance, note: str, order: InOrder) -> Iterator[Piece]:
        task = utterance.task
        parts = split_again(task.segment) if self._options.max_tokens >= MAX_TOKENS else []
        if len(parts) > 1 and not utterance.emitted:
            log.warning("%r %s: split and spoken in %d parts", _short(task), note, len(parts))
            tasks = [
                replace(task, path=(*task.path, i), segment=part, attempt=0)
                for i, part in enumerate(parts)
            ]
            order.split(task, tasks)
            self._again.extend(tasks)
            return
        yield from self._finish(utterance, (f"{note} and ends there",))

    def _runaway(self, utterance: _Utterance, verdict: Verdict) -> Iterator[Piece]:
        task = utterance.task
        if not utterance.emitted and task.attempt < self._options.retries:
            log.warning("%r got stuck (%s): sampled again", _short(task), verdict)
            self._again.appendleft(replace(task, attempt=task.attempt + 1))
            return
        del utterance.tokens[max(1, verdict.start) :]
        yield from self._finish(utterance, (f"got stuck ({verdict}) and ends there",))

    def _finish(self, utterance: _Utterance, notes: tuple[str, ...]) -> Iterator[Piece]:
        for note in notes:
            log.warning("%r %s", _short(utterance.task), note)
        self._decoded.append((utterance, notes))
        if len(self._decoded) >= self._render_batch:
            yield from self._render_decoded()

    def _render_decoded(self) -> Iterator[Piece]:
        """The remaining audio of all utterances whose decoding has ended."""
        decoded, self._decoded = self._decoded, []
        groups = group_by_length([(each.renderer, each.speech_tokens) for each, _ in decoded])
        for group in groups:
            some = [decoded[index] for index in group]
            with self._clock.timing("audio"):
                if len(some) == 1:
                    (utterance, _) = some[0]
                    rests = [list(utterance.renderer.push(utterance.speech_tokens, final=True))]
                else:
                    rests = render_batch(
                        [utterance.renderer for utterance, _ in some],
                        [utterance.speech_tokens for utterance, _ in some],
                    )
            for (utterance, notes), rest in zip(some, rests, strict=True):
                tokens = tuple(utterance.tokens)
                yield self._close(utterance.task, utterance.emitted, rest, notes, tokens)

    def _close(
        self,
        task: Task,
        emitted: list[np.ndarray],
        rest: list[np.ndarray],
        notes: tuple[str, ...],
        tokens: tuple[int, ...] = (),
    ) -> Piece:
        """The last piece: the remaining audio, trimmed, and the pause after the segment."""
        audio = np.concatenate([*rest, np.zeros(0, np.float32)])
        options = self._options
        if options.trim and len(audio):
            start = sum(map(len, emitted))
            keep = trim(
                np.concatenate([*emitted, audio]),
                sample_rate=SAMPLE_RATE,
                options=options.trim,
            )
            # Emitted audio stays as it is.
            if (keep := max(0, keep - start)) < len(audio):
                audio = fade_out(audio[:keep], sample_rate=SAMPLE_RATE)
        pause = np.zeros(round(pause_after(task.segment, options.pauses) * SAMPLE_RATE), np.float32)
        return Piece(task, np.concatenate([audio, pause]), last=True, tokens=tokens, notes=notes)


def _short(task: Task) -> str:
    text = task.segment.text
    return text if len(text) <= 40 else f"{text[:37]}..."
