"""Audio files to arrays and back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..atomic import replacing
from ..errors import AudioError
from .resample import resample_soxr

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
    return resample_soxr(check_samples(samples, str(path)), source_rate, sample_rate)


def check_samples(samples: np.ndarray, name: str) -> np.ndarray:
    """Mono float32 (samples,) of float (samples,) or (samples, channels); ``name`` is for errors.

    Raises:
        AudioError: another shape or kind, no samples, NaN or infinite ones, or silence.
    """
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"{name} is {samples.dtype} of shape {samples.shape}; give floats in -1 to 1 of shape "
            "(samples,) or (samples, channels)"
        )
    if samples.size == 0:
        raise AudioError(f"{name} holds no samples; give another clip")
    samples = samples.astype(np.float32, copy=False)
    if samples.ndim == 2:
        samples = np.mean(samples.T, axis=0)
    if not np.all(np.isfinite(samples)):
        raise AudioError(f"{name} holds NaN or infinite samples; export the clip again")
    if np.max(np.abs(samples)) < _SILENCE:
        raise AudioError(f"{name} is silent; give a clip with a voice in it")
    return samples


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Find out before long work whether :func:`write_audio` could write there; gives the path.

    Raises:
        AudioError: a suffix other than wav, flac, mp3, ogg and opus, or a place that is absent or
            closed to us.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise AudioError(f"{path} does not end like an audio file; use one of {known}")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise AudioError(f"there is no folder {path.parent}; make it or choose another place")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise AudioError(f"nothing can be written in {path.parent}; choose another place")
    return path


def write_audio(path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int) -> Path:
    """Write mono ``samples`` (samples,) whole or not at all; gives the path.

    The suffix chooses wav or flac (16 bit), mp3, ogg (Vorbis) or opus.

    Raises:
        AudioError: as for :func:`check_writable`, or the writing fails.
    """
    import soundfile

    path = check_writable(path)
    container, encoding = _FORMATS[path.suffix.lower()]
    try:
        with (
            replacing(path) as part,
            soundfile.SoundFile(part, "w", sample_rate, 1, encoding, format=container) as file,
        ):
            # In blocks, because libsndfile's Vorbis encoder overflows its stack on a long array.
            for start in range(0, samples.shape[0], _BLOCK):
                file.write(samples[start : start + _BLOCK])
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"{path} cannot be written ({_reason(error)}); choose another place"
        ) from error
    return path


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # libsndfile says "Error opening 'path': Reason."
    return str(error).rsplit("': ", 1)[-1].strip().rstrip(".")
