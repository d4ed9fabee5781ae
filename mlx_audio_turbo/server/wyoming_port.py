"""The Wyoming protocol, by which Home Assistant speaks (extra ``wyoming``).

A connection sends ``describe``, ``synthesize`` with a whole text, or a text in pieces:
``synthesize-start``, ``synthesize-chunk`` and ``synthesize-stop``. Home Assistant sends the whole
text again as ``synthesize`` before the stop, for servers that do not know the pieces; that one is
not spoken. The protocol has no keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from queue import SimpleQueue
from typing import Any

from anyio import fail_after, move_on_after
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_read_event, async_write_event
from wyoming.info import Attribution, Describe, Info, TtsProgram, TtsVoice
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from ..audio.files import to_int16
from ..config import SAMPLE_RATE
from ..errors import TurboError
from . import errors
from .access import client_of_address
from .draining import Draining
from .errors import RequestError
from .guard import Clients
from .settings import ServerSettings
from .speaking import Speaking, next_chunk
from .speech_request import check_text, parse_session

_FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}


@asynccontextmanager
async def wyoming_port(
    host: str,
    port: int,
    *,
    speaking: Speaking,
    settings: ServerSettings,
    clients: Clients,
    draining: Draining,
) -> AsyncIterator[None]:
    """Listen for the time of the block, at most until the server ends.

    Speech that is under way at the end of the block is heard to its end.
    """
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, speaking, settings, clients, draining)
        full = len(tasks) >= settings.max_wyoming
        task = asyncio.ensure_future(connection.refuse() if full else connection.run())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def stop() -> None:
        await draining.begun.wait()
        listening.close()

    listening = await asyncio.start_server(begin, host, port)
    stopping = asyncio.ensure_future(stop())
    try:
        yield
        await draining.over()
    finally:
        stopping.cancel()
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Bounded:
    """A reader of events.

    Announced lengths are not believed without a limit, and what has begun must end in time.
    """

    def __init__(self, reader: asyncio.StreamReader, most: int, seconds: float):
        self._reader, self._most, self._seconds = reader, most, seconds

    async def readline(self) -> bytes:
        first = await self._reader.read(1)
        if first in (b"", b"\n"):
            return first
        with fail_after(self._seconds):
            return first + await self._reader.readline()  # at most 64 kB

    async def readexactly(self, count: int) -> bytes:
        if not 0 <= count <= self._most:
            raise ValueError(f"an event has {count} bytes")
        with fail_after(self._seconds):
            return await self._reader.readexactly(count)


class Connection:
    """One client."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        speaking: Speaking,
        settings: ServerSettings,
        clients: Clients,
        draining: Draining,
    ):
        self._clients, self._draining = clients, draining
        self._client = client_of_address((writer.get_extra_info("peername") or ("",))[0])
        self._reader: Any = _Bounded(reader, settings.max_json, settings.body_seconds)
        self._writer, self._speaking, self._settings = writer, speaking, settings
        self._work: asyncio.Task[None] | None = None
        self._text: SimpleQueue[str | None] | None = None
        self._characters, self._head = 0, ""

    async def run(self) -> None:
        """Answer events until the client leaves or makes a mistake."""
        try:
            with self._draining.connection():
                while (event := await self._next()) is not None:
                    await self._answer(event)
        except (RequestError, TurboError) as error:
            await self._fail(error)
        except (AttributeError, KeyError, TypeError):
            await self._fail(RequestError(400, "invalid_event", "the event lacks a field"))
        except (OSError, TimeoutError):
            return
        finally:
            self._end_text()
            if self._work is not None:
                self._work.cancel()
                await asyncio.gather(self._work, return_exceptions=True)
            self._writer.close()

    async def refuse(self) -> None:
        """Tell one client too many."""
        refusal = RequestError(429, "rate_limit_exceeded", "there are too many connections")
        await self._fail(refusal)
        self._writer.close()

    async def _next(self) -> Event | None:
        """The next event; None where none is to be waited for any more.

        A failure of the speech under way ends the wait. Once the server ends, so does the text:
        the speech is heard to its end, and nothing more is read.

        Raises:
            RequestError: the next piece of a text did not come in time, or the speech failed.
        """
        reading = asyncio.ensure_future(self._read())
        ending = asyncio.ensure_future(self._draining.begun.wait())
        try:
            while not reading.done():
                if ending.done():
                    self._end_text()
                    await self._settle(wait=True)
                    return None
                works = [self._work] if self._work is not None else []
                waits = self._work is None or self._text is not None  # for the client
                done, _ = await asyncio.wait(
                    [reading, ending, *works],
                    return_when=asyncio.FIRST_COMPLETED,
                    timeout=self._settings.text_seconds if waits else None,
                )
                if not done and self._text is not None:
                    raise RequestError(408, "text_too_slow", "the text did not come in time")
                if not done:
                    return None
                await self._settle()
            return reading.result()
        finally:
            reading.cancel()
            ending.cancel()

    async def _read(self) -> Event | None:
        try:
            return await async_read_event(self._reader)
        except (AttributeError, KeyError, TypeError, ValueError, asyncio.IncompleteReadError):
            return None  # no event of this protocol

    async def _settle(self, *, wait: bool = False) -> None:
        """Take the result of the speech under way if it has one.

        Raises:
            What stopped the speech.
        """
        if self._work is not None and (wait or self._work.done()):
            work, self._work = self._work, None
            await work

    async def _answer(self, event: Event) -> None:
        if Describe.is_type(event.type):
            await self._send(await self._info())
        elif SynthesizeStart.is_type(event.type):
            start = SynthesizeStart.from_event(event)
            self._end_text()
            await self._settle(wait=True)
            self._text, self._characters, self._head = SimpleQueue(), 0, ""
            pieces = iter(self._text.get, None)
            self._begin(pieces, start.voice, start.text_format, streamed=True)
        elif SynthesizeChunk.is_type(event.type):
            if self._text is not None:
                text = SynthesizeChunk.from_event(event).text
                self._check(text)
                self._text.put(text)
        elif SynthesizeStop.is_type(event.type):
            self._end_text()
        elif Synthesize.is_type(event.type) and self._text is None:
            whole = Synthesize.from_event(event)
            await self._settle(wait=True)
            self._characters, self._head = 0, ""
            self._check(whole.text)
            self._begin(whole.text, whole.voice, whole.text_format, streamed=False)

    def _check(self, text: Any) -> None:
        if not isinstance(text, str):
            raise RequestError(400, "invalid_text", "text is not a text")
        self._characters += len(text)
        self._head = (self._head + text)[:100]
        check_text(text, self._characters, self._settings, head=self._head, param="text")

    def _end_text(self) -> None:
        if self._text is not None:
            self._text.put(None)
            self._text = None

    def _begin(
        self, text: Iterable[str], voice: SynthesizeVoice | None, format: Any, *, streamed: bool
    ) -> None:
        if format not in (None, "text"):
            raise RequestError(400, "unsupported_markup", "the text is SSML; send plain text")
        values: dict[str, Any] = {"response_format": "pcm"}
        if voice is not None:
            values |= {"voice": voice.name, "language": voice.language}
        self._work = asyncio.ensure_future(self._speak(text, values, streamed))

    async def _speak(self, text: Iterable[str], values: Mapping[str, Any], streamed: bool) -> None:
        spec, samples, seconds = parse_session(values), 0, self._settings.request_seconds
        self._speaking.metrics.request("wyoming")
        with move_on_after(seconds) as limit:
            async with AsyncExitStack() as stack:
                stack.enter_context(self._clients.one_more(self._client))
                chunks = await self._speaking.chunks(spec, stack, text)
                await self._send(AudioStart(**_FORMAT))
                while (chunk := await next_chunk(chunks)) is not None:
                    samples += len(chunk.audio)
                    audio = to_int16(chunk.audio).astype("<i2").tobytes()
                    await self._send(AudioChunk(**_FORMAT, audio=audio))
        if limit.cancelled_caught:
            raise errors.timed_out(seconds)
        self._speaking.metrics.spoken(samples / SAMPLE_RATE)
        await self._send(AudioStop())
        if streamed:
            await self._send(SynthesizeStopped())

    async def _send(self, event: Eventable) -> None:
        with fail_after(self._settings.stalled_seconds):
            await async_write_event(event.event(), self._writer)

    async def _fail(self, error: RequestError | TurboError) -> None:
        """Say what is wrong; the client would wait for the rest of the audio otherwise."""
        told = error if isinstance(error, RequestError) else errors.refused(error)
        with suppress(OSError, TimeoutError), fail_after(1):
            await async_write_event(Error(told.message, told.code).event(), self._writer)

    async def _info(self) -> Info:
        names, languages = await self._speaking.known()
        attribution = Attribution("Resemble AI", "https://github.com/resemble-ai/chatterbox")
        common: dict[str, Any] = {
            "attribution": attribution,
            "installed": True,
            "version": None,
        }
        voices = [
            TtsVoice(name=name, description=name, languages=list(languages), **common)
            for name in names
        ]
        program = TtsProgram(
            name="mlx-audio-turbo",
            description="Chatterbox on MLX",
            voices=voices,
            supports_synthesize_streaming=True,
            **common,
        )
        return Info(tts=[program])
