"""A route behind its guards: the key, the requests that its client has at work, and the time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext

from anyio import move_on_after
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import TurboError
from . import access, answers, errors
from .errors import RequestError
from .metrics import Metrics
from .settings import ServerSettings

log = logging.getLogger("mlx_audio_turbo")


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
            await self._answer(request, send)

    async def _answer(self, request: Request, send: Send) -> None:
        """Send the answer in the time that a request has.

        What fails once the answer has begun is told where the answer is events. Otherwise the
        connection breaks, so that nobody takes a part of the audio for the whole.

        Raises:
            RequestError: the request fails before its answer has begun.
            TurboError: likewise.
        """
        begun: Message | None = None
        failure: RequestError | None = None

        async def note(message: Message) -> None:
            nonlocal begun
            begun = begun or message
            await send(message)

        seconds = self._settings.request_seconds
        try:
            with move_on_after(seconds) as limit:
                response = await self._handler(request)
                await response(request.scope, request.receive, note)
            if limit.cancelled_caught:
                raise errors.timed_out(seconds)
        except (RequestError, TurboError) as error:
            if begun is None:
                raise
            failure = error if isinstance(error, RequestError) else errors.refused(error)
            log.warning("an answer of %s is broken off: %s", self._path, error)
        if failure is not None and begun is not None:
            kind = Headers(raw=begun["headers"]).get("content-type", "")
            if kind.startswith("text/event-stream"):
                with move_on_after(1):
                    await send({"type": "http.response.body", "body": _event(failure)})


def _event(error: RequestError) -> bytes:
    """The last event of an answer that fails."""
    content = errors.body(error.code, error.message, status=error.status, param=error.param)
    return answers.sent({"type": "error", **content})
