"""``/v1/audio/speech/stream``: a WebSocket that speaks a text while it is written.

The client sends ``session.update`` with the fields of a speech request, if it wants any, then
``input.text`` as often as it likes, and ``input.done``. A sentence is spoken as soon as it is
whole. The answers are the events of ``stream_format: sse``, or binary frames where the session
asks for ``stream_format: audio``; then ``speech.audio.done``, and the server closes. A server that
ends speaks the text that it has, takes no more, and closes with :data:`GOING_AWAY`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack
from queue import SimpleQueue
from typing import Any

from anyio import CancelScope, fail_after, move_on_after, to_thread
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..config import SAMPLE_RATE
from ..errors import TextError, TurboError
from . import access, answers, errors
from .audio_stream import audio_stream, import_encoders
from .draining import Draining
from .errors import RequestError
from .guard import Clients
from .settings import ServerSettings
from .speaking import Speaking, next_chunk
from .speech_request import SpeechRequest, check_text, parse_json, parse_session

DEFAULTS: Mapping[str, str] = {"response_format": "pcm", "stream_format": "sse"}
"""What a session has that does not say otherwise: what plays with the least delay."""
PROTOCOL = "realtime"
"""The subprotocol of OpenAI's sockets, which pages name to send their key beside it."""
_KEY = "openai-insecure-api-key."
GOING_AWAY = 1001
"""The code of a connection that is closed before its text has ended, as the server ends."""
_HEAD = 100
"""Characters in which a text shows that it is markup."""


