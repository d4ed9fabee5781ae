"""A clip and a voice made of random numbers, for checks that should use no person's."""

from __future__ import annotations

import numpy as np

from mlx_audio_turbo.config import SAMPLE_RATE, SPEECH_CODES, ModelConfig
from mlx_audio_turbo.voice import Voice


def clip(*, seconds: float = 6.0, seed: int = 0) -> np.ndarray:
    """(samples,) float32 at 24 kHz: a buzz of gliding pitch in syllables, and a little noise."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 140 + 40 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    buzz = sum(np.sin(n * phase) / n for n in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * time) + 0.4, 0, 1)
    samples = 0.2 * syllables * buzz + 0.003 * random.standard_normal(len(time))
    return samples.astype(np.float32)


def voice(config: ModelConfig, *, family: str, seed: int = 0) -> Voice:
    """A voice of random tokens, with the other values distributed as in real ones."""
    random = np.random.default_rng(seed)
    speaker = np.abs(random.standard_normal(config.t3.speaker_embedding))
    tokens = random.integers(0, SPEECH_CODES, 100)
    return Voice(
        speaker_embedding=speaker / np.linalg.norm(speaker),
        t3_prompt_tokens=tokens[: config.t3.prompt_tokens],
        s3gen_prompt_tokens=tokens[:50],
        s3gen_prompt_mel=random.normal(-6.0, 2.0, (100, config.s3gen.mels)),
        x_vector=random.standard_normal(config.s3gen.speaker_embedding),
        family=family,
    )
