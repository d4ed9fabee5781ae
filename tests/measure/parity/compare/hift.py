"""Our mel to samples against the reference's."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.hift.generator import HiFTGenerator, fade_in
from mlx_audio_turbo.hift.source import phase_offsets
from mlx_audio_turbo_convert.mapping.hift import RULES

from ..inputs_hift import random_numbers
from ..rows import Row, max_abs, relative, snr
from .context import Context, load_network


def build(context: Context) -> HiFTGenerator:
    network = HiFTGenerator(context.config.hift)
    load_network(
        network,
        RULES,
        context.checkpoint / "s3gen_meanflow.safetensors",
        source_prefix="mel2wav.",
        target_prefix="s3gen.mel2wav.",
    )
    return network


def rows(context: Context) -> Iterator[Row]:
    reference = context.reference("hift")
    yield from _spreads(reference, own=context.own)
    network = build(context)
    config = network.config
    mel = mx.array(reference["mel"])
    frames = mel.shape[1]
    phases, noise = map(mx.array, random_numbers(context, frames))

    def excite(f0: np.ndarray) -> mx.array:
        offsets = phase_offsets(
            f0, harmonics=config.harmonics, samples_per_frame=config.samples_per_frame
        )
        return network.source(mx.array(f0), mx.array(offsets), phases, noise)

    f0 = np.array(network.f0(mel))
    yield Row("F0", "Hz, relative", relative(f0, reference["f0"]), 1e-5)
    source = np.array(excite(reference["f0"]))
    yield _row("source", "given F0, phases and noise", source, reference["source"], 50)

    audio = np.array(network.decode(mel, mx.array(reference["source"])))
    yield _row("waveform", "given the source", audio, reference["audio"], 90)
    wrong = abs(audio.shape[1] - frames * config.samples_per_frame)
    yield Row("waveform", "samples over or under 480 x frames", wrong, 0)

    whole = np.array(network.decode(mel, excite(f0)))
    parts = zip(np.split(whole, 4, axis=1), np.split(reference["audio"], 4, axis=1), strict=True)
    worst = min(snr(ours, theirs) for ours, theirs in parts)
    yield Row("waveform", "given the mel: SNR, worst quarter, dB", worst, 50, at_least=True)

    length = reference["fade"].size
    fade = np.array(fade_in(mx.ones((1, length + 7))))
    wanted = np.pad(reference["fade"], (0, 7), constant_values=1)[None]
    yield Row("waveform", "fade-in, max", max_abs(fade, wanted), 1e-6)


def _row(stage: str, what: str, ours: np.ndarray, theirs: np.ndarray, bound: float) -> Row:
    return Row(stage, f"{what}: SNR, dB", snr(ours, theirs), bound, at_least=True)


def _spreads(reference: dict[str, np.ndarray], *, own: bool) -> Iterator[Row]:
    """That the reference ran both branches of the source, and at a level where errors show."""
    f0, audio = reference["f0"], reference["audio"]
    voiced = f0[f0 > 10]
    stage = "vocoder, sanity"
    yield Row(stage, "voiced frames, share", float(np.mean(f0 > 10)), 0.2, at_least=True)
    yield Row(stage, "unvoiced frames, share", float(np.mean(f0 <= 10)), 0.05, at_least=True)
    yield Row(stage, "voiced F0, median, Hz", float(np.median(voiced)), 80, at_least=True)
    yield Row(stage, "F0, largest, Hz", float(f0.max()), 400)
    nearest = float(np.abs(f0 - 10).min())
    yield Row(stage, "F0, nearest to 10 Hz, Hz", nearest, 1e-3, at_least=True)
    if not own:  # a trained vocoder is as loud as its mel
        yield Row(stage, "waveform, deviation", float(audio.std()), 0.05, at_least=True)
    yield Row(stage, "waveform, deviation, at most", float(audio.std()), 0.5)
    yield Row(stage, "waveform, share clipped", float(np.mean(np.abs(audio) >= 0.99)), 0)
