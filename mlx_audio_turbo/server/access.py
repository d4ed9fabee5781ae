"""Who may ask, and how much: the key, the size and the speed of a body, request ids."""

from __future__ import annotations

import hmac
import uuid

from anyio import fail_after
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import RequestError
from .settings import ServerSettings


def check_key(request: Request, settings: ServerSettings) -> None:
    """Compare the key of a request in constant time.

    Raises:
        RequestError: a key is asked for, and the request has another or none.
    """
    if settings.api_key is None:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.encode(), settings.api_key.encode())
    if kind.lower() != "bearer" or not right:
        raise RequestError(
            *(401, "invalid_api_key"),
            "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'",
            headers={"WWW-Authenticate": "Bearer"},
        )


async def read_body(request: Request, settings: ServerSettings) -> bytes:
    """The body of a request, counted as it arrives.

    Raises:
        RequestError: it is too large, or too slow.
    """
    content = bytearray()
    try:
        with fail_after(settings.body_seconds):
            async for part in request.stream():
                content += part
                if len(content) > settings.max_body:
                    raise RequestError(
                        *(413, "body_too_large"), f"the body has over {settings.max_body} bytes"
                    )
    except TimeoutError:
        raise RequestError(408, "body_too_slow", "the body did not arrive in time") from None
    return bytes(content)


class RequestIds:
    """Gives every response an ``x-request-id``."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = f"req_{uuid.uuid4().hex}".encode()

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identity)]
            await send(message)

        await self._app(scope, receive, with_id)
