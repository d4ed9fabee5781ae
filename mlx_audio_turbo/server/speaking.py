"""Speech as it is made: the chunks of a request, from the queue to the listener."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from anyio import to_thread
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..audio.files import load_whole
from ..config import ENCODER_SAMPLE_RATE, SAMPLE_RATE
from ..errors import VoiceError
from ..models.base import Model
from ..models.voice_conversion import VoiceConverter
from ..options import RUN_OPTIONS
from ..speech import AudioChunk
from ..voice import Voice
from ..voice_library import VoiceLibrary
from . import answers
from .admission import Admission
from .audio_stream import MEDIA_TYPES, AudioStream, audio_stream, import_encoders
from .errors import RequestError
from .forms import as_file
from .metrics import Metrics
from .pool import ModelPool
from .settings import OPENAI_VOICES, ServerSettings
from .speech_request import SpeechRequest, model_options
from .steady import SteadyChunks


async def next_chunk(chunks: Any) -> AudioChunk | None:
    """The next chunk of a stream; None at its end. Closing the stream ends the thread's wait."""
    return await to_thread.run_sync(next, chunks, None, abandon_on_cancel=True)


class _Streamed(StreamingResponse):
    """A response that frees what it holds, also where its body is never begun."""

    def __init__(self, stack: AsyncExitStack, body: AsyncIterator[bytes], **options: Any):
        super().__init__(body, **options)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


