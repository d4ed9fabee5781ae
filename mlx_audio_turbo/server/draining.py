"""The end of a server: nothing new is begun, and what is heard is heard to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE = 30.0
"""Seconds in which listeners may hear the rest."""


class Draining:
    """Whether the server is ending, and how many connections end by themselves.

    begun: set once it is.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._deadline = float("inf")
        self._connections = 0

    def begin(self) -> None:
        """Tell all connections, unless they were told."""
        if not self.begun.is_set():
            self._deadline = time.monotonic() + GRACE
            self.begun.set()

    @property
    def seconds(self) -> float:
        """What is left of the time to hear the rest."""
        return max(0.0, self._deadline - time.monotonic())

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Count a connection that ends by itself, for the time of the block."""
        self._connections += 1
        try:
            yield
        finally:
            self._connections -= 1

    async def over(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Wait until these have ended, until their time is over or ``hurry`` gives True."""
        while self._connections and self.seconds and not hurry():
            await asyncio.sleep(0.05)
