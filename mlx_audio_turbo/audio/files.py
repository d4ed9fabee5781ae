"""Audio files to arrays and back."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import AudioError
from .resample import resample_soxr

if TYPE_CHECKING:
    import soundfile

_SILENCE = 1e-4
"""A clip whose loudest sample stays under this (-80 dB of full scale) holds no voice."""

_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
}

_BLOCK = 65_536


def load_audio(path: str | os.PathLike[str], *, sample_rate: int) -> np.ndarray:
    """Read a clip as mono float32 (samples,) at ``sample_rate``; equals librosa.load.

    Raises:
        AudioError: no such file, no audio in it, NaN or infinite samples, or silence.
    """
    import soundfile

    path = Path(path)
    if path.is_dir():
        raise AudioError(f"{path} is a folder; give an audio file")
    if not path.exists():
        raise AudioError(f"{path} does not exist; check the path of the clip")
    try:
        samples, source_rate = soundfile.read(path, dtype="float32")
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"{path} cannot be read as audio ({_reason(error)}); give a wav, flac, ogg or mp3 file"
        ) from error
    if samples.ndim > 1:
        samples = np.mean(samples.T, axis=0)
    if samples.size == 0:
        raise AudioError(f"{path} holds no samples; give another clip")
    if not np.all(np.isfinite(samples)):
        raise AudioError(f"{path} holds NaN or infinite samples; export the clip again")
    if np.max(np.abs(samples)) < _SILENCE:
        raise AudioError(f"{path} is silent; give a clip with a voice in it")
    return resample_soxr(samples, source_rate, sample_rate)


def write_audio(path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int) -> None:
    """Write mono ``samples`` (samples,); the suffix chooses wav (16 bit), flac, mp3, ogg or opus.

    The file appears complete or not at all.

    Raises:
        AudioError: another suffix, or a place that cannot be written.
    """
    import soundfile

    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise AudioError(f"{path} has no suffix of an audio file; use one of {known}")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; give the name of a file")
    container, encoding = _FORMATS[path.suffix.lower()]
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with soundfile.SoundFile(
            part, "w", sample_rate, 1, subtype=encoding, format=container
        ) as file:
            _write_blocks(file, samples)
        os.replace(part, path)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"{path} cannot be written ({_reason(error)}); choose another place"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _write_blocks(file: soundfile.SoundFile, samples: np.ndarray) -> None:
    # In blocks, because libsndfile's Vorbis encoder overflows its stack on a long array.
    for start in range(0, samples.shape[0], _BLOCK):
        file.write(samples[start : start + _BLOCK])


def _reason(error: Exception) -> str:
    # libsndfile says "Error opening 'path': Reason."
    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return text.rsplit("': ", 1)[-1].strip().rstrip(".")
