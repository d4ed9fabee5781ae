"""``python -m tests.measure.streaming [--model FOLDER]``: streamed against whole, figure by figure.

Without ``--model`` on a random checkpoint of the published sizes, made in ``.parity``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import mlx.core as mx
import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, ChunkOptions
from mlx_audio_turbo.config import SAMPLES_PER_FRAME
from mlx_audio_turbo.hift.f0 import F0Predictor
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo.synthesis.noise import NoiseSource
from mlx_audio_turbo.synthesis.streaming_vocoder import CONTEXT_FRAMES, StreamingVocoder
from mlx_audio_turbo.synthesis.token_to_wav import MEL_LOOKAHEAD, TokenToWav, tokens_due
from mlx_audio_turbo_convert import folder
from mlx_audio_turbo_convert.source import recognise

from .data import CLIP, ROOT
from .parity.__main__ import checkpoint
from .parity.rows import Row, snr
from .parity.table import render

AROUND = 1200
"""Samples on either side of a seam: 50 ms."""


def smooth_mel(frames: int) -> np.ndarray:
    """(1, frames, 80): formants that wander slowly."""
    time, bins = np.arange(frames)[:, None] / 50, np.arange(80)[None]
    centre = 20 + 10 * np.sin(2 * np.pi * 0.7 * time)
    mel = -6 + 4 * np.exp(-(((bins - centre) / 8) ** 2)) + np.sin(2 * np.pi * 0.3 * time)
    return mel[None].astype(np.float32)


@contextmanager
def steady_f0() -> Iterator[None]:
    """While it is open, F0 follows the level of each frame alone, and is the same in every piece.

    Products of other sizes give the predictor's F0 another last bit, and that is a phase after some
    seconds: what is compared is else the rounding of F0, and not how pieces are joined.
    """

    def steady(_: F0Predictor, mel: mx.array) -> mx.array:
        return 250 + 20 * mel.mean(axis=-1)

    with mock.patch.object(F0Predictor, "__call__", steady):
        yield


def seam_step(audio: np.ndarray, seams: list[int]) -> float:
    """The largest step at a seam over the largest step around it, of the worst seam."""
    steps = np.abs(np.diff(audio))
    ratios = [
        steps[at - 1]
        / max(np.delete(steps[max(0, at - AROUND) : at + AROUND], AROUND - 1).max(), 1e-9)
        for at in seams
        if AROUND <= at < len(audio) - AROUND
    ]
    return float(max(ratios))


def vocoder_rows(model: ChatterboxTurbo) -> list[Row]:
    mel, cuts = smooth_mel(300), (24, 50, 100, 126)

    def vocode(parts: tuple[int, ...], lookahead: int) -> list[np.ndarray]:
        vocoder = StreamingVocoder(model._networks.s3gen.mel2wav, NoiseSource(mx.random.key(4)))
        out, at = [], 0
        for part in parts:
            piece, at = mx.array(mel[:, at : at + part]), at + part
            out += list(vocoder.push(piece, final=at == mel.shape[1], lookahead=lookahead))
        return out

    whole = np.concatenate(model._engine.run(lambda: vocode((300,), CONTEXT_FRAMES)))
    streamed = np.concatenate(model._engine.run(lambda: vocode(cuts, MEL_LOOKAHEAD)))
    with steady_f0():
        exact, same = (
            np.concatenate(model._engine.run(lambda parts=parts: vocode(parts, CONTEXT_FRAMES)))
            for parts in (cuts, (300,))
        )
    seams = [int(at - MEL_LOOKAHEAD) * SAMPLES_PER_FRAME for at in np.cumsum(cuts)[:-1]]
    inner = slice(AROUND, -AROUND)
    return [
        Row("vocoder", "samples over or under the whole", abs(len(streamed) - len(whole)), 0),
        Row("vocoder", "SNR away from the ends, dB", snr(streamed[inner], whole[inner]), 40, True),
        Row("vocoder", "the same at full reach, dB", snr(exact, same), 90, True),
        Row("vocoder", "step at a seam over those around", seam_step(streamed, seams), 1.1),
    ]


def stream_rows(model: ChatterboxTurbo, sizes: tuple[int, ...], count: int = 120) -> list[Row]:
    """Drawn tokens, so that the length does not depend on what random weights say."""
    voice, options = model.encode_voice(CLIP), ChunkOptions(sizes=sizes)
    tokens = np.random.default_rng(5).integers(0, 6561, count).tolist()

    def speak(chunks: ChunkOptions | None) -> list[np.ndarray]:
        s3gen, noise = model._networks.s3gen, NoiseSource(mx.random.key(6))
        renderer = TokenToWav(
            s3gen, voice, noise, TURBO.rendering, window=chunks.window if chunks else 0
        )
        out, chunk = [], 0
        while chunks and tokens_due(chunk, chunks) < count:
            out += list(renderer.push(tokens[: tokens_due(chunk, chunks)], final=False))
            chunk += 1
        return out + list(renderer.push(tokens, final=True))

    whole = np.concatenate(model._engine.run(lambda: speak(None)))
    chunks = model._engine.run(lambda: speak(options))
    audio = np.concatenate(chunks)
    seams = np.cumsum([len(chunk) for chunk in chunks])[:-1].tolist()
    name = f"{len(chunks)} chunks"
    return [
        Row("stream", f"{name}: samples off the whole", abs(len(audio) - len(whole)), 0),
        Row("stream", f"{name}: step at a seam", seam_step(audio, seams), 1.1),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a converted folder")
    args = parser.parse_args()
    place = args.model
    if place is None:
        source = checkpoint(ROOT / ".parity" / "turbo", TURBO)
        place = source.with_name("turbo-float32")
        if not place.exists():
            folder.convert(recognise(source), place, dtype="float32")
    model = ChatterboxTurbo.from_pretrained(place)
    rows = vocoder_rows(model)
    for sizes in (ChunkOptions().sizes, (5, 10)):
        rows += stream_rows(model, sizes)
    print(render(rows))
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
