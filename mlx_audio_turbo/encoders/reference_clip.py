"""A reference clip → :class:`Voice`.

Two resamplers run on purpose, as in the reference: soxr over the whole clip for T3's side, and a
windowed sinc over the first ten seconds for S3Gen's side.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..audio.loudness import normalize_loudness
from ..audio.resample import resample_sinc, resample_soxr
from ..config import (
    ENCODER_SAMPLE_RATE,
    FRAMES_PER_TOKEN,
    SAMPLE_RATE,
    ReferenceClipConfig,
)
from ..errors import AudioError
from ..voice import Voice
from . import features
from .campplus import CAMPlus
from .s3_tokenizer import S3Tokenizer
from .voice_encoder import VoiceEncoder

MEL_FRAMES_PER_TOKEN = 4
"""Frames of the S3 tokenizer's log-mel (100 Hz) behind one token (25 Hz)."""


def encode(
    samples: np.ndarray,
    *,
    s3_tokenizer: S3Tokenizer,
    voice_encoder: VoiceEncoder,
    speaker_encoder: CAMPlus,
    config: ReferenceClipConfig,
    prompt_tokens: int,
    normalize: bool,
    family: str,
) -> Voice:
    """Encode a clip.

    Args:
        samples: (samples,) mono float32 at 24 kHz.
        prompt_tokens: limit of T3's prompt.
        normalize: first bring the clip to the loudness of ``config``, if it has one.

    Raises:
        AudioError: the clip is too short.
    """
    seconds = len(samples) / SAMPLE_RATE
    if seconds <= config.min_seconds:
        raise AudioError(
            f"the reference clip is {seconds:.2f} s long; give one of more than "
            f"{config.min_seconds:g} s (10 to 15 s is best)"
        )
    if normalize and config.loudness is not None:
        samples = normalize_loudness(samples, SAMPLE_RATE, target=config.loudness)
    clip_16k = resample_soxr(samples, SAMPLE_RATE, ENCODER_SAMPLE_RATE)
    prompt = encode_s3gen_prompt(
        samples,
        s3_tokenizer=s3_tokenizer,
        speaker_encoder=speaker_encoder,
        seconds=config.s3gen_prompt_seconds,
    )
    t3_clip = clip_16k[: round(config.t3_prompt_seconds * ENCODER_SAMPLE_RATE)]
    t3_mel = features.s3_log_mel(t3_clip)
    return Voice(
        speaker_embedding=np.array(voice_encoder.embed(mx.array(features.voice_mel(clip_16k)))),
        t3_prompt_tokens=_tokens(s3_tokenizer, t3_mel[: MEL_FRAMES_PER_TOKEN * prompt_tokens]),
        s3gen_prompt_tokens=prompt.tokens,
        s3gen_prompt_mel=prompt.mel,
        x_vector=prompt.x_vector,
        family=family,
    )


class S3GenPrompt(NamedTuple):
    """S3Gen's half of a voice, which is all that voice conversion needs.

    tokens: (P,) int32 speech tokens. mel: (2 P, 80) float32 log-mel of the same audio.
    x_vector: (192,) float32 speaker embedding.
    """

    tokens: np.ndarray
    mel: np.ndarray
    x_vector: np.ndarray


def encode_s3gen_prompt(
    samples: np.ndarray, *, s3_tokenizer: S3Tokenizer, speaker_encoder: CAMPlus, seconds: float
) -> S3GenPrompt:
    """Encode the first ``seconds`` of a clip for S3Gen.

    Args:
        samples: (samples,) mono float32 at 24 kHz.
    """
    prompt = samples[: round(seconds * SAMPLE_RATE)]
    prompt_16k = resample_sinc(prompt, SAMPLE_RATE, ENCODER_SAMPLE_RATE)
    mel = features.prompt_mel(prompt)
    tokens = _tokens(s3_tokenizer, features.s3_log_mel(prompt_16k))
    # Two mel frames a token, always: an odd frame left over would shift every length after it.
    count = min(len(tokens), len(mel) // FRAMES_PER_TOKEN)
    fbank = mx.array(features.kaldi_fbank(prompt_16k))[None]
    return S3GenPrompt(
        tokens=tokens[:count],
        mel=mel[: FRAMES_PER_TOKEN * count],
        x_vector=np.array(speaker_encoder(fbank)[0].astype(mx.float32)),
    )


def _tokens(s3_tokenizer: S3Tokenizer, log_mel: np.ndarray) -> np.ndarray:
    return np.array(s3_tokenizer(mx.array(log_mel)[None])[0])
