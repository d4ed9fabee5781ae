"""Word error rates of a model's speech, by a speech recogniser: ``make listen``.

The recogniser is Moonshine tiny (MIT), whose English model is in the wheel of ``moonshine-voice``
0.1.0. It makes errors of its own: the voices that ``demo`` was trained on are at 10 to 20 %.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, Voice
from mlx_audio_turbo.audio.resample import resample_soxr
from mlx_audio_turbo.config import SAMPLE_RATE
from mlx_audio_turbo.options import TrimOptions

SENTENCES = Path(__file__).parents[1] / "data" / "sentences_40.txt"
"""Unseen in training, fixed before anything was measured on them."""
RECOGNISER_RATE = 16_000
PADDING = 0.3
"""Seconds of silence around an utterance, which the recogniser needs."""


@dataclass(frozen=True)
class Errors:
    """Word errors over some sentences."""

    wrong: int
    words: int

    @property
    def rate(self) -> float:
        return self.wrong / max(1, self.words)


class Recogniser:
    """Speech to words."""

    def __init__(self) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_model_path

        self._transcriber: Any = Transcriber(get_model_path("tiny-en"), ModelArch.TINY)

    def words(self, audio: np.ndarray) -> list[str]:
        """The words of 24 kHz samples (N,)."""
        samples = resample_soxr(audio.astype(np.float32), SAMPLE_RATE, RECOGNISER_RATE)
        silence = np.zeros(round(PADDING * RECOGNISER_RATE), np.float32)
        samples = np.concatenate(
            [silence, samples * (0.5 / max(1e-3, np.abs(samples).max())), silence]
        )
        found = self._transcriber.transcribe_without_streaming(samples.tolist(), RECOGNISER_RATE)
        return spoken(" ".join(line.text for line in found.lines))


def spoken(text: str) -> list[str]:
    """The words of a text, without marks and capitals."""
    return re.sub(r"[^a-z' ]", " ", text.lower().replace("-", " ").replace("’", "'")).split()


def distance(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Words to insert, delete or replace (Levenshtein)."""
    row = list(range(len(found) + 1))
    for i, one in enumerate(wanted, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (one != other))
    return row[-1]


def errors(recogniser: Recogniser, texts: Sequence[str], audio: Iterable[np.ndarray]) -> Errors:
    """The word errors of each text's audio, summed."""
    wrong = words = 0
    for text, samples in zip(texts, audio, strict=True):
        wanted = spoken(text)
        wrong += distance(wanted, recogniser.words(samples))
        words += len(wanted)
    return Errors(wrong, words)


Way = Callable[[ChatterboxTurbo, Sequence[str], Voice], Iterator[np.ndarray]]


def whole(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    for seed, text in enumerate(texts):
        yield model.generate(text, voice=voice, seed=seed).audio


def streamed(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    for seed, text in enumerate(texts):
        yield np.concatenate([c.audio for c in model.stream(text, voice=voice, seed=seed)])


def batched(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    for speech in model.generate_batch(texts, voice=voice, seed=0):
        yield speech.audio


def trimmed(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    for seed, text in enumerate(texts):
        yield model.generate(text, voice=voice, seed=seed, trim=TrimOptions()).audio


WAYS: dict[str, Way] = {
    "whole": whole,
    "streamed": streamed,
    "batched": batched,
    "trimmed": trimmed,
}


def paragraph(
    recogniser: Recogniser, model: ChatterboxTurbo, texts: Sequence[str], voice: Voice
) -> Errors:
    """A text of about 1,000 characters, spoken as one; judged part by part."""
    text = ""
    for sentence in texts:
        if len(text) + len(sentence) > 1_000:
            break
        text = f"{text} {sentence}".strip()
    parts = list(model.generate_parts(text, voice=voice, seed=0))
    return errors(recogniser, [part.text for part in parts], (part.audio for part in parts))


def quantized(bits: int) -> ChatterboxTurbo:
    """``demo`` with the rounding of T3's blocks in ``bits`` bits, in groups of 32."""
    model = ChatterboxTurbo.from_pretrained("demo")

    def work() -> None:
        for layer in _linears(model._networks.t3.tfmr):
            packed = mx.quantize(layer.weight, group_size=32, bits=bits)
            plain = mx.dequantize(*packed, group_size=32, bits=bits)
            layer.weight = plain.astype(layer.weight.dtype)

    model._engine.run(work)
    return model


def _linears(module: Any) -> Iterator[Any]:
    for _, each in module.named_modules():
        if isinstance(each, nn.Linear) and each.weight.shape[1] % 32 == 0:
            yield each


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 where a bound is missed."""
    out = argparse.ArgumentParser(prog="python -m tests.measure.listen", description=__doc__)
    out.add_argument("--sentences", type=Path, default=SENTENCES, help="a text, a sentence a line")
    out.add_argument("--count", type=int, default=40, help="how many of them")
    out.add_argument("--voices", nargs="*", default=["rms", "slt", "awb"])
    out.add_argument("--clips", nargs="*", type=Path, default=[], help="clips of unknown speakers")
    out.add_argument("--brief", action="store_true", help="only whole utterances of each voice")
    args = out.parse_args(argv)
    texts = args.sentences.read_text("utf-8").split("\n")[: args.count]
    recogniser, model = Recogniser(), ChatterboxTurbo.from_pretrained("demo")
    voices = {name: model.load_voice(name) for name in args.voices}
    rows: list[tuple[str, float, float]] = []

    def row(name: str, value: float, bound: float) -> None:
        rows.append((name, value, bound))
        print(f"| {name} | {100 * value:.1f} | ≤ {100 * bound:.0f} |", flush=True)

    print("| word error rate, % | reached | asked |\n|---|---|---|")
    plain = {}
    for name, voice in voices.items():
        plain[name] = errors(recogniser, texts, whole(model, texts, voice))
        row(f"whole, {name}", plain[name].rate, 0.20)
    mean = sum(each.rate for each in plain.values()) / len(plain)
    row("whole, mean of the voices", mean, 0.20)
    for clip in args.clips:
        voice = model.encode_voice(clip)
        row(f"clip {clip.stem}", errors(recogniser, texts, whole(model, texts, voice)).rate, 0.25)
    if not args.brief:
        first, voice = next(iter(voices.items()))
        base = plain[first].rate
        for name, way in WAYS.items():
            if name != "whole":
                found = errors(recogniser, texts, way(model, texts, voice)).rate
                row(f"{name} over whole, {first}, points", found - base, 0.02)
        for bits in (8, 4):
            small = quantized(bits)
            found = errors(recogniser, texts, whole(small, texts, voice)).rate
            row(f"{bits} bits over float16, {first}, points", found - base, 0.03)
        found = paragraph(recogniser, model, texts, voice).rate
        row(f"1,000 characters over sentences, {first}, points", found - base, 0.05)
    return int(any(value > bound for _, value, bound in rows))


if __name__ == "__main__":
    sys.exit(main())
