"""Places for requests: so many at a time, a bounded queue behind them, and a refusal after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .errors import RequestError


class Admission:
    """A bounded queue of requests.

    Args:
        active: places; waiting: requests that may wait for one.
    """

    def __init__(self, active: int, waiting: int):
        self._places = asyncio.Semaphore(active)
        self._limit = waiting
        self.active = self.waiting = 0
        self.draining = False

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for the time of the block.

        Raises:
            RequestError: the queue is full, or the server is shutting down.
        """
        if self.draining:
            raise RequestError(503, "shutting_down", "the server is shutting down; try another one")
        if self._places.locked() and self.waiting >= self._limit:
            raise RequestError(
                *(429, "rate_limit_exceeded"),
                "too many requests are waiting; try again later",
                headers={"Retry-After": "5"},
            )
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._places.release()
