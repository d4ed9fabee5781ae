"""The original's S3Gen against the reference: ten steps with guidance, and the waveform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.hift.source import phase_offsets
from mlx_audio_turbo.presets import ORIGINAL_S3GEN

from ..inputs_hift import random_numbers
from ..rows import Row, relative, snr
from . import hift, s3gen
from .context import Context


def rows(context: Context) -> Iterator[Row]:
    reference = context.reference("s3gen_original")
    turbo, original = context.config.s3gen, ORIGINAL_S3GEN.estimator
    estimator = replace(
        turbo.estimator,
        steps=original.steps,
        schedule=original.schedule,
        guidance=original.guidance,
        mean_flow=original.mean_flow,
    )
    network = s3gen.build(context, replace(turbo, estimator=estimator))
    tokens, prompt = mx.array(reference["tokens"]), int(reference["prompt"])
    mels, frames = turbo.mels, 2 * tokens.shape[1]
    *_, mel = network(
        tokens[:, prompt:],
        prompt_tokens=tokens[:, :prompt],
        # The reference's side uses the same.
        prompt_mel=mx.array(context.random(1, 2 * prompt, mels, seed=601, scale=2.0) - 5),
        x_vector=mx.array(context.random(1, turbo.speaker_embedding, seed=603)),
        noise=mx.array(context.random(1, frames, mels, seed=602)),
    )
    theirs = reference["mel"]
    spread = float(np.std(theirs, axis=1).mean())
    yield Row("original", "spread of the reference's mel over time", spread, 0.05, at_least=True)
    figure = relative(np.array(mel), theirs)
    yield Row("original", "ten steps with guidance: mel, relative", figure, 1e-5)

    vocoder = hift.build(context)
    phases, noise = map(mx.array, random_numbers(context, theirs.shape[1]))
    f0 = np.array(vocoder.f0(mel))
    offsets = phase_offsets(
        f0,
        harmonics=vocoder.config.harmonics,
        samples_per_frame=vocoder.config.samples_per_frame,
    )
    source = vocoder.source(mx.array(f0), mx.array(offsets), phases, noise)
    audio = np.array(vocoder.decode(mel, source))
    parts = zip(np.split(audio, 4, axis=1), np.split(reference["audio"], 4, axis=1), strict=True)
    worst = min(snr(ours, theirs) for ours, theirs in parts)
    yield Row("original", "tokens to waveform, worst quarter, dB", worst, 50, at_least=True)
