"""Listening tests of ``demo``: each part prints its table and writes it to docs/demo_voice.md.

The exit code is 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, Voice
from mlx_audio_turbo.config import SAMPLE_RATE
from tests.helpers import snr

from ..data import clips
from . import machine, texts, ways
from .rows import HEADER, Row, write
from .words import Errors, Recogniser, compare, spoken

VOICES = ("rms", "slt", "awb")
PARAGRAPH, LONG = 1_000, 2_000
"""Characters and words."""
LEVEL = -35.0
"""dB under the loudest 10 ms of an utterance, where it ends."""
SAME = 60.0
"""dB. Two utterances that differ less are not heard twice."""


@dataclass(frozen=True, eq=False)
class Utterance:
    """Audio (samples,) and the words that were heard in it."""

    audio: np.ndarray
    words: list[str]


@dataclass(frozen=True)
class Listener:
    """What the parts share."""

    model: ChatterboxTurbo
    recogniser: Recogniser
    sentences: list[str]

    @cached_property
    def voices(self) -> dict[str, Voice]:
        return {name: self.model.load_voice(name) for name in VOICES}

    def hear(self, audio: Iterable[np.ndarray]) -> list[Utterance]:
        return [Utterance(samples, self.recogniser.words(samples)) for samples in audio]

    def hear_beside(
        self, audio: Iterable[np.ndarray], others: Sequence[Utterance]
    ) -> list[Utterance]:
        """As ``hear``, but the words of audio that is the same as another's are the other's."""
        return [
            other if snr(samples, other.audio) > SAME else self.hear([samples])[0]
            for samples, other in zip(audio, others, strict=True)
        ]

    def errors(self, heard: Sequence[Utterance]) -> Errors:
        """Of the sentences, in their order."""
        pairs = zip(self.sentences, heard, strict=False)
        return sum((compare(spoken(text), each.words) for text, each in pairs), Errors(0, 0))


def sentences(listener: Listener) -> Iterator[Row]:
    """Three voices, in all ways; the ways are compared over all voices."""
    heard, total = {}, Errors(0, 0)
    for name, voice in listener.voices.items():
        heard[name] = listener.hear(ways.whole(listener.model, listener.sentences, voice))
        found = listener.errors(heard[name])
        total += found
        yield Row(f"word error rate, {name}", found.rate, 20, 12)
    yield Row("word error rate, all voices", total.rate, 20, 12)
    with tempfile.TemporaryDirectory() as place:
        folders = {bits: ways.quantized(bits, Path(place) / f"{bits}bit") for bits in (8, 4)}
        other: list[tuple[str, ChatterboxTurbo, ways.Way, float, float]] = [
            ("streamed", listener.model, ways.streamed, 2, 0),
            ("in a batch", listener.model, ways.batched, 2, 0),
            ("T3 by MLX", listener.model, ways.by_mlx, 2, 0),
        ]
        other += [
            (f"{bits}-bit folder", ChatterboxTurbo.from_pretrained(folder), ways.whole, 3, 1)
            for bits, folder in folders.items()
        ]
        for name, model, way, bound, aim in other:
            found = Errors(0, 0)
            for voice_name, voice in listener.voices.items():
                audio = way(model, listener.sentences, voice)
                found += listener.errors(listener.hear_beside(audio, heard[voice_name]))
            yield Row(f"{name}, over whole", found.rate - total.rate, bound, aim, "points")
    found, lost, tail = Errors(0, 0), 0, 0.0
    for name, voice in listener.voices.items():
        cut = listener.hear(ways.trimmed(listener.model, listener.sentences, voice))
        found += listener.errors(cut)
        lost += _last_words_lost(listener.sentences, heard[name], cut)
        tail = max(tail, *(_tail(each.audio) for each in cut))
    yield Row("trimmed, over whole", found.rate - total.rate, 2, 0, "points")
    yield Row("trimmed: last words lost", lost, 0, 0, "")
    yield Row("trimmed: longest silence at the end", tail, 0.3, 0.3, "s")


def _last_words_lost(
    sentences: Sequence[str], whole: Sequence[Utterance], cut: Sequence[Utterance]
) -> int:
    """How many sentences end with their last word as a whole, and without it where trimmed."""
    lasts = [spoken(text)[-1:] for text in sentences]
    cases = zip(lasts, whole, cut, strict=True)
    return sum(before.words[-1:] == last != after.words[-1:] for last, before, after in cases)


def _tail(audio: np.ndarray) -> float:
    """Seconds after the last 10 ms that are louder than LEVEL."""
    frame = SAMPLE_RATE // 100
    frames = audio[: len(audio) // frame * frame].reshape(-1, frame).astype(np.float64)
    power = (frames**2).mean(axis=1)
    last = np.flatnonzero(power > power.max() * 10 ** (LEVEL / 10))[-1]
    return (len(audio) - (last + 1) * frame) / SAMPLE_RATE


def speakers(listener: Listener) -> Iterator[Row]:
    """Clips of LibriSpeech, whose speakers the model does not know."""
    total = Errors(0, 0)
    for clip in clips():
        voice = listener.model.encode_voice(clip)
        audio = ways.whole(listener.model, listener.sentences, voice)
        found = listener.errors(listener.hear(audio))
        total += found
        yield Row(f"word error rate, clip {clip.stem}", found.rate, 25, 15)
    yield Row("word error rate, all clips", total.rate, 25, 15)


def long(listener: Listener) -> Iterator[Row]:
    """A paragraph as three voices speak it, and a long text."""
    chosen = texts.paragraph(listener.sentences, PARAGRAPH)
    alone = together = Errors(0, 0)
    for voice in listener.voices.values():
        alone += listener.errors(listener.hear(ways.whole(listener.model, chosen, voice)))
        audio = texts.in_parts(listener.model, chosen, voice, ways.SEED)
        together += texts.listen(listener.recogniser, chosen, audio)[0]
    what = f"{PARAGRAPH:,} characters, over single sentences"
    yield Row(what, together.rate - alone.rate, 5, 1, "points")
    chosen = texts.long_text(listener.sentences, LONG)
    audio = texts.in_chunks(listener.model, chosen, listener.voices[VOICES[0]], ways.SEED)
    errors, heard = texts.listen(listener.recogniser, chosen, audio)
    yield Row(f"{LONG:,} words, streamed: word error rate", errors.rate, 20, 12)
    lost, doubled = sum(each.lost for each in heard), sum(each.doubled for each in heard)
    what = f"{LONG:,} words, streamed: of {len(heard)} sentences"
    yield Row(f"{what} lost", lost, 0, 0, "")
    yield Row(f"{what} doubled", doubled, 0, 0, "")


def practice(listener: Listener) -> Iterator[Row]:
    """Time and size."""
    text = " ".join(listener.sentences[:4])
    work = machine.work(listener.model, text)
    yield Row("real-time factor", work.wall, 0.3, 0.1, "")
    yield Row("processor time for 1 s of audio", work.processors, 0.6, 0.2, "s")
    yield Row("`make speak` without the Hub", machine.make_speak(), 10, 5, "s")
    wheel, model = machine.wheel_sizes()
    yield Row("size in the wheel", model, 22, 12, "MB")
    yield Row("the whole wheel", wheel, 22, 12, "MB")


PARTS: dict[str, Callable[[Listener], Iterator[Row]]] = {
    "sentences": sentences,
    "speakers": speakers,
    "long": long,
    "practice": practice,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts."""
    out = argparse.ArgumentParser(prog="python -m tests.measure.listen", description=__doc__)
    out.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    out.add_argument("--count", type=int, help="of the 40 sentences; the page is not written")
    args = out.parse_args(argv)
    model = ChatterboxTurbo.from_pretrained("demo")
    listener = Listener(model, Recogniser(), texts.sentences()[: args.count])
    passed = True
    for name in args.parts:
        print(HEADER)
        rows = []
        for row in PARTS[name](listener):
            print(row, flush=True)
            rows.append(row)
        passed &= all(row.passed for row in rows)
        if args.count is None:
            write(name, rows)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