class Speaking:
    """What every route that speaks needs."""

    def __init__(
        self,
        pool: ModelPool,
        library: VoiceLibrary,
        settings: ServerSettings,
        admission: Admission,
        metrics: Metrics,
    ):
        self._pool, self._library, self._settings = pool, library, settings
        self._admission, self.metrics = admission, metrics
        self._converters: WeakKeyDictionary[Model, VoiceConverter] = WeakKeyDictionary()
        self._steady = SteadyChunks()

    async def warm_up(self) -> None:
        """Load the first model, and speak a word in the voice that it has where none is named.

        What is imported, compiled and computed once holds up the first listener otherwise, and with
        the interpreter's lock everybody else.
        """
        await to_thread.run_sync(import_encoders)
        model: Any = await self._pool.get(None)
        try:
            voice = await self.voice(model, None)
        except RequestError:
            return
        if self._settings.steady:
            await to_thread.run_sync(self._steady.of, model, voice)
        await to_thread.run_sync(lambda: model.generate("Hello.", voice=voice, seed=0))

    async def answer(self, spec: SpeechRequest, stack: AsyncExitStack) -> Response:
        """The answer once the first audio is there: what goes wrong before has a status."""
        started = time.monotonic()
        return await self._streamed(spec, await self.chunks(spec, stack), stack, started)

    async def conversion(
        self, spec: SpeechRequest, recording: bytes, stack: AsyncExitStack
    ) -> Response:
        """The answer with a recording in another voice, as :meth:`answer` gives one."""
        started = time.monotonic()
        await stack.enter_async_context(self._admission.place())
        model = await stack.enter_async_context(self._pool.lease(spec.model))
        voice = await self.voice(model, spec.voice)
        if model not in self._converters:
            self._converters[model] = VoiceConverter.of(model)
        converter = self._converters[model]
        longest = self._settings.max_source_seconds

        def start() -> Any:
            rate, seed = ENCODER_SAMPLE_RATE, spec.options.get("seed")
            with as_file(recording) as path:
                source = load_whole(path, sample_rate=rate, longest=longest)
            return converter.stream(source, sample_rate=rate, voice=voice, seed=seed)

        chunks = await to_thread.run_sync(start)
        stack.callback(chunks.close)
        return await self._streamed(spec, chunks, stack, started)

    async def _streamed(
        self, spec: SpeechRequest, chunks: Any, stack: AsyncExitStack, started: float
    ) -> Response:
        first = await next_chunk(chunks)
        if first is not None:
            self.metrics.first_audio(time.monotonic() - started)
        await to_thread.run_sync(import_encoders)
        encoder = audio_stream(spec.format, SAMPLE_RATE)
        body = self._body(first, chunks, encoder, spec, started)
        media = "text/event-stream" if spec.events else MEDIA_TYPES[spec.format]
        return _Streamed(stack, body, media_type=media, headers={"Cache-Control": "no-store"})

    async def chunks(
        self,
        spec: SpeechRequest,
        stack: AsyncExitStack,
        text: Iterable[str] | None = None,
    ) -> Any:
        """The audio of a request; ``stack`` holds its place and its model until it is closed.

        Args:
            text: in pieces, in place of the request's own.
        """
        await stack.enter_async_context(self._admission.place())
        model: Any = await stack.enter_async_context(self._pool.lease(spec.model))
        voice = await self.voice(model, spec.voice)
        options = model_options(RUN_OPTIONS[type(model).__name__], spec.options)
        options.pop("batch_size", None)
        if self._settings.steady:
            options["chunks"] = await to_thread.run_sync(self._steady.of, model, voice)
        chunks = await to_thread.run_sync(
            partial(model.stream, spec.text if text is None else text, voice=voice, **options)
        )
        stack.callback(chunks.close)
        return chunks

    async def _body(
        self,
        chunk: AudioChunk | None,
        chunks: Any,
        encoder: AudioStream,
        spec: SpeechRequest,
        started: float,
    ) -> AsyncIterator[bytes]:
        """The response as it is made, from the first chunk on."""
        samples, tokens = 0, 0
        while chunk is not None:
            samples, tokens = samples + len(chunk.audio), tokens + len(chunk.tokens)
            if content := await to_thread.run_sync(encoder.write, chunk.audio):
                yield answers.sent(answers.delta(content)) if spec.events else content
            chunk = await next_chunk(chunks)
        if content := await to_thread.run_sync(encoder.finish):
            yield answers.sent(answers.delta(content)) if spec.events else content
        if spec.events:
            yield answers.sent(answers.done(len(spec.text), tokens))
        self.metrics.spoken(samples / SAMPLE_RATE, time.monotonic() - started)

    async def parts(self, spec: SpeechRequest) -> list[tuple[float, float, str]]:
        """Start, end and text of every segment. A stream is closed when the listener leaves."""
        parts: list[tuple[float, float, str]] = []
        async with AsyncExitStack() as stack:
            chunks = await self.chunks(spec, stack)
            samples, ended = 0, True
            while (chunk := await next_chunk(chunks)) is not None:
                start, samples = samples / SAMPLE_RATE, samples + len(chunk.audio)
                if not ended and parts[-1][2] == chunk.text:
                    start = parts.pop()[0]
                parts.append((start, samples / SAMPLE_RATE, chunk.text))
                ended = len(chunk.tokens) > 0
        return parts

    async def known(self) -> tuple[list[str], tuple[str, ...]]:
        """The names of the voices that the first model can speak with, and its languages."""
        model = await self._pool.get(None)
        names = [*await to_thread.run_sync(self._library.names), *model.voices]
        if model.builtin_voice is not None or self._settings.default_voice is not None:
            names.insert(0, "default")
        return names, model.languages

    async def voice(self, model: Model, name: str | None) -> Voice | None:
        """The voice of a name; None is the model's own.

        Raises:
            RequestError: there is no such voice.
        """
        settings = self._settings
        if name is not None:
            name = settings.voice_aliases.get(name, name)
        if name in OPENAI_VOICES and name not in await to_thread.run_sync(self._library.names):
            name = settings.default_voice
        if name is None or name == "default":
            name = settings.default_voice
        if name is None:
            if model.builtin_voice is None:
                raise RequestError(
                    *(400, "invalid_voice"),
                    "this model has no voice of its own; name one of /v1/audio/voices",
                    param="voice",
                )
            return None
        if name in model.voices:
            return await to_thread.run_sync(model.load_voice, name)
        try:
            return await to_thread.run_sync(lambda: self._library.get(name).voice)
        except VoiceError:
            raise RequestError(
                *(400, "invalid_voice"),
                "there is no such voice; see /v1/audio/voices",
                param="voice",
            ) from None
