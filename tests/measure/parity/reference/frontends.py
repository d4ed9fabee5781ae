"""The reference's samples, features, cleaned texts and text ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import librosa
import numpy as np
import pyloudnorm
import torch
from chatterbox.models.s3gen.s3gen import get_resampler
from chatterbox.models.s3gen.utils.mel import mel_spectrogram
from chatterbox.models.s3gen.xvector import extract_feature
from chatterbox.models.s3tokenizer import s3tokenizer as s3
from chatterbox.models.voice_encoder.config import VoiceEncConfig
from chatterbox.models.voice_encoder.melspec import melspectrogram
from chatterbox.tts_turbo import ChatterboxTurboTTS, punc_norm
from transformers import AutoTokenizer

from ..texts import generate_texts, pack_json
from .context import Context

EDGE = 25
"""Rows kept of each end of an array in a small recording; of samples EDGE_SAMPLES."""
EDGE_SAMPLES = 1500


def record(context: Context) -> dict[str, np.ndarray]:
    """``{clip}.{feature}`` time-major, and as JSON the texts, cleaned and tokenized."""
    tensors = {}
    for clip in context.clips[:1] if context.small else context.clips:
        for name, array in features(clip):
            if context.small:
                edge = EDGE_SAMPLES if array.ndim == 1 else EDGE
                array = np.concatenate([array[:edge], array[-edge:]])
            tensors[f"{clip.stem}.{name}"] = np.ascontiguousarray(array, np.float32)
    texts = generate_texts(50 if context.small else 200)
    cleaned = [punc_norm(text) for text in texts]
    tokenizer = AutoTokenizer.from_pretrained(context.tokenizer_folder)
    tensors["texts"] = pack_json(texts)
    tensors["cleaned"] = pack_json(cleaned)
    tensors["text_ids"] = pack_json([tokenizer(text).input_ids for text in [*texts, *cleaned]])
    return tensors


def features(clip: Path) -> Iterator[tuple[str, np.ndarray]]:
    samples, rate = librosa.load(clip, sr=24_000)
    yield "loaded", samples
    samples = _normalize_loudness(samples, rate)
    yield "samples_24k", samples
    voice = librosa.resample(samples, orig_sr=24_000, target_sr=16_000)
    yield "samples_16k", voice
    prompt = torch.from_numpy(samples[:240_000])[None]
    yield "prompt_mel", mel_spectrogram(prompt)[0].numpy().T
    prompt = get_resampler(24_000, 16_000, "cpu")(prompt)[0]
    yield "prompt_16k", prompt.numpy()
    tokenizer = _s3_tokenizer_without_weights()
    yield "s3_log_mel_prompt", tokenizer.log_mel_spectrogram(prompt).numpy().T
    yield "s3_log_mel_voice", tokenizer.log_mel_spectrogram(voice[:240_000]).numpy().T
    yield "kaldi_fbank", extract_feature(prompt[None])[0][0].numpy()
    trimmed, _ = librosa.effects.trim(voice, top_db=20)
    yield "voice_mel", melspectrogram(trimmed, VoiceEncConfig()).T


def _normalize_loudness(samples: np.ndarray, rate: int) -> np.ndarray:
    """As under the numpy < 2 that the package asks for: float32 samples times a float32 gain.

    numpy 2 widens the product with a float64 scalar; a Python float keeps the old meaning.
    """
    measure = pyloudnorm.Meter.integrated_loudness

    def measure_plainly(meter: pyloudnorm.Meter, samples: np.ndarray) -> float:
        return float(measure(meter, samples))

    with mock.patch.object(pyloudnorm.Meter, "integrated_loudness", measure_plainly):
        samples = ChatterboxTurboTTS.norm_loudness(None, samples, rate)
    assert samples.dtype == np.float32
    return samples


def _s3_tokenizer_without_weights() -> s3.S3Tokenizer:
    def bare(self: s3.S3TokenizerV2, name: str) -> None:
        torch.nn.Module.__init__(self)
        self.scale = torch.nn.Parameter(torch.ones(1))  # its device is asked for

    with mock.patch.object(s3.S3TokenizerV2, "__init__", bare):
        return s3.S3Tokenizer()
