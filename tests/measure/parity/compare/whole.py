"""Our whole way, through the converted folder and the library as a user calls it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, Voice
from mlx_audio_turbo.config import SAMPLES_PER_FRAME, SAMPLES_PER_TOKEN
from mlx_audio_turbo.synthesis.noise import NoiseSource
from mlx_audio_turbo.synthesis.token_to_wav import TokenToWav

from ..inputs_hift import random_numbers
from ..rows import Row, max_abs, relative, snr
from ..texts import SENTENCE
from .context import Context

TOKENS = ("t3_prompt_tokens", "s3gen_prompt_tokens")


@dataclass(frozen=True)
class Given(NoiseSource):
    """The reference's random numbers in the place of a seed's."""

    noise: np.ndarray
    start: np.ndarray
    source_noise: np.ndarray

    def flow(self, start: int, frames: int, mels: int) -> mx.array:
        return mx.array(self.noise[:, start : start + frames])

    def phases(self, harmonics: int) -> mx.array:
        return mx.array(self.start)

    def source(self, start: int, frames: int, harmonics: int) -> mx.array:
        samples = slice(start * SAMPLES_PER_FRAME, (start + frames) * SAMPLES_PER_FRAME)
        return mx.array(self.source_noise[:, samples])


def rows(context: Context) -> Iterator[Row]:
    reference = context.reference("whole")
    model = ChatterboxTurbo.from_pretrained(context.folder, dtype=mx.float32)
    encoded = model.encode_voice(context.clips[0])
    prompt_mel = reference["s3gen_prompt_mel"]  # in a small recording, the first frames of it
    for name in TOKENS:
        theirs = reference[name]
        ours = getattr(encoded, name)[: len(theirs)]
        equal = float(np.mean(ours == theirs)) if ours.shape == theirs.shape else 0.0
        yield Row("clip to voice", f"{name}, share equal", equal, 0.98, at_least=True)
    yield Row(
        "clip to voice",
        "s3gen_prompt_mel, max",
        max_abs(encoded.s3gen_prompt_mel[: len(prompt_mel)], prompt_mel),
        5e-4,
    )
    for name in ("speaker_embedding", "x_vector"):
        error = relative(getattr(encoded, name), reference[name])
        yield Row("clip to voice", f"{name}, relative", error, 1e-4)

    fields = {name: reference[name] for name in (*TOKENS, "s3gen_prompt_mel", "x_vector")}
    voice = Voice(**fields, speaker_embedding=reference["speaker_embedding"], family=encoded.family)
    tokens = reference["tokens"]
    if context.own:
        yield Row("whole", "tokens of a sentence in the reference", len(tokens), 40, at_least=True)
        ours = model.generate(SENTENCE, voice=voice, top_k=1, seed=0).tokens
        differing = np.inf if ours.shape != tokens.shape else float(np.sum(ours != tokens))
        yield Row("whole", "likeliest tokens of the sentence, differing", differing, 0)
    frames = reference["audio"].shape[1] // 480
    known = len(voice.s3gen_prompt_mel)
    given = Given(
        mx.random.key(0),
        context.random(1, known + frames, voice.s3gen_prompt_mel.shape[1], seed=502),
        *random_numbers(context, frames),
    )
    audio = model._engine.run(lambda: _audio(model, voice, given, tokens))[None]
    wrong = abs(audio.shape[1] - SAMPLES_PER_TOKEN * (len(tokens) + 3))
    yield Row("whole", "samples over or under 960 x tokens", wrong, 0)
    parts = zip(np.split(audio, 4, axis=1), np.split(reference["audio"], 4, axis=1), strict=True)
    worst = min(snr(ours, theirs) for ours, theirs in parts)
    yield Row("whole", "tokens to waveform, worst quarter, dB", worst, 50, at_least=True)


def _audio(model: ChatterboxTurbo, voice: Voice, given: Given, tokens: np.ndarray) -> np.ndarray:
    """(samples,) of the tokens and the closing silence, with the reference's random numbers."""
    renderer = TokenToWav(model._networks.s3gen, voice, given, model.config.rendering)
    return np.concatenate(list(renderer.push(tokens.tolist(), final=True)))
