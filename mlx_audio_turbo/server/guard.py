"""A route behind its guards: the key, and the requests that its client has at work already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from . import access
from .errors import RequestError
from .metrics import Metrics
from .settings import ServerSettings


class Clients:
    """The requests of each client at a time.

    Args:
        most: of one client; None for no limit.
    """

    def __init__(self, most: int | None):
        self._most = most
        self._busy: Counter[str] = Counter()

    @contextmanager
    def one_more(self, client: str) -> Iterator[None]:
        """Count a request for the time of the block.

        Raises:
            RequestError: the client has as many at work as it may have.
        """
        if self._most is not None and self._busy[client] >= self._most:
            raise RequestError(
                *(429, "concurrency_limit_exceeded"),
                f"{self._most} requests of this client are at work; wait until one has ended",
                headers={"Retry-After": "5"},
            )
        self._busy[client] += 1
        try:
            yield
        finally:
            self._busy[client] -= 1
            if not self._busy[client]:
                del self._busy[client]


class Guarded:
    """A route as an ASGI application, so that a request counts until its last byte is sent."""

    def __init__(
        self,
        path: str,
        handler: Callable[[Request], Awaitable[Response]],
        *,
        settings: ServerSettings,
        clients: Clients,
        metrics: Metrics,
    ):
        self._path, self._handler = path, handler
        self._settings, self._clients, self._metrics = settings, clients, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        client = access.check_key(request, self._settings)
        self._metrics.request(self._path)
        works = request.method == "POST"
        with self._clients.one_more(client) if works else nullcontext():
            response = await self._handler(request)
            await response(scope, receive, send)
