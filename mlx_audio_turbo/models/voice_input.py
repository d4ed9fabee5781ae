"""Voices as a call gives them: encoded from a clip, checked against the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..audio.clip_reader import RATES
from ..audio.files import check_samples, load_audio
from ..audio.resample import resample_soxr
from ..config import SAMPLE_RATE
from ..encoders.reference_clip import encode
from ..errors import OptionError, VoiceError
from ..loading.folder import LoadedModel
from ..options import check_flag, check_range
from ..voice import Voice


def encode_clip(
    loaded: LoadedModel,
    clip: str | Path | np.ndarray,
    *,
    sample_rate: int | None,
    normalize: bool,
) -> Callable[[], Voice]:
    """Read a reference clip; gives the work of the networks, which the engine's thread must run.

    Args:
        clip: an audio file, or floats (samples,) or (samples, channels) with ``sample_rate``.
        normalize: bring the clip to the model's loudness first.

    Raises:
        AudioError: the clip cannot be read, is silent, or not finite.
        OptionError: an array without its sample rate, or ``normalize`` is no flag.
        VoiceError: the model's folder lacks a network that reads clips.
    """
    check_flag("normalize_loudness", normalize)
    for network, reason in loaded.missing.items():
        raise VoiceError(f"this model cannot make voices: it has no {network}, {reason}")
    if isinstance(clip, np.ndarray):
        if sample_rate is None:
            raise OptionError("samples need their sample_rate; pass it with the array")
        check_range("sample_rate", sample_rate, *RATES)
        samples = check_samples(clip, "the reference clip")
        samples = resample_soxr(samples, sample_rate, SAMPLE_RATE)
    else:
        samples = load_audio(clip, sample_rate=SAMPLE_RATE)
    networks, config, s3_tokenizer = loaded.networks, loaded.config, loaded.s3_tokenizer
    assert s3_tokenizer is not None

    def work() -> Voice:
        return encode(
            samples,
            s3_tokenizer=s3_tokenizer.get(),
            voice_encoder=networks.ve,
            speaker_encoder=networks.s3gen.speaker_encoder,
            config=config.reference_clip,
            prompt_tokens=config.t3.prompt_tokens,
            normalize=normalize,
            family=loaded.family,
        )

    return work


def check_voice(voice: object, loaded: LoadedModel) -> None:
    """Check that the model can speak with a voice.

    Raises:
        VoiceError: it is no voice, or one of another family or size.
    """
    if not isinstance(voice, Voice):
        raise VoiceError(
            f"the voice is a {type(voice).__name__}; give what encode_voice or Voice.load gives"
        )
    if voice.family != loaded.family:
        raise VoiceError(
            f"the voice was made for {voice.family!r} and the model is {loaded.family!r}; "
            "make the voice again with this model"
        )
    t3, s3gen = loaded.config.t3, loaded.config.s3gen
    for name, array, size in (
        ("speaker_embedding", voice.speaker_embedding, t3.speaker_embedding),
        ("x_vector", voice.x_vector, s3gen.speaker_embedding),
        ("s3gen_prompt_mel", voice.s3gen_prompt_mel, s3gen.mels),
    ):
        if array.shape[-1] != size:
            raise VoiceError(
                f"{name} of the voice has {array.shape[-1]} values where the model wants "
                f"{size}; make the voice again with this model"
            )