class TextSocket:
    """One connection."""

    def __init__(
        self,
        socket: WebSocket,
        speaking: Speaking,
        settings: ServerSettings,
        clients: Clients,
        draining: Draining,
    ):
        self._socket, self._speaking = socket, speaking
        self._settings, self._clients, self._draining = settings, clients, draining
        self._text: SimpleQueue[str | None] = SimpleQueue()
        self._characters, self._head, self._done = 0, "", False
        self._cut = False  # whether the end of the server ended the text

    async def run(self) -> None:
        """Answer the client until the text is spoken, or either side gives up."""
        offered: list[str] = self._socket.scope.get("subprotocols", [])
        key = next((each.removeprefix(_KEY) for each in offered if each.startswith(_KEY)), None)
        with ExitStack() as counted:
            try:
                client = access.check_key(self._socket, self._settings, beside=key)
                counted.enter_context(self._clients.one_more(client))
            except RequestError as error:
                await self._deny(error)
                return
            await self._socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
            await self._answer()

    async def _answer(self) -> None:
        seconds = self._settings.request_seconds
        try:
            with move_on_after(seconds) as limit:
                await _until_first(self._talk(), self._leave())
            if limit.cancelled_caught:
                raise errors.timed_out(seconds)
            await self._socket.close(GOING_AWAY if self._cut else 1000)
        except WebSocketDisconnect:
            return
        except RequestError as error:
            await self._fail(error)
        except TurboError as error:
            await self._fail(errors.refused(error))

    async def _talk(self) -> None:
        spec = await self._session()
        try:
            await _until_first(self._read(), self._speak(spec))
        except TextError:
            if not self._cut:  # else there was no word yet
                raise

    async def _leave(self) -> None:
        """Once the server ends: end the text where it is. Returns where nobody waits for audio."""
        await self._draining.begun.wait()
        self._cut = not self._done
        if self._characters:
            self._text.put(None)
            await asyncio.Event().wait()

    async def _session(self) -> SpeechRequest:
        """The settings. The first message that has none is the first of the text."""
        spec = parse_session(DEFAULTS)
        while True:
            message = await self._message()
            if message.get("type") != "session.update":
                self._take(message)
                return spec
            given = message.get("session")
            if not isinstance(given, Mapping):
                raise RequestError(
                    400, "invalid_session", "session is no object with settings", param="session"
                )
            spec = parse_session({**DEFAULTS, **{k: v for k, v in given.items() if v is not None}})
            await self._send({"type": "session.updated", "session": dict(given)})

    async def _read(self) -> None:
        """Take text; ends only with an error, such as that of a client who leaves."""
        while True:
            message = await self._message()
            if self._cut and message.get("type") == "input.text":
                await self._refuse(errors.shutting_down())
            else:
                self._take(message)

    def _take(self, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        if self._done or kind not in ("input.text", "input.done"):
            raise RequestError(
                *(400, "unexpected_message"),
                "the message is not expected here; send session.update first, then input.text, "
                "then input.done",
                param="type",
            )
        if kind == "input.done":
            self._done = True
            self._text.put(None)
            return
        text = message.get("text")
        if not isinstance(text, str):
            raise RequestError(400, "invalid_text", "text is not a text", param="text")
        self._characters += len(text)
        self._head = (self._head + text)[:_HEAD] if len(self._head) < _HEAD else self._head
        check_text(text, self._characters, self._settings, head=self._head, param="text")
        if text:
            self._text.put(text)

    async def _speak(self, spec: SpeechRequest) -> None:
        samples, tokens = 0, 0
        async with AsyncExitStack() as stack:
            stack.callback(self._text.put, None)  # ends the thread that waits for text
            chunks = await self._speaking.chunks(spec, stack, iter(self._text.get, None))
            await to_thread.run_sync(import_encoders)
            encoder = audio_stream(spec.format, SAMPLE_RATE)
            while (chunk := await next_chunk(chunks)) is not None:
                samples, tokens = samples + len(chunk.audio), tokens + len(chunk.tokens)
                await self._audio(spec, await to_thread.run_sync(encoder.write, chunk.audio))
            await self._audio(spec, await to_thread.run_sync(encoder.finish))
        self._speaking.metrics.spoken(samples / SAMPLE_RATE)
        await self._send(answers.done(self._characters, tokens))

    async def _audio(self, spec: SpeechRequest, content: bytes) -> None:
        if content:
            await self._send(answers.delta(content) if spec.events else content)

    async def _send(self, content: bytes | Mapping[str, Any]) -> None:
        """Send binary or JSON, in the time that a slow reader has."""
        try:
            with fail_after(self._settings.stalled_seconds):
                if isinstance(content, bytes):
                    await self._socket.send_bytes(content)
                else:
                    await self._socket.send_text(json.dumps(content))
        except TimeoutError:
            raise RequestError(
                408, "listener_stalled", "the listener takes no more audio"
            ) from None

    async def _message(self) -> dict[str, Any]:
        try:
            with fail_after(None if self._done else self._settings.text_seconds):
                message = await self._socket.receive()
        except TimeoutError:
            raise RequestError(408, "text_too_slow", "the text did not come in time") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        return parse_json(text.encode() if text is not None else message.get("bytes") or b"")

    async def _deny(self, error: RequestError) -> None:
        """Refuse the connection with an HTTP answer, where the server can send one."""
        content = errors.body(error.code, error.message, status=error.status, param=error.param)
        if "websocket.http.response" in self._socket.scope.get("extensions", {}):
            answer = JSONResponse(content, error.status, headers=error.headers)
            await self._socket.send_denial_response(answer)
        else:
            await self._socket.close(1008)

    async def _refuse(self, error: RequestError) -> None:
        """Say what is wrong."""
        content = errors.body(error.code, error.message, status=error.status, param=error.param)
        await self._send({"type": "error", **content})

    async def _fail(self, error: RequestError) -> None:
        """Say what is wrong and close. A listener who takes nothing is not waited for."""
        busy = error.status in (429, 503)
        code = 1013 if busy else 1008 if error.status < 500 else 1011
        with move_on_after(1):
            try:
                await self._refuse(error)
                await self._socket.close(code, error.code)
            except WebSocketDisconnect:
                return


async def _until_first(*works: Coroutine[Any, Any, None]) -> None:
    """Run until the first of ``works`` ends, and cancel the others; raises what that one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        with CancelScope(shield=True):  # a connection whose time is over would not wait
            await asyncio.gather(*tasks, return_exceptions=True)
