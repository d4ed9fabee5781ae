"""The work: the same random tokens, text ids and voice for every implementation; NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..config import (
    FRAMES_PER_TOKEN,
    SAMPLE_RATE,
    SILENCE,
    SPEECH_CODES,
    TOKENS_PER_SECOND,
    ModelConfig,
)
from ..options import SamplingOptions

TEXT_TOKENS = 40
"""Text ids of a sentence of about ten seconds."""
TEXT = "The quick brown fox jumps over the lazy dog, again and again, until the sun goes down."
PROMPT_SECONDS = 10
"""Length of S3Gen's prompt, the longest there is."""
CLIP_SECONDS = 15
"""Length of the random clip that is encoded: T3's longest prompt."""


@dataclass(frozen=True)
class Workload:
    """One utterance of a fixed length. Its audio is noise; its cost is that of speech.

    text_ids: (TEXT_TOKENS,) int32.
    tokens: (25 * seconds,) int32 speech tokens for S3Gen, those of the closing silence included.
    speaker_embedding: (256,) float32.
    t3_prompt_tokens: (375,) int32 with Turbo's sizes: the longest prompt.
    prompt_tokens: (250,) int32; prompt_mel: (500, 80) float32; x_vector: (192,) float32.
    closing_silence: how many of the tokens are the closing silence.
    sampling: the model's own defaults.
    """

    text_ids: np.ndarray
    tokens: np.ndarray
    speaker_embedding: np.ndarray
    t3_prompt_tokens: np.ndarray
    prompt_tokens: np.ndarray
    prompt_mel: np.ndarray
    x_vector: np.ndarray
    closing_silence: int
    sampling: SamplingOptions

    @property
    def decoded(self) -> int:
        """Tokens that T3 decodes for this utterance."""
        return len(self.tokens) - self.closing_silence

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.tokens) / TOKENS_PER_SECOND

    def save(self, path: Path) -> None:
        """Write an ``.npz`` that the other implementations' scripts read."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays: dict[str, Any] = {k: x for k, x in values.items() if isinstance(x, np.ndarray)}
        np.savez(path, **arrays)


def workload(config: ModelConfig, seconds: float, *, seed: int = 4) -> Workload:
    """The random utterance for a model of these sizes."""
    rng = np.random.default_rng(seed)
    count = round(seconds * TOKENS_PER_SECOND)
    prompt = PROMPT_SECONDS * TOKENS_PER_SECOND
    tokens = rng.integers(0, SPEECH_CODES, count)
    closing = config.rendering.closing_silence
    tokens[count - closing :] = SILENCE
    known = {field.name for field in fields(SamplingOptions)}
    sampling: dict[str, Any] = {
        name: value for name, value in config.generation.items() if name in known
    }
    speaker = rng.standard_normal(config.t3.speaker_embedding)
    mel_shape = (FRAMES_PER_TOKEN * prompt, config.s3gen.mels)
    return Workload(
        text_ids=rng.integers(0, config.t3.text_vocabulary, TEXT_TOKENS).astype(np.int32),
        tokens=tokens.astype(np.int32),
        speaker_embedding=(speaker / np.linalg.norm(speaker)).astype(np.float32),
        t3_prompt_tokens=rng.integers(0, SPEECH_CODES, config.t3.prompt_tokens).astype(np.int32),
        prompt_tokens=rng.integers(0, SPEECH_CODES, prompt).astype(np.int32),
        prompt_mel=(rng.standard_normal(mel_shape) * 2 - 5).astype(np.float32),
        x_vector=rng.standard_normal(config.s3gen.speaker_embedding).astype(np.float32),
        closing_silence=closing,
        sampling=SamplingOptions(**sampling),
    )


def clip(seconds: float = CLIP_SECONDS, *, seed: int = 5) -> np.ndarray:
    """(samples,) float32 at 24 kHz: noise in bursts of a syllable's length, for the encoders."""
    count = round(seconds * SAMPLE_RATE)
    noise = np.random.default_rng(seed).standard_normal(count)
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(count) / SAMPLE_RATE)
    return (0.05 * noise * envelope).astype(np.float32)
