"""Text as it comes, from the thread that has it to the engine's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import mlx.core as mx

from ..errors import TextError
from ..text.incoming import Incoming
from ..text.segments import Segment
from ..voice import Voice
from .tasks import Task

AHEAD = 8
"""Segments that wait for the engine before no more text is taken."""
_AFTER = 2**31
"""Sorts the pause after a segment behind the parts of the segment."""


class TextFeed:
    """The segments of one text that is not known whole.

    error: what ended the text early.

    Args:
        limit: characters of a segment.
    """

    def __init__(self, limit: int):
        self._incoming = Incoming(limit)
        self._segments: deque[Segment] = deque()
        self._changed = threading.Condition()
        self._over = self._closed = False
        self._wake: Callable[[], object] = lambda: None
        self.error: BaseException | None = None

    def start(self, pieces: Iterable[str], wake: Callable[[], object]) -> None:
        """Take the text from ``pieces``, in a thread of its own.

        Args:
            wake: called when the engine has something to do.
        """
        self._wake = wake
        thread = threading.Thread(
            target=self._read, args=(pieces,), name="mlx_audio_turbo_text", daemon=True
        )
        thread.start()

    @property
    def pending(self) -> bool:
        """Whether the next segment has not come yet."""
        return not self._segments and not self._over

    def tasks(self, voice: Voice, seed: int) -> Iterator[Task]:
        """A task for each segment; the engine takes one only where none is pending."""
        key, position = mx.random.key(seed), 0
        while True:
            with self._changed:
                if not self._segments:
                    return
                segment = self._segments.popleft()
                self._changed.notify_all()
            path = (position,) if segment.text else (position - 1, _AFTER)
            position += bool(segment.text)
            yield Task(0, path, segment, voice, key)

    def close(self) -> None:
        """Take no more text, which closes its iterator after the next piece."""
        with self._changed:
            self._closed = self._over = True
            self._changed.notify_all()

    def _read(self, pieces: Iterable[str]) -> None:
        iterator: Iterator[str] | None = None
        try:
            iterator = iter(pieces)
            for piece in iterator:
                if not isinstance(piece, str):
                    raise TextError(f"a piece of the text is a {type(piece).__name__}; give str")
                if not self._add(self._incoming.push(piece)):
                    break
            else:
                self._add(self._incoming.finish())
        except BaseException as error:  # raised again by the stream
            self.error = error
        finally:
            with self._changed:
                self._over = True
            self._wake()
            if self._closed and (close := getattr(iterator, "close", None)) is not None:
                close()

    def _add(self, segments: Iterator[Segment]) -> bool:
        """Hand over segments; gives False once the feed is closed."""
        for segment in segments:
            with self._changed:
                while len(self._segments) >= AHEAD and not self._closed:
                    self._changed.wait()
                self._segments.append(segment)
            self._wake()
        return not self._closed
