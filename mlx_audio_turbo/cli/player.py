"""The sound card, through sounddevice (extra ``play``)."""

from __future__ import annotations

import queue
import sys
import threading
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import ExtraError

_INSTALL = (
    "brew install portaudio" if sys.platform == "darwin" else "sudo apt install libportaudio2"
)
_READY = 0.2
"""Seconds of audio in the card's buffer. With less, a busy machine makes it crackle."""
_PIECE = 0.05
"""Seconds that are written to the card at a time."""


class Player:
    """Plays audio while more is made; leaving the context waits for the end."""

    def __init__(self, sample_rate: int):
        self._stream = _open(sample_rate)
        self._sample_rate = sample_rate
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue()
        self._error: Exception | None = None
        self._halted = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def play(self, audio: np.ndarray) -> None:
        """Queue ``audio`` (samples,) float32."""
        if self._error is not None:
            raise self._error
        self._queue.put(audio)

    def __enter__(self) -> Player:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._queue.put(None)
        if error is not None:
            self._halted.set()
        # PortAudio crashes where a stream is closed while a thread writes to it.
        self._thread.join()
        self._stream.close()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._play()
        except Exception as error:  # PortAudio's own class, known only where it is installed
            self._error = ExtraError(f"the sound card stopped ({error})")

    def _play(self) -> None:
        audio = self._queue.get()
        if audio is None:
            return
        # Started with the first audio, because an empty stream reports underruns.
        self._stream.start()
        while audio is not None:
            self._write(audio)
            try:
                audio = self._queue.get(timeout=_PIECE)
            except queue.Empty:
                audio = self._silence(_PIECE)
        # Some systems drop the end of the buffer, so it ends with silence.
        self._write(self._silence(1.5 * _READY))
        self._stream.stop()

    def _write(self, audio: np.ndarray) -> None:
        piece = round(_PIECE * self._sample_rate)
        for start in range(0, len(audio), piece):
            if self._halted.is_set():
                return
            self._stream.write(np.ascontiguousarray(audio[start : start + piece, None]))

    def _silence(self, seconds: float) -> np.ndarray:
        return np.zeros(round(seconds * self._sample_rate), np.float32)


def _open(sample_rate: int) -> Any:
    try:
        import sounddevice
    except ImportError:
        raise ExtraError(
            "playing needs sounddevice; install it with: pip install 'mlx-audio-turbo[play]'"
        ) from None
    except OSError as error:
        raise ExtraError(
            f"playing needs PortAudio ({error}); install it with: {_INSTALL}"
        ) from None
    try:
        return sounddevice.OutputStream(
            samplerate=sample_rate, channels=1, dtype="float32", latency=_READY
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        reason = error if len(sounddevice.query_devices()) else "there is none"
        raise ExtraError(f"no sound card can be opened ({reason}); use --output instead") from None
