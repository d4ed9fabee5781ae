"""The four ways to speak: a text whole, in chunks or in parts, and many texts together."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from ..audio import watermark as perth
from ..errors import TextError, VoiceError
from ..loading.folder import LoadedModel
from ..options import (
    PauseOptions,
    SamplingOptions,
    SpeakingOptions,
    check_flag,
    check_range,
    resolve_seed,
)
from ..speech import Speech
from ..synthesis import results
from ..synthesis.engine import Engine, Results, Steps
from ..synthesis.scheduler import Scheduler
from ..synthesis.tasks import Clock, Piece, Task, Work, segments_of, tasks_of
from ..synthesis.text_feed import TextFeed
from ..text.segments import Segment
from ..voice import Voice

T = TypeVar("T")
_SAMPLING = tuple(each.name for each in fields(SamplingOptions))
_SPEAKING = tuple(each.name for each in fields(SpeakingOptions))


def _listed(name: str, values: Iterable[T]) -> list[T]:
    """The values of an iterable.

    Raises:
        TextError: it is a single value, such as a str, whose letters would be taken for texts.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        kind = type(values).__name__
        raise TextError(f"{name} is one {kind}; give a list of {name}, or call generate")
    return list(values)


class Speaking:
    """A loaded model's calls, on the thread of its engine.

    ``options`` are those of a call, resolved. ``voice`` is a function, so that the time of encoding
    a clip is counted, and a wrong text is reported before a clip is read.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        engine: Engine,
        encode_text: Callable[[LoadedModel, str, Mapping[str, Any]], list[int]],
    ):
        self._loaded, self._engine, self._encode_text = loaded, engine, encode_text
        self._scheduler = Scheduler(loaded.networks, rendering=loaded.config.rendering)

    @property
    def work(self) -> Work:
        """What has been done so far."""
        return replace(self._scheduler.work, seconds=dict(self._scheduler.work.seconds))

    def whole(
        self, text: str, voice: Callable[[], Voice], *, watermark: bool, options: Mapping[str, Any]
    ) -> Speech:
        """The text as one speech."""
        if check_flag("watermark", watermark):
            perth.check_installed()
        segments = segments_of(text, options["segment_limit"])
        clock = Clock({"voice": 0.0, "tokens": 0.0, "audio": 0.0})
        with clock.timing("voice"):
            work = [(segments, voice())]
        seed = resolve_seed(options["seed"])
        speech = results.joined(text, list(self._pieces(work, seed, options, clock)), seed, clock)
        return speech.with_watermark() if watermark else speech

    def chunks(
        self, text: str | Iterable[str], voice: Callable[[], Voice], options: Mapping[str, Any]
    ) -> results.Chunks:
        """The text as a stream; a text in pieces is spoken as it comes."""
        if isinstance(text, Iterable) and not isinstance(text, (str, bytes)):
            return self._incoming(text, voice(), options)
        segments = segments_of(text, options["segment_limit"])
        seed = resolve_seed(options["seed"])
        return results.Chunks(self._pieces([(segments, voice())], seed, options, Clock()))

    def _incoming(
        self, pieces: Iterable[str], voice: Voice, options: Mapping[str, Any]
    ) -> results.Chunks:
        feed = TextFeed(options["segment_limit"])
        seed = resolve_seed(options["seed"])
        found = self._stream(
            lambda: feed.tasks(voice, seed), options, Clock(), pending=lambda: feed.pending
        )
        chunks = results.Chunks(found, feed)
        # The thread that reads the text must not keep a stream alive that nobody reads.
        wake = weakref.WeakMethod(found.wake)
        feed.start(pieces, lambda: woken() if (woken := wake()) else None)
        return chunks

    def batch(
        self,
        texts: Sequence[str],
        voice: Voice | None,
        voices: Sequence[Voice] | None,
        check: Callable[[Voice | None], Voice],
        options: Mapping[str, Any],
    ) -> Iterator[Speech]:
        """Many texts, a speech for each.

        Args:
            voice: of all texts; or ``voices``, one for each.
            check: gives the voice to use for one that was given.
        """
        texts = _listed("texts", texts)
        if voice is not None and voices is not None:
            raise VoiceError("give one voice for all texts, or voices, one for each, not both")
        each = [voice] * len(texts) if voices is None else _listed("voices", voices)
        if len(each) != len(texts):
            raise VoiceError(f"there are {len(texts)} texts and {len(each)} voices; give as many")
        checked = [check(one) for one in each]
        work = [
            (segments_of(text, options["segment_limit"]), one)
            for text, one in zip(texts, checked, strict=True)
        ]
        seed, clock = resolve_seed(options["seed"]), Clock()
        return results.speeches(texts, self._pieces(work, seed, options, clock), seed, clock)

    def parts(
        self, text: str, voice: Callable[[], Voice], *, first: int, options: Mapping[str, Any]
    ) -> Iterator[Speech]:
        """The text as one speech for each segment, from the index ``first`` on."""
        segments = segments_of(text, options["segment_limit"])
        check_range("first", first, 0, len(segments) - 1)
        seed, clock = resolve_seed(options["seed"]), Clock()
        pieces = self._pieces([(segments, voice())], seed, options, clock, first=first)
        return results.parts(segments, pieces, seed, clock)

    def _pieces(
        self,
        work: Sequence[tuple[Sequence[Segment], Voice]],
        seed: int,
        options: Mapping[str, Any],
        clock: Clock,
        *,
        first: int = 0,
    ) -> Results[Piece]:
        return self._stream(lambda: tasks_of(work, seed, first), options, clock)

    def _stream(
        self,
        tasks: Callable[[], Iterator[Task]],
        options: Mapping[str, Any],
        clock: Clock,
        *,
        pending: Callable[[], bool] = lambda: False,
    ) -> Results[Piece]:
        speaking = speaking_options(options)
        loaded, scheduler, encode_text = self._loaded, self._scheduler, self._encode_text

        def steps() -> Steps[Piece]:
            return scheduler.run(
                tasks(),
                lambda text: encode_text(loaded, text, options),
                speaking,
                clock,
                pending,
            )

        return self._engine.stream(steps)


def speaking_options(options: Mapping[str, Any]) -> SpeakingOptions:
    """The resolved options of a call as the scheduler takes them."""
    values = {name: options[name] for name in _SPEAKING if name in options}
    values["pauses"] = options["pauses"] or PauseOptions()
    sampling = SamplingOptions(**{name: options[name] for name in _SAMPLING if name in options})
    return SpeakingOptions(sampling=sampling, **values)
