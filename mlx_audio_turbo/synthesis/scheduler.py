"""One loop for all calls of a model: segments of text in, pieces of audio out.

A call opens a :class:`Session`. The utterances of all sessions join and leave one decoding batch
between any two steps, and each gets exactly the tokens and audio that it would get alone. A stream
is a session with chunks, a whole text is one without, and a batch decodes several of its segments
at a time. The loop knows nothing of threads or files. Every session's generator drives the loop of
all, so that it advances as long as one caller waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace

import mlx.core as mx
import numpy as np

from .. import ops
from ..config import RenderingConfig
from ..loading.networks import Networks
from ..options import MAX_BATCH, MAX_TOKENS, SpeakingOptions
from ..t3.decoder import Decoder, Request
from ..t3.interface import Condition
from ..t3.prefix_cache import PrefixCache
from ..text.segments import resplit
from .engine import ASLEEP
from .noise import NoiseSource
from .session import Rendering, Session, Utterance
from .tasks import Clock, Piece, Task, Work
from .token_to_wav import TokenToWav, group_by_length, render_batch, tokens_due
from .watchdog import Verdict, Watchdog

log = logging.getLogger("mlx_audio_turbo")


def renders_together() -> bool:
    """Whether utterances are rendered in batches.

    A GPU renders as many as are decoded together, since short ones leave it idle. A CPU is busy
    with one, and renders each as it ends, so that the first is ready earlier.
    """
    return ops.on_gpu()


class Scheduler:
    """All sessions of a model, on the thread of its engine.

    Args:
        capacity: utterances that are decoded at a time, over all sessions.
    """

    def __init__(
        self,
        networks: Networks,
        *,
        rendering: RenderingConfig,
        capacity: int = MAX_BATCH,
    ):
        self._networks, self._rendering, self._capacity = networks, rendering, capacity
        self._prefixes = PrefixCache(networks.t3)
        self._decoders: dict[int, Decoder] = {}
        self._sessions: list[Session] = []
        self._decoding: dict[int, Utterance] = {}
        self._renderings: list[Rendering] = []
        self._ids = 0
        self.work = Work()

    def run(
        self,
        tasks: Iterable[Task],
        encode_text: Callable[[str], list[int]],
        options: SpeakingOptions,
        clock: Clock,
        pending: Callable[[], bool] = lambda: False,
    ) -> Generator[Piece | None, None, None]:
        """Open a session for the tasks of a call, and step until it is done.

        Gives the pieces in the order of the tasks, and None after a step without one. Closing the
        generator drops the session with all its utterances.

        Args:
            pending: whether the next task is not known yet. The session sleeps where it has no
                other.

        Raises:
            What an utterance of the session raises.
        """
        session = Session(iter(tasks), encode_text, options, clock, pending)
        self._sessions.append(session)
        try:
            while not session.done:
                self.step()
                while session.ready:
                    yield session.ready.popleft()
                if session.error is not None:
                    raise session.error
                yield ASLEEP if session.asleep else None
        finally:
            self._close(session)

    def _close(self, session: Session) -> None:
        """Drop a session with all its utterances."""
        with suppress(ValueError):
            self._sessions.remove(session)
        for number in [n for n, each in self._decoding.items() if each.session is session]:
            self._stop(number)
        self._renderings = [each for each in self._renderings if each.session is not session]

    def step(self) -> None:
        """Start waiting utterances, sample a token for all, render what is most urgent."""
        self._admit()
        with self.work.timing("tokens"):
            self._decode()
        with self.work.timing("audio"):
            self._render()

    def _admit(self) -> None:
        """Start utterances, first those of the session that has the fewest.

        While other sessions are being decoded, one starts per step: its prefill holds them up.
        """
        busy = len({id(each.session) for each in self._decoding.values()})
        started = 0
        while len(self._decoding) < self._capacity:
            ready = [each for each in self._sessions if each.wants_task]
            if not ready or (started and (busy or len(ready) > 1)):
                return
            session = min(ready, key=lambda each: each.active)
            with _ErrorsOf(self, session), session.clock.timing("tokens"):
                task = session.next_task()
                if task is None:
                    continue
                if not task.segment.speakable:
                    session.add(session.last_piece(task, [], [], ()))
                    continue
                self._begin(session, task)
                started += 1

    def _begin(self, session: Session, task: Task) -> None:
        options = session.options
        decode_key, render_key = mx.random.split(task.key)
        renderer = TokenToWav(
            self._networks.s3gen,
            task.voice,
            NoiseSource(render_key),
            self._rendering,
            window=options.chunks.window if options.chunks else 0,
        )
        watchdog = Watchdog(options.watchdog) if options.watchdog else None
        self._ids += 1
        decoder = self._decoder(options)
        decoder.add(
            Request(
                id=self._ids,
                text_ids=mx.array(session.encode_text(task.segment.text)),
                prefix=self._prefixes.get(
                    task.voice.fingerprint,
                    Condition(
                        speaker=mx.array(task.voice.speaker_embedding)[None],
                        prompt_tokens=mx.array(task.voice.t3_prompt_tokens)[None],
                        exaggeration=options.exaggeration,
                    ),
                ),
                key=decode_key,
                max_tokens=options.max_tokens,
                options=options.sampling,
            )
        )
        self._decoding[self._ids] = Utterance(task, session, decoder, renderer, watchdog)
        session.active += 1

    def _decoder(self, options: SpeakingOptions) -> Decoder:
        """The decoder of the requests that take as many cache rows as these options."""
        t3, sampling = self._networks.t3, options.sampling
        rows = t3.rows(sampling)
        if rows not in self._decoders:
            self._decoders[rows] = Decoder(t3, options=sampling)
        return self._decoders[rows]

    def _decode(self) -> None:
        for decoder in [each for each in self._decoders.values() if len(each)]:
            sessions = {
                id(each.session): each.session
                for each in self._decoding.values()
                if each.decoder is decoder
            }
            with _ErrorsOf(self, *sessions.values()):
                with ExitStack() as clocks:
                    for session in sessions.values():
                        clocks.enter_context(session.clock.timing("tokens"))
                    sampled = decoder.step()
                self.work.took_step(len(sampled))
                for number, token in sampled:
                    if number in self._decoding:
                        with _ErrorsOf(self, self._decoding[number].session):
                            self._take(number, token)

    def _take(self, number: int, token: int | None) -> None:
        """Act on a token of an utterance; a token of None is the end."""
        utterance = self._decoding[number]
        options = utterance.session.options
        if token is None:
            del self._decoding[number]
            if len(utterance.tokens) < options.max_tokens:
                self._finish(utterance, ())
            else:
                self._too_long(utterance, f"reached the limit of {options.max_tokens} tokens")
            return
        verdict = utterance.add(token)
        if verdict is not None:
            del self._decoding[number]
            utterance.decoder.remove(number)
            self._runaway(utterance, verdict)
            return
        spoken = utterance.speech_tokens
        if options.chunks and len(spoken) >= tokens_due(utterance.chunk, options.chunks):
            utterance.chunk += 1
            self._renderings.append(Rendering(utterance, spoken, final=False))

    def _too_long(self, utterance: Utterance, note: str) -> None:
        task, session = utterance.task, utterance.session
        self._flush(utterance)
        parts = resplit(task.segment) if session.options.max_tokens >= MAX_TOKENS else []
        if len(parts) > 1 and not utterance.emitted:
            log.warning("%r %s: split and spoken in %d parts", task.title, note, len(parts))
            session.split(
                task,
                [
                    replace(task, path=(*task.path, i), segment=part, attempt=0)
                    for i, part in enumerate(parts)
                ],
            )
            return
        self._finish(utterance, (f"{note} and ends there",))

    def _runaway(self, utterance: Utterance, verdict: Verdict) -> None:
        task, session = utterance.task, utterance.session
        self._flush(utterance)
        if not utterance.emitted and task.attempt < session.options.retries:
            log.warning("%r got stuck (%s): sampled again", task.title, verdict)
            session.again(replace(task, attempt=task.attempt + 1))
            return
        del utterance.tokens[max(1, verdict.start) :]
        self._finish(utterance, (f"got stuck ({verdict}) and ends there",))

    def _finish(self, utterance: Utterance, notes: tuple[str, ...]) -> None:
        for note in notes:
            log.warning("%r %s", utterance.task.title, note)
        utterance.notes = notes
        utterance.session.active -= 1
        utterance.session.unrendered += 1
        self._renderings.append(Rendering(utterance, utterance.speech_tokens, final=True))

    def _stop(self, number: int) -> None:
        utterance = self._decoding.pop(number)
        with suppress(KeyError):  # it ended in the last step, whose result was not taken
            utterance.decoder.remove(number)

    def _flush(self, utterance: Utterance) -> None:
        """Render the waiting chunks of an utterance now."""
        own = [each for each in self._renderings if each.utterance is utterance]
        for each in own:
            self._renderings.remove(each)
            self._render_chunk(each)

    def _render(self) -> None:
        """Render the most urgent chunk or utterance, and what shares a batch with it."""
        due = [each for each in self._renderings if each.due(self._waits(each.session))]
        if not due:
            return
        first = min(due, key=lambda each: each.deadline)
        if not first.final:
            self._renderings.remove(first)
            with _ErrorsOf(self, first.session):
                self._render_chunk(first)
            return
        whole = [each for each in due if each.final and not each.utterance.chunk]
        together = [first]
        if renders_together() and first in whole:
            groups = group_by_length([(each.utterance.renderer, each.tokens) for each in whole])
            together = next(
                [whole[index] for index in group] for group in groups if whole.index(first) in group
            )
        self._renderings = [each for each in self._renderings if each not in together]
        sessions = {id(each.session): each.session for each in together}
        with _ErrorsOf(self, *sessions.values()):
            with ExitStack() as clocks:
                for session in sessions.values():
                    clocks.enter_context(session.clock.timing("audio"))
                if len(together) == 1:
                    rests = [list(first.utterance.renderer.push(first.tokens, final=True))]
                else:
                    rests = render_batch(
                        [each.utterance.renderer for each in together],
                        [each.tokens for each in together],
                    )
            for each, rest in zip(together, rests, strict=True):
                utterance, session = each.utterance, each.session
                session.unrendered -= 1
                session.add(
                    session.last_piece(
                        utterance.task,
                        utterance.emitted,
                        rest,
                        utterance.notes,
                        tuple(utterance.tokens),
                    )
                )

    def _waits(self, session: Session) -> bool:
        """Whether a decoded utterance waits for others of its session, to be rendered with them.

        A stream never waits.
        """
        if not renders_together() or session.options.chunks is not None or not session.active:
            return False
        return session.unrendered < session.options.batch_size

    def _render_chunk(self, rendering: Rendering) -> None:
        utterance, session = rendering.utterance, rendering.session
        with session.clock.timing("audio"):
            audio = list(utterance.renderer.push(rendering.tokens, final=False))
        utterance.emitted += audio
        if audio:
            session.add(Piece(utterance.task, np.concatenate(audio), last=False))


class _ErrorsOf:
    """Hands what a block raises to the callers of its sessions, and ends those sessions."""

    def __init__(self, scheduler: Scheduler, *sessions: Session):
        self._scheduler, self._sessions = scheduler, sessions

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None:
            return False
        for session in self._sessions:
            self._scheduler._close(session)
            session.fail(error)
        return True
