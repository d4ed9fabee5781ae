"""Our samples, features, cleaned texts and text ids against the reference's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlx_audio_turbo.audio.files import load_audio
from mlx_audio_turbo.audio.loudness import normalize_loudness
from mlx_audio_turbo.audio.resample import resample_sinc, resample_soxr
from mlx_audio_turbo.config import ENCODER_SAMPLE_RATE, SAMPLE_RATE
from mlx_audio_turbo.encoders.features import kaldi_fbank, prompt_mel, s3_log_mel, voice_mel
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo.text.normalize import normalize_text
from mlx_audio_turbo.text.tokenizer import TextTokenizer
from mlx_audio_turbo_convert.tokenizer import write_tokenizer

from ..rows import Row, max_abs, quantile_abs
from ..texts import unpack_json
from .context import Context

_BOUNDS: dict[str, tuple[str, float, float | None]] = {
    "loaded": ("loading at 24 kHz", 0.0, None),
    "samples_24k": ("loudness", 0.0, None),
    "samples_16k": ("resampling 24 to 16 kHz, soxr", 0.0, None),
    "prompt_16k": ("resampling 24 to 16 kHz, windowed sinc", 1e-4, None),
    "prompt_mel": ("prompt mel", 5e-4, 1e-4),
    "s3_log_mel_prompt": ("S3 log-mel, S3Gen's prompt", 1e-4, None),
    "s3_log_mel_voice": ("S3 log-mel, T3's prompt", 1e-4, None),
    "kaldi_fbank": ("Kaldi fbank", 5e-3, 5e-4),
    "voice_mel": ("voice mel", 1e-4, None),
}
"""Stage, bound on the largest error, and on the error that 99.9 % of the values stay within."""


def rows(context: Context) -> Iterator[Row]:
    """The worst clip's figures per feature, then the number of texts that differ."""
    reference = context.reference("frontends")
    clips = [clip for clip in context.clips if f"{clip.stem}.loaded" in reference]
    worst = {name: (0.0, 0.0) for name in _BOUNDS}
    for clip in clips:
        for name, ours in _features(clip).items():
            theirs = reference[f"{clip.stem}.{name}"]
            if context.small:
                ours = _edges(ours, theirs.shape[0] // 2)
            largest, most = worst[name]
            worst[name] = (
                max(largest, max_abs(ours, theirs)),
                max(most, quantile_abs(ours, theirs, 0.999)),
            )
    yield Row("front ends", "clips", len(clips), 1, at_least=True)
    for name, (stage, bound, most_bound) in _BOUNDS.items():
        largest, most = worst[name]
        yield Row(stage, "largest error", largest, bound)
        if most_bound is not None:
            yield Row(stage, "error of 99.9 %", most, most_bound)
    yield from _text_rows(context, reference)


def _features(clip: Path) -> dict[str, np.ndarray]:
    loaded = load_audio(clip, sample_rate=SAMPLE_RATE)
    config = TURBO.reference_clip
    assert config.loudness is not None
    samples = normalize_loudness(loaded, SAMPLE_RATE, target=config.loudness)
    voice = resample_soxr(samples, SAMPLE_RATE, ENCODER_SAMPLE_RATE)
    prompt = samples[: round(config.s3gen_prompt_seconds * SAMPLE_RATE)]
    prompt_16k = resample_sinc(prompt, SAMPLE_RATE, ENCODER_SAMPLE_RATE)
    return {
        "loaded": loaded,
        "samples_24k": samples,
        "samples_16k": voice,
        "prompt_16k": prompt_16k,
        "prompt_mel": prompt_mel(prompt),
        "s3_log_mel_prompt": s3_log_mel(prompt_16k),
        "s3_log_mel_voice": s3_log_mel(
            voice[: round(config.t3_prompt_seconds * ENCODER_SAMPLE_RATE)]
        ),
        "kaldi_fbank": kaldi_fbank(prompt_16k),
        "voice_mel": voice_mel(voice),
    }


def _edges(array: np.ndarray, edge: int) -> np.ndarray:
    return np.concatenate([array[:edge], array[-edge:]])


def _text_rows(context: Context, reference: dict[str, np.ndarray]) -> Iterator[Row]:
    texts = unpack_json(reference["texts"])
    cleaned = unpack_json(reference["cleaned"])
    ids = unpack_json(reference["text_ids"])
    wrong = sum(normalize_text(text) != clean for text, clean in zip(texts, cleaned, strict=True))
    yield Row("text clean-up", f"of {len(texts)} generated texts differ", wrong, 0)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(context.tokenizer_folder, Path(folder), TURBO.t3)
        tokenizer = TextTokenizer(Path(folder), max_tokens=TURBO.text.max_tokens)
    wrong = sum(
        tokenizer.encode(text) != expected
        for text, expected in zip([*texts, *cleaned], ids, strict=True)
    )
    yield Row("text tokenizer", f"of {len(ids)} raw and cleaned texts differ", wrong, 0)
    truth = context.tokenizer_folder / "groundtruth.json"
    if truth.exists():
        cases = json.loads(truth.read_text("utf-8"))
        wrong = sum(tokenizer.encode(case["text"]) != case["token_ids"] for case in cases)
        yield Row("text tokenizer", f"of {len(cases)} texts in groundtruth.json differ", wrong, 0)
