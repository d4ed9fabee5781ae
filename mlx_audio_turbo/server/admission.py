"""Places for requests: so many at a time, a bounded queue behind them, and a refusal after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import fail_after

from . import errors
from .draining import Draining
from .errors import RequestError


class Admission:
    """A bounded queue of requests.

    Args:
        active: places; waiting: requests that may wait for one.
        seconds: that a request waits.
        draining: once it has begun, no request is taken.
    """

    def __init__(self, active: int, waiting: int, seconds: float, draining: Draining):
        self._places = asyncio.Semaphore(active)
        self._limit, self._seconds, self._draining = waiting, seconds, draining
        self.active = self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for the time of the block.

        Raises:
            RequestError: the queue is full or too slow, or the server is shutting down.
        """
        if self._draining.begun.is_set():
            raise errors.shutting_down()
        if self._places.locked() and self.waiting >= self._limit:
            raise RequestError(
                *(429, "rate_limit_exceeded"),
                "too many requests are waiting; try again later",
                headers={"Retry-After": "5"},
            )
        self.waiting += 1
        try:
            with fail_after(self._seconds):
                await self._places.acquire()
        except TimeoutError:
            raise RequestError(
                *(503, "queue_timeout"),
                f"no place became free in {self._seconds:g} s; try again later",
                headers={"Retry-After": "5"},
            ) from None
        finally:
            self.waiting -= 1
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._places.release()
