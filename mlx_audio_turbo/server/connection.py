"""A connection of uvicorn with limits on time, and with refusals in the form of OpenAI's API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import errors
from .draining import GRACE, Draining
from .settings import ServerSettings


def uvicorn_config(app: Starlette, *, host: str, port: int, log_level: str) -> uvicorn.Config:
    """uvicorn's configuration for an application of ``create_app``."""
    settings: ServerSettings = app.state.server.settings

    class Limited(Connection):
        header_seconds, stalled_seconds = settings.header_seconds, settings.stalled_seconds

    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level=log_level,
        http=Limited,
        ws_max_size=settings.max_json,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(GRACE),
    )


class SpeechServer(uvicorn.Server):
    """uvicorn, which lets WebSockets and Home Assistant hear the rest before it closes them.

    Args:
        config: of :func:`uvicorn_config`.
        draining: that of the application.
    """

    def __init__(self, config: uvicorn.Config, draining: Draining):
        super().__init__(config)
        self._draining = draining

    async def shutdown(self, sockets: Any = None) -> None:
        """End, within the time that listeners may hear the rest."""
        for each in self.servers:
            each.close()
        self._draining.begin()
        await self._draining.over(lambda: self.force_exit)
        self.config.timeout_graceful_shutdown = max(1, round(self._draining.seconds))
        await super().shutdown(sockets)


class Connection(H11Protocol):
    """HTTP/1.1, for one client.

    header_seconds: in which the head of a request must arrive.
    stalled_seconds: after which a client that takes no more bytes is cut off.
    """

    header_seconds: float
    stalled_seconds: float
    _header_timer: asyncio.TimerHandle | None = None
    _stalled_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the head of the first request."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        super().connection_lost(exc)
        self._cancel_timers()

    def pause_writing(self) -> None:
        """Wait for a client who does not read."""
        super().pause_writing()
        if self._stalled_timer is None:
            self._stalled_timer = self.loop.call_later(self.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with a client who reads again."""
        super().resume_writing()
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, "invalid_http", "this is no valid HTTP request, or its head is too large")

    def _watch_head(self) -> None:
        upgraded = self.transport.get_protocol() is not self
        answering = self.cycle is not None and not self.cycle.response_complete
        if upgraded or answering or self.transport.is_closing():
            self._cancel_timers()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_seconds, self._head_too_slow)

    def _head_too_slow(self) -> None:
        self._header_timer = None
        if self.timeout_keep_alive_task is not None or self.transport.is_closing():
            return  # between two requests, which uvicorn times itself
        self._refuse(408, "head_too_slow", "the head of the request did not arrive in time")

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # an answer is under way
            return
        content = json.dumps(errors.body(code, message, status=status)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _cancel_timers(self) -> None:
        for timer in (self._header_timer, self._stalled_timer):
            if timer is not None:
                timer.cancel()
        self._header_timer = self._stalled_timer = None
