"""Samples → the bytes of one audio container, as they come."""

from __future__ import annotations

import importlib
import io
import struct
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from ..audio.files import to_int16
from ..errors import ExtraError

MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
"""The formats of OpenAI's API, and their media types."""
_CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mp3": ("mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}),
    "opus": ("ogg", "libopus", {"page_duration": "100000"}),
    "aac": ("adts", "aac", {}),
    "flac": ("flac", "flac", {}),
}
"""Container, codec and options of FFmpeg."""
_UNKNOWN = 0xFFFFFFFF
"""The length of a wav whose end is not known when it begins."""


class AudioStream(Protocol):
    """An encoder of one response."""

    def write(self, samples: np.ndarray) -> bytes:
        """The bytes that are ready after ``samples`` (N,) float32; maybe none."""
        ...

    def finish(self) -> bytes:
        """The remaining bytes."""
        ...


def audio_stream(format: str, sample_rate: int) -> AudioStream:
    """The encoder for a key of :data:`MEDIA_TYPES`.

    Raises:
        ExtraError: PyAV, which the format needs, is not installed.
    """
    if format == "pcm":
        return _Pcm()
    if format == "wav":
        return _Wav(sample_rate)
    return _Encoded(format, sample_rate)


def import_encoders() -> None:
    """Import PyAV, if it is installed: for a thread, as it takes a while.

    Encoders are made on one thread all the same. The C library gives each thread memory of its
    own, and that of an encoder would stay with each of many.
    """
    with suppress(ImportError):
        importlib.import_module("av")


class _Pcm:
    def write(self, samples: np.ndarray) -> bytes:
        return to_int16(samples).astype("<i2").tobytes()

    def finish(self) -> bytes:
        return b""


class _Wav(_Pcm):
    def __init__(self, sample_rate: int):
        self._header: bytes | None = struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            *(b"RIFF", _UNKNOWN, b"WAVE", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16),
            *(b"data", _UNKNOWN),
        )

    def write(self, samples: np.ndarray) -> bytes:
        header, self._header = self._header or b"", None
        return header + super().write(samples)

    def finish(self) -> bytes:
        return self._header or b""


class _Sink(io.RawIOBase):
    """Takes what the muxer writes; it cannot seek, so that nothing is written twice."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += data
        return len(data)

    def take(self) -> bytes:
        content = bytes(self.content)
        self.content.clear()
        return content


class _Encoded:
    def __init__(self, format: str, sample_rate: int):
        try:
            self._av: Any = importlib.import_module("av")
        except ImportError:
            raise ExtraError(
                f"{format} needs PyAV; install mlx-audio-turbo[server], or ask for wav or pcm"
            ) from None
        container, codec, options = _CODECS[format]
        self._sink, self._rate, self._position = _Sink(), sample_rate, 0
        self._out: Any = self._av.open(self._sink, "w", format=container, options=options)
        self._stream: Any = self._out.add_stream(codec, rate=sample_rate)
        self._stream.layout = "mono"
        self._fifo: Any = self._av.AudioFifo()

    def write(self, samples: np.ndarray) -> bytes:
        if len(samples):
            frame = self._av.AudioFrame.from_ndarray(to_int16(samples)[None], "s16", "mono")
            frame.sample_rate, frame.pts = self._rate, self._position
            self._position += len(samples)
            for packet in self._stream.encode(frame):
                self._out.mux(packet)
        return self._sink.take()

    def finish(self) -> bytes:
        for packet in self._stream.encode(None):
            self._out.mux(packet)
        self._out.close()
        return self._sink.take()
