"""Audio files of any format → blocks of samples, read forwards to their end.

libsndfile decodes wav, flac, ogg, mp3 and their like; PyAV (extra ``codecs``), or else the command
ffmpeg, what libsndfile cannot: AAC, WMA, AMR and the sound of films. The content decides, not the
name of the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AudioError
from . import ffmpeg, headers, joined, mp3_frames

if TYPE_CHECKING:
    import soundfile

BLOCK_SECONDS = 60
"""Few blocks: soundfile seeks after each, and an mp3 decoder stumbles over that."""
MAX_BLOCK = 60 * 96_000 * 2
"""Values of a block: a minute of stereo at 96 kHz."""
MAX_PIPE = 2 << 30
"""Bytes that are taken from a pipe: an hour of stereo at 48 kHz in float32 is 1.4 GB."""
SHORTEST = 5
"""Seconds; a shorter clip is refused, and needs no warning."""
MOST = 0.9
"""Share of a file that its recording fills; the rest are tags."""
LEAST = 0.98
"""Share of the expected samples; with fewer a file is damaged."""
_HEAD = 1 << 12

HEADERLESS = (".raw", ".pcm", ".s16", ".s16le", ".f32", ".gsm", ".vox", ".ul", ".al", ".sln")
"""Suffixes of files without a header; for the remedy alone, as no name decides how one is read."""

_log = logging.getLogger(__name__)


@contextmanager
def regular_file(path: Path) -> Iterator[Path]:
    """``path``, or a temporary copy of what a pipe or device gives, which can be read twice.

    Raises:
        AudioError: it cannot be read, or holds more than 2 GiB.
    """
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "clip")
            with open(path, "rb") as pipe, open(copy, "wb") as file:
                while content := pipe.read(1 << 20):
                    file.write(content)
                    if file.tell() > MAX_PIPE:
                        raise AudioError(f"{path} gives more than 2 GiB; give a shorter clip")
            yield copy
    except OSError as error:
        raise AudioError(
            f"{path} cannot be read as audio ({reason(error)}); give a file that can be read"
        ) from None


def blocks(path: Path, name: Path) -> Iterator[tuple[int, np.ndarray]]:
    """The sample rate with each block of up to 60 s of samples (N, C) float32, C channels.

    Args:
        path: a regular file; name: what messages call it.

    Raises:
        AudioError: no decoder can read it.
    """
    if path.stat().st_size == 0:
        raise AudioError(f"{name} cannot be read as audio (it is empty); give another clip")
    error_type = _soundfile().SoundFileError
    files: list[soundfile.SoundFile] = []
    expected = read = 0
    with ExitStack() as stack:
        try:
            files = _opened(path, name, stack)
            expected = sum(file.frames for file in files)
            for file in files:
                size = _block_size(file)
                while len(block := file.read(size, dtype="float32", always_2d=True)):
                    read += len(block)
                    yield file.samplerate, block
            fault = ""
        except error_type as error:
            fault = reason(error)
    if not fault and read >= LEAST * expected:
        return
    if read:
        _warn_damaged(name, fault or "it breaks off")
        return
    # libsndfile knows some sound in Ogg by name only.
    damaged = bool(files) and files[0].format != "OGG"
    if damaged and not (_has_av() or ffmpeg.find()):
        raise AudioError(f"{name} is damaged ({fault}); export it again")
    yield from _others(path, name, fault)
    if damaged:
        _warn_damaged(name, fault)


def _block_size(file: soundfile.SoundFile) -> int:
    """Samples of a block: whole seconds, fewer where a header claims rates that no clip has."""
    seconds = MAX_BLOCK // (file.samplerate * file.channels)
    return file.samplerate * max(1, min(BLOCK_SECONDS, seconds))


def _opened(path: Path, name: Path, stack: ExitStack) -> list[soundfile.SoundFile]:
    """The recordings of one kind that libsndfile finds in a file; mostly one."""

    def opened(source: Any) -> soundfile.SoundFile:
        return stack.enter_context(_soundfile().SoundFile(source))

    parts, whole = headers.recordings(path), None
    if not parts:
        # A file by its number: soundfile would guess the format of one that has a name.
        whole = opened(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
        parts = _parts(path, name, whole)
        if not parts:
            return [whole]
    files = [opened(stack.enter_context(io.BufferedReader(part))) for part in parts]
    same = [file for file in files if _kind(file) == _kind(files[0])]
    if len(same) < len(files):
        _log.warning(
            "%s holds recordings of several kinds; those of the first are read: split it", name
        )
    frames, rate = sum(file.frames for file in same), same[0].samplerate
    # That the length of an mp3 is a guess is no fault of the file.
    fault = whole is None or (whole.format == "FLAC" and whole.frames != frames)
    if fault and frames > SHORTEST * rate:
        _log.warning(
            "%s has a header that does not fit its content; all of it is read: save it again in an "
            "audio editor",
            name,
        )
    return same


def _parts(path: Path, name: Path, file: soundfile.SoundFile) -> Sequence[io.RawIOBase]:
    """The recordings in a file, where libsndfile would not read all of it."""
    if file.format == "FLAC":
        return joined.flac_streams(path)
    if file.format == "OGG":
        return joined.ogg_links(path)
    if "MPEG" not in file.format and file.format != "MP3":
        return []
    mp3 = mp3_frames.count(path)
    if mp3 is None:
        return []
    if mp3.stop - mp3.start < MOST * path.stat().st_size - mp3.start:
        _log.warning(
            "%s holds recordings of several kinds, or is damaged; a part is read: export it again",
            name,
        )
    if abs(mp3.samples - file.frames) <= 4 * mp3.samples_per_frame:
        return []
    return [mp3_frames.with_frame_count(path, mp3)]


def _kind(file: soundfile.SoundFile) -> tuple[int, int]:
    return file.samplerate, file.channels


def _others(path: Path, name: Path, fault: str) -> Iterator[tuple[int, np.ndarray]]:
    """What libsndfile cannot decode. Text is not handed on: a playlist would lead elsewhere."""
    if not _is_binary(path):
        raise AudioError(f"{name} cannot be read as audio ({fault}); {_remedy(name)}")
    if _has_av():
        yield from _through_av(path, name)
    else:
        yield from ffmpeg.blocks(path, name)


def _has_av() -> bool:
    return importlib.util.find_spec("av") is not None


def _through_av(path: Path, name: Path) -> Iterator[tuple[int, np.ndarray]]:
    av: Any = importlib.import_module("av")
    found, fault, damage = False, "", (av.FFmpegError, ValueError, EOFError)
    options = {"format_whitelist": ffmpeg.FORMATS}
    try:
        # By its number here too: FFmpeg would guess the format of one that has a name.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        with (
            open(handle, "rb") as file,
            av.open(file, metadata_errors="ignore", options=options) as container,
        ):
            if not container.streams.audio:
                raise AudioError(f"{name} has no sound in it; give a clip of a voice")
            stream, resampler = container.streams.audio[0], None
            rate, pending = 0, []
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except damage as error:
                    fault = fault or _words(error)
                    continue
                for frame in frames:
                    if resampler is None:  # the stream's header may state half of the rate
                        rate = frame.sample_rate
                        resampler = av.AudioResampler(format="flt", rate=rate)
                    pending += [_samples(part) for part in resampler.resample(frame)]
                if sum(map(len, pending)) >= BLOCK_SECONDS * rate > 0:
                    found = True
                    yield rate, np.concatenate(pending)
                    pending = []
            if pending:
                found = True
                yield rate, np.concatenate(pending)
    except damage as error:
        fault = fault or _words(error)
    if not found and fault:
        raise AudioError(f"{name} cannot be read as audio ({fault}); {_remedy(name)}")
    if not found:
        raise AudioError(f"{name} holds no samples; give another clip")
    if fault:
        _warn_damaged(name, fault)


def _warn_damaged(name: Path, fault: str) -> None:
    _log.warning(
        "%s is damaged (%s); what can be read of it is taken: export it again", name, fault
    )


def _samples(frame: Any) -> np.ndarray:
    """Interleaved float32 of PyAV as (N, C)."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def _remedy(name: Path) -> str:
    if name.suffix.lower() in HEADERLESS:
        return (
            "samples without a header say neither their rate nor their format; give a wav "
            "(ffmpeg -f s16le -ar 24000 -ac 1 -i FILE clip.wav makes one, if that is what they are)"
        )
    return "give a wav, flac, mp3, ogg or m4a file"


def _is_binary(path: Path) -> bool:
    """Whether a file is no text: text has no zero bytes and is valid UTF-8."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if b"\0" in head:
        return True
    try:
        head[: _HEAD - 4].decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _soundfile() -> Any:
    import soundfile

    return soundfile


def reason(error: BaseException) -> str:
    """The words of the system or of libsndfile, without the path."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
