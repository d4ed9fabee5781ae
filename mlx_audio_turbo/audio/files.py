"""Audio files to arrays and back."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import AudioError
from ..files.atomic import KeptElsewhere, check_place, replacing
from ..files.paths import user_path
from . import aac, clip_quality, clip_reader, decoders
from .clip_channels import to_mono
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
    "aac": ("ADTS", "AAC"),
    "m4a": ("MP4", "AAC"),
    "m4b": ("MP4", "AAC"),
}
"""By suffix, libsndfile's names, and AAC; pcm is 16 bit little-endian without a header."""

_BLOCK = 65_536


def load_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int,
    start: float | None = None,
    longest: float | None = None,
) -> np.ndarray:
    """Read a clip as mono float32 (samples,) at ``sample_rate``; equals librosa.load up to 60 s.

    Of a longer clip the 30 s that sound most like clean speech are taken, or 30 s from ``start``
    seconds on. What may spoil a voice (noise, clipping, silence, an offset) is logged as a warning.

    Args:
        longest: seconds after which reading ends with an error; a small file may hold days.

    Raises:
        AudioError: no such file, no audio in it, NaN or infinite samples, silence, a sample rate
            or a number of channels that no clip of a voice has, it ends before ``start``, or it is
            longer than ``longest``.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise AudioError(f"the clip is a {type(path).__name__}; give a path or a NumPy array")
    path = user_path(path)
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"{path} does not exist; check the path of the clip") from None
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror}); check the path") from None
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path} is a folder; give an audio file")
    part = clip_reader.read_part(path, start, longest=longest)
    samples = check_samples(part.samples, str(path))
    clip_quality.log_warnings(path, samples, part.samples, part.sample_rate)
    return resample_soxr(samples, part.sample_rate, sample_rate)


def load_whole(
    path: str | os.PathLike[str], *, sample_rate: int, longest: float | None = None
) -> np.ndarray:
    """Read a recording of any length as mono float32 (samples,) at ``sample_rate``.

    Args:
        longest: seconds after which reading ends with an error; a small file may hold days.

    Raises:
        AudioError: no such file, no audio in it, NaN or infinite samples, silence, or more than
            ``longest`` seconds.
    """
    path = user_path(path)
    if not os.path.exists(path):
        raise AudioError(f"{path} does not exist; check the path of the recording")
    with decoders.regular_file(path) as file:
        read, count = [], 0
        for rate, block in decoders.blocks(file, path):
            read.append((rate, block))
            count += len(block)
            clip_reader.check_length(path, count, rate, longest)
    if not read:
        raise AudioError(f"{path} holds no samples; give another recording")
    samples = check_samples(np.concatenate([block for _, block in read]), str(path))
    return resample_soxr(samples, read[0][0], sample_rate)


def check_samples(samples: np.ndarray, name: str) -> np.ndarray:
    """Float (samples,) or (samples, channels) as mono float32 (samples,).

    A DC offset is removed, and channels that are empty or cancel each other are left out; both are
    logged as warnings.

    Args:
        name: what messages call the clip.

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
    if samples.ndim == 2 and samples.shape[1] > clip_reader.CHANNELS:
        raise AudioError(
            f"{name} has {samples.shape[1]} channels; give an array of shape (samples, channels)"
        )
    samples = samples.astype(np.float32, copy=False)
    if not np.all(np.isfinite(samples)):
        raise AudioError(f"{name} holds NaN or infinite samples; export the clip again")
    samples = to_mono(samples.reshape(len(samples), -1), name)
    if np.ptp(samples) < 2 * _SILENCE:
        raise AudioError(f"{name} is silent; give a clip with a voice in it")
    return samples


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Find out before long work whether :func:`write_audio` could write there; gives the path.

    Raises:
        AudioError: an unknown suffix (see ``FORMATS``), or a place where no file of this name can
            be written.
        ExtraError: AAC, and PyAV is not installed.
    """
    path = user_path(path)
    if path.suffix.lower().lstrip(".") not in FORMATS:
        known = ", ".join(f".{suffix}" for suffix in FORMATS)
        raise AudioError(f"{path} does not end like an audio file; use one of {known}")
    if path.suffix.lower().lstrip(".") in aac.CONTAINERS:
        aac.check_installed()
    with writing(path):
        check_place(path)
    return path


def write_audio(path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int) -> Path:
    """Write mono ``samples`` (samples,) whole or not at all; gives the path.

    The suffix chooses wav or flac (16 bit), mp3, ogg (Vorbis), opus, pcm, or with PyAV (extra
    ``codecs``) AAC: aac, m4a or m4b.

    Raises:
        AudioError: as for :func:`check_writable`, or the writing fails.
    """
    return write_blocks(path, [samples], sample_rate)


def write_blocks(
    path: str | os.PathLike[str], blocks: Iterable[np.ndarray], sample_rate: int
) -> Path:
    """As :func:`write_audio`, of arrays one after another, so that a book needs no memory.

    An error that ``blocks`` raises comes through as it is.
    """
    path = check_writable(path)
    try:
        with writing(path), replacing(path, keep=True) as part:
            # By its handle: libsndfile wants names in UTF-8, which those of files need not be.
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                _encode(handle, path.suffix.lower().lstrip("."), _guarded(blocks), sample_rate)
            finally:
                os.close(handle)
    except _SourceError as error:
        raise error.cause from None
    return path


def encode_audio(samples: np.ndarray, sample_rate: int, suffix: str = "wav") -> bytes:
    """The bytes of a file of this kind (see ``FORMATS``)."""
    file = io.BytesIO()
    _encode(file, suffix, [samples], sample_rate)
    return file.getvalue()


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Floats in -1 to 1 as 16-bit integers of the same shape, rounded down as in a file.

    Raises:
        AudioError: some are not finite.
    """
    check_finite(samples)
    scaled = np.floor(samples.astype(np.float64) * 32_768)
    return np.clip(scaled, -32_768, 32_767).astype(np.int16)


