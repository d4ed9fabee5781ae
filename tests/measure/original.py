"""``python -m tests.measure.original``: the promises of the original at its published size.

On folders that ``mlx_audio_turbo.convert build --model original`` made, by default of a random
checkpoint in ``.parity``; ``--quantised`` names 4- and 8-bit ones. Few tokens: half an hour of
one core's time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from unittest import mock

import mlx.core as mx
import numpy as np

from mlx_audio_turbo import Chatterbox, ChunkOptions, VoiceConverter
from mlx_audio_turbo.benchmark.machine import ResidentPeak
from mlx_audio_turbo.config import SAMPLE_RATE, SAMPLES_PER_TOKEN
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.presets import ORIGINAL, ORIGINAL_TYPE
from mlx_audio_turbo.speech import Speech
from mlx_audio_turbo.synthesis import scheduler
from mlx_audio_turbo.t3.decoder import Decoder
from mlx_audio_turbo_convert.synthetic.voice import clip
from mlx_audio_turbo_convert.synthetic.voice import voice as random_voice

from .data import ROOT
from .parity.rows import Row, snr
from .parity.table import render
from .peers.process import ready

TEXTS = ("Hello there.", "What a long and winding sentence this one is.")
TOKENS = 24


def endless() -> AbstractContextManager[object]:
    """While it is open, no utterance ends before its limit; random weights stop by chance."""
    return mock.patch.object(scheduler, "Decoder", partial(Decoder, stop=False))


def spoken_rows(folder: Path) -> Iterator[Row]:
    """Whole, streamed, again and in a batch."""
    model = Chatterbox.from_pretrained(folder)
    voice = random_voice(model.config, family=model.family)

    def speak(text: str) -> Speech:
        return model.generate(text, voice=voice, seed=1, max_tokens=TOKENS, watchdog=None)

    whole = speak(TEXTS[1])
    yield Row("original", "tokens of an utterance", len(whole.tokens), TOKENS, True)
    again = speak(TEXTS[1])
    off = float(np.abs(again.audio - whole.audio).max()) + float(
        np.any(again.tokens != whole.tokens)
    )
    yield Row("original", "same seed: largest difference", off, 0)
    for sizes in ((200,), (10,)):
        stream = model.stream(
            TEXTS[1],
            voice=voice,
            seed=1,
            max_tokens=TOKENS,
            watchdog=None,
            chunks=ChunkOptions(sizes=sizes),
        )
        chunks = [chunk.audio for chunk in stream]
        audio = np.concatenate(chunks)
        name = f"streamed in {len(chunks)}"
        yield Row(
            "original", f"{name}: samples off the whole", abs(len(audio) - len(whole.audio)), 0
        )
        if len(chunks) == 1:
            difference = float(np.abs(audio - whole.audio).max())
            yield Row("original", f"{name}: largest difference", difference, 0)
        else:
            start = slice(0, sizes[0] * SAMPLES_PER_TOKEN)
            energy = float(np.std(audio[start]) / np.std(whole.audio[start]))
            yield Row("original", f"{name}: level of the first chunk, least", energy, 0.5, True)
    together = list(
        model.generate_batch(
            TEXTS, voice=voice, seed=1, max_tokens=TOKENS, watchdog=None, batch_size=2
        )
    )
    for text, speech in zip(TEXTS, together, strict=True):
        alone = whole if text == TEXTS[1] else speak(text)
        other = float(np.sum(speech.tokens != alone.tokens))
        yield Row("original", f"batch, {len(text)} characters: other tokens", other, 0)
        same = snr(speech.audio, alone.audio)
        yield Row("original", f"batch, {len(text)} characters: SNR to alone, dB", same, 50, True)


def quantised_rows(folder: Path) -> Iterator[Row]:
    """A folder of fewer bits speaks."""
    model = Chatterbox.from_pretrained(folder)
    voice = random_voice(model.config, family=model.family)
    speech = model.generate(TEXTS[0], voice=voice, seed=1, max_tokens=8, watchdog=None)
    loud = float(np.std(speech.audio)) if np.isfinite(speech.audio).all() else 0.0
    yield Row(folder.name, "tokens", len(speech.tokens), 8, True)
    yield Row(folder.name, "deviation of the samples", loud, 1e-4, True)


def converted_rows(folder: Path) -> Iterator[Row]:
    """A recording through the flow of ten steps."""
    converter = VoiceConverter.from_pretrained(folder)
    source = clip(seconds=3.0, seed=1)
    target = converter.encode_voice(clip(seconds=6.0, seed=2), sample_rate=SAMPLE_RATE)
    speech = converter.convert(source, sample_rate=SAMPLE_RATE, voice=target, seed=1)
    tokens = -(-len(source) // SAMPLES_PER_TOKEN)
    off = abs(len(speech.audio) - tokens * SAMPLES_PER_TOKEN)
    yield Row("conversion", "samples off the source, to a token", off, 0)
    loud = float(np.std(speech.audio)) if np.isfinite(speech.audio).all() else 0.0
    yield Row("conversion", "deviation of the samples", loud, 1e-4, True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.measure.original", description=__doc__)
    parser.add_argument("--model", type=Path, help="a folder (default: of a random checkpoint)")
    parser.add_argument("--quantised", type=Path, nargs="*", default=[], help="folders")
    args = parser.parse_args(argv)
    folder = args.model or resolve(ready(ROOT / ".parity" / "original", ORIGINAL, ORIGINAL_TYPE))
    parts = [(spoken_rows, folder), (converted_rows, folder)]
    parts += [(quantised_rows, each) for each in args.quantised]
    rows: list[Row] = []
    peak = ResidentPeak()
    with peak.watching():
        for part, where in parts:
            started = time.perf_counter()
            with endless():
                for row in part(where):
                    rows.append(row)
                    print(render([row], header=len(rows) == 1), flush=True)
            mx.clear_cache()
            print(f"{part.__name__}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    print(f"peak of the process {peak.bytes / 1e9:.2f} GB")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
