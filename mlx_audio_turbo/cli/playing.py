"""The sound card, through sounddevice (extra ``play``)."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import ExtraError


class Player:
    """Plays what it is given while more is made; leaving it waits for the end."""

    def __init__(self, sample_rate: int):
        self._stream = _open(sample_rate)
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._play, daemon=True)

    def play(self, audio: np.ndarray) -> None:
        """Put ``audio`` (samples,) float32 behind what waits."""
        if self._error is not None:
            raise self._error
        self._queue.put(audio)

    def __enter__(self) -> Player:
        self._stream.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._queue.put(None)
        if error is None:
            self._thread.join()
            if self._error is not None:
                raise self._error
        self._stream.close()

    def _play(self) -> None:
        while (audio := self._queue.get()) is not None:
            try:
                self._stream.write(np.ascontiguousarray(audio[:, None]))
            except Exception as error:  # PortAudio's own class, known only where it is installed
                self._error = ExtraError(f"the sound card stopped ({error})")
                return
        self._stream.stop()


def _open(sample_rate: int) -> Any:
    try:
        import sounddevice
    except ImportError:
        raise ExtraError(
            "playing needs sounddevice; install it with: pip install 'mlx-audio-turbo[play]'"
        ) from None
    except OSError as error:
        raise ExtraError(
            f"playing needs PortAudio ({error}); install it with: sudo apt install libportaudio2"
        ) from None
    try:
        return sounddevice.OutputStream(samplerate=sample_rate, channels=1, dtype="float32")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise ExtraError(f"no sound card can be opened ({error}); use --output instead") from None