def check_finite(samples: np.ndarray) -> None:
    """Check that no sample is NaN or infinite: no file holds those, and encoders crash.

    Raises:
        AudioError: one is.
    """
    if not np.isfinite(samples).all():
        raise AudioError("the audio holds NaN or infinite samples; make it again")


class _SourceError(Exception):
    """An error of where the samples come from, which is none of writing."""

    def __init__(self, cause: Exception):
        super().__init__(cause)
        self.cause = cause


def _guarded(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    import soundfile

    try:
        yield from blocks
    except (soundfile.SoundFileError, OSError) as error:
        raise _SourceError(error) from error


def _encode(
    file: int | BinaryIO, suffix: str, blocks: Iterable[np.ndarray], sample_rate: int
) -> None:
    import soundfile

    if suffix in aac.CONTAINERS:
        with (
            open(file, "r+b", closefd=False) if isinstance(file, int) else nullcontext(file) as out
        ):
            aac.encode(out, suffix, _finite(blocks), sample_rate)
        return
    container, encoding = FORMATS[suffix]
    endian = "LITTLE" if suffix == "pcm" else None
    with soundfile.SoundFile(
        file, "w", sample_rate, 1, encoding, endian, container, closefd=False
    ) as out:
        for block in _finite(blocks):
            # In pieces, because libsndfile's Vorbis encoder overflows its stack on a long array.
            for start in range(0, block.shape[0], _BLOCK):
                piece = block[start : start + _BLOCK]
                # libsndfile rounds floats otherwise for FLAC than for WAV.
                out.write(to_int16(piece) if encoding == "PCM_16" else piece)


def _finite(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        check_finite(block)
        yield block


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the system and of the encoder into an :class:`AudioError` about ``path``."""
    import soundfile

    try:
        yield
    except KeptElsewhere as error:
        raise AudioError(
            f"{path} cannot be written ({error.strerror}); the audio is in {error.kept}"
        ) from error
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"{path} cannot be written ({decoders.reason(error)}); choose another place"
        ) from error
