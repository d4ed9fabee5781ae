"""Who may ask, and how much: names and origins, the key, the size and speed of a body, ids."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import uuid
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from anyio import CancelScope, fail_after
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import errors
from .errors import RequestError
from .settings import ServerSettings

T = TypeVar("T")
_DENIAL = "websocket.http.response"
"""The extension of ASGI by which a handshake is refused with an answer."""
MAX_HEAD = 16_384
"""Bytes of the path and the headers of a request."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]\\]+)(?::\d{1,5})?", re.ASCII)
_JSON = re.compile(
    r"(application/(json|x-www-form-urlencoded|[\w.+-]+\+json)|text/plain)\s*(;.*)?", re.I
)
"""Content types of a JSON body; curl sends a form's, and some clients none or plain text."""


def check_key(
    request: HTTPConnection, settings: ServerSettings, *, beside: str | None = None
) -> str:
    """Compare the key of a request in constant time; gives the client whose requests are counted.

    Args:
        beside: a key that came otherwise than in the header.

    Raises:
        RequestError: a key is asked for, and the request has another or none.
    """
    if not settings.api_keys:
        return client_of_address(request.client.host if request.client else "")
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if beside is not None:
        kind, given = "bearer", beside
    right = [hmac.compare_digest(given.encode(), key.encode()) for key in settings.api_keys]
    if kind.lower() != "bearer" or not any(right):
        raise RequestError(
            *(401, "invalid_api_key"),
            "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return f"key {right.index(True)}"


def client_of_address(host: str) -> str:
    """The client behind an address: one of IPv6 has a network of 64 bits to itself."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4 or address.ipv4_mapped is not None:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


async def read_json(request: Request, settings: ServerSettings) -> bytes:
    """The body of a request that is to be JSON.

    Raises:
        RequestError: it is too large or too slow, or said to be of another type.
    """
    kind = request.headers.get("content-type", "")
    if kind.strip() and not _JSON.fullmatch(kind.strip()):
        raise RequestError(
            *(415, "unsupported_media_type"),
            "the body is not said to be JSON; send Content-Type: application/json",
        )
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RequestError(
            *(415, "unsupported_encoding"), "compressed bodies are not read; send it as it is"
        )
    return await read_body(request, settings, limit=min(settings.max_json, settings.max_body))


async def read_body(
    request: Request, settings: ServerSettings, *, limit: int | None = None
) -> bytes:
    """The body of a request, counted as it arrives.

    Args:
        limit: bytes; by default those of an upload.

    Raises:
        RequestError: it is too large or too slow, or the client left.
    """
    limit = settings.max_body if limit is None else limit
    close = {"Connection": "close"}  # the rest of the body is not read
    too_large = RequestError(
        413, "body_too_large", f"the body has over {limit} bytes", headers=close
    )
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    content = bytearray()
    try:
        with fail_after(settings.body_seconds):
            async for part in request.stream():
                content += part
                if len(content) > limit:
                    raise too_large
    except TimeoutError:
        raise RequestError(
            408, "body_too_slow", "the body did not arrive in time", headers=close
        ) from None
    except ClientDisconnect:
        raise RequestError(400, "body_incomplete", "the body did not arrive whole") from None
    return bytes(content)


async def while_listening(request: Request, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of ``work``, which is cancelled where the client leaves before.

    Raises:
        RequestError: the client left; nobody reads the answer.
    """

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work()), asyncio.ensure_future(leave())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RequestError(400, "client_left", "the client left")
    finally:
        for task in (working, leaving):
            task.cancel()
        with CancelScope(shield=True):  # a request whose time is over would not wait
            await asyncio.gather(working, leaving, return_exceptions=True)


class Gate:
    """Answers to the server's own names only, and to no page of another origin.

    Without the check of ``Host`` a page could reach the server under a name of its own (DNS
    rebinding). A page of another origin can send forms without being able to read the answer.

    Args:
        hosts: names, or ``*`` for any.
        origins: of pages that may ask, beside those of the server itself; or ``*`` for any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str] = ()):
        self._app, self._hosts, self._origins = app, hosts, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] in ("http", "websocket"):
            refusal = _malformed(scope) or self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket" and _DENIAL not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.message})
        else:
            content = errors.body(refusal.code, refusal.message, status=refusal.status)
            await JSONResponse(content, refusal.status, refusal.headers)(scope, receive, send)

    def _refusal(self, headers: Headers) -> RequestError | None:
        hosts = [each.lower() for each in headers.getlist("host")]
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None or not ("*" in self._hosts or found[1] in self._hosts):
            return RequestError(
                *(400, "invalid_host"),
                "the Host header names another server; --allow_host adds a name",
            )
        for origin in headers.getlist("origin"):
            own = origin.lower() in (f"http://{hosts[0]}", f"https://{hosts[0]}")
            if not own and origin not in self._origins and "*" not in self._origins:
                return RequestError(
                    *(403, "forbidden_origin"),
                    "pages of another origin may not ask; --allow_origin adds one",
                )
        return None


def _malformed(scope: Scope) -> RequestError | None:
    """What the parser lets through, and no client of good will sends."""
    close = {"Connection": "close"}
    headers = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if size + len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_HEAD:
        return RequestError(
            *(431, "head_too_large"),
            f"the head of the request has over {MAX_HEAD} bytes",
            headers=close,
        )
    if scope["http_version"] not in ("1.0", "1.1", "2", "3"):
        return RequestError(400, "invalid_http", "this version of HTTP is not known", headers=close)
    lengths = {name for name, _ in headers} & {b"content-length", b"transfer-encoding"}
    if len(lengths) > 1:  # a proxy may see another end than we do
        return RequestError(400, "invalid_http", "the body has two kinds of length", headers=close)
    return None


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
