"""Audio files to arrays and back."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import AudioError
from ..files.atomic import replacing
from . import clip_quality as clip_checks
from . import clip_reader as decoding
from .resample import resample_soxr

_SILENCE = 1e-4
"""A clip that stays within this of a constant (-80 dB of full scale) holds no voice."""

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "pcm": ("RAW", "PCM_16"),
}
"""By suffix, libsndfile's names; pcm is 16 bit little-endian without a header."""

_BLOCK = 65_536


def load_audio(
    path: str | os.PathLike[str], *, sample_rate: int, start: float | None = None
) -> np.ndarray:
    """Read a clip as mono float32 (samples,) at ``sample_rate``; equals librosa.load up to 60 s.

    Of a longer one the 30 s that sound most like clean speech are taken, or 30 s from ``start``
    seconds on. What may spoil a voice (noise, clipping, silence …) is logged as a warning.

    Raises:
        AudioError: no such file, no audio in it, NaN or infinite samples, silence, a sample rate
            or a number of channels that no clip of a voice has, or it ends before ``start``.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise AudioError(f"the clip is a {type(path).__name__}; give a path or a NumPy array")
    path = Path(path)
    if path.is_dir():
        raise AudioError(f"{path} is a folder; give an audio file")
    if not path.exists():
        raise AudioError(f"{path} does not exist; check the path of the clip")
    part = decoding.read_part(path, start)
    samples = check_samples(part.samples, str(path))
    clip_checks.log_warnings(path, part.samples, part.sample_rate)
    return resample_soxr(samples, part.sample_rate, sample_rate)


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
    if samples.ndim == 2 and samples.shape[1] > decoding.CHANNELS:
        raise AudioError(
            f"{name} has {samples.shape[1]} channels; give an array of shape (samples, channels)"
        )
    samples = samples.astype(np.float32, copy=False)
    if samples.ndim == 2:
        samples = np.mean(samples.T, axis=0)
    if not np.all(np.isfinite(samples)):
        raise AudioError(f"{name} holds NaN or infinite samples; export the clip again")
    if np.ptp(samples) < 2 * _SILENCE:
        raise AudioError(f"{name} is silent; give a clip with a voice in it")
    return samples


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Find out before long work whether :func:`write_audio` could write there; gives the path.

    Raises:
        AudioError: an unknown suffix (see ``FORMATS``), or a place that is absent or closed to us.
    """
    path = Path(path)
    if path.suffix.lower().lstrip(".") not in FORMATS:
        known = ", ".join(f".{suffix}" for suffix in FORMATS)
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

    The suffix chooses wav or flac (16 bit), mp3, ogg (Vorbis), opus or pcm.

    Raises:
        AudioError: as for :func:`check_writable`, or the writing fails.
    """
    return write_blocks(path, [samples], sample_rate)


def write_blocks(
    path: str | os.PathLike[str], blocks: Iterable[np.ndarray], sample_rate: int
) -> Path:
    """As :func:`write_audio`, of arrays one after another, so that a book needs no memory."""
    path = check_writable(path)
    with _writing(path), replacing(path) as part:
        _encode(part, path.suffix.lower().lstrip("."), blocks, sample_rate)
    return path


def encode_audio(samples: np.ndarray, sample_rate: int, suffix: str = "wav") -> bytes:
    """The bytes of a file of this kind (see ``FORMATS``)."""
    file = io.BytesIO()
    _encode(file, suffix, [samples], sample_rate)
    return file.getvalue()


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Floats in -1 to 1 as 16-bit integers of the same shape, rounded down as in a file."""
    scaled = np.floor(samples.astype(np.float64) * 32_768)
    return np.clip(scaled, -32_768, 32_767).astype(np.int16)


def _encode(
    file: Path | BinaryIO, suffix: str, blocks: Iterable[np.ndarray], sample_rate: int
) -> None:
    import soundfile

    container, encoding = FORMATS[suffix]
    endian = "LITTLE" if suffix == "pcm" else None
    with soundfile.SoundFile(file, "w", sample_rate, 1, encoding, endian, container) as out:
        for block in blocks:
            # In pieces, because libsndfile's Vorbis encoder overflows its stack on a long array.
            for start in range(0, block.shape[0], _BLOCK):
                piece = block[start : start + _BLOCK]
                # libsndfile rounds floats otherwise for FLAC than for WAV.
                out.write(to_int16(piece) if encoding == "PCM_16" else piece)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    import soundfile

    try:
        yield
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"{path} cannot be written ({decoding.reason(error)}); choose another place"
        ) from error
