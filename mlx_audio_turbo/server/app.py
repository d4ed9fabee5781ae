"""The routes of the server.

Each exists with and without ``/v1``. A request waits for a place, its utterances join those of
other requests in the model's decoding batch, and its audio is encoded as it comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import resources
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from ..config import SAMPLE_RATE
from ..errors import TurboError, VoiceError
from ..models.base import Model
from ..options import RUN_OPTIONS, definitions
from ..speech import AudioChunk
from ..voice import Voice
from ..voice_library import VoiceLibrary
from . import access, answers, errors, metrics
from .admission import Admission
from .audio_stream import MEDIA_TYPES, AudioStream, audio_stream
from .errors import RequestError
from .pool import ModelPool
from .settings import OPENAI_VOICES, ServerSettings
from .speech_request import SpeechRequest, model_options, parse_json, parse_speech
from .voices import create_voice


class Server:
    """The state behind the routes."""

    def __init__(self, pool: ModelPool, library: VoiceLibrary, settings: ServerSettings):
        self.pool, self.library, self.settings = pool, library, settings
        self.admission = Admission(settings.max_active, settings.max_waiting)
        self.metrics = metrics.Metrics(self.admission, pool)

    async def speech(self, request: Request) -> Response:
        """``POST /v1/audio/speech``."""
        content = await access.read_body(request, self.settings)
        spec = parse_speech(parse_json(content), self.settings)
        stack = AsyncExitStack()
        try:
            await stack.enter_async_context(self.admission.place())
            model = await self.pool.get(spec.model)
            voice = await self.voice(model, spec.voice)
            options = model_options(RUN_OPTIONS[type(model).__name__], spec.options)
            options.pop("batch_size", None)
            encoder = audio_stream(spec.format, SAMPLE_RATE)
            stream: Any = model
            chunks = await to_thread.run_sync(
                partial(stream.stream, spec.text, voice=voice, **options)
            )
        except BaseException:
            await stack.aclose()
            raise
        body = self._body(stack, chunks, encoder, spec, time.monotonic())
        media = "text/event-stream" if spec.events else MEDIA_TYPES[spec.format]
        return StreamingResponse(body, media_type=media, headers={"Cache-Control": "no-store"})

    async def _body(
        self,
        stack: AsyncExitStack,
        chunks: Any,
        encoder: AudioStream,
        spec: SpeechRequest,
        started: float,
    ) -> AsyncIterator[bytes]:
        """The response as it is made; a listener who leaves frees its place within a step."""
        samples, tokens = 0, 0
        try:
            while True:
                chunk: AudioChunk | None = await to_thread.run_sync(
                    next, chunks, None, abandon_on_cancel=True
                )
                if chunk is None:
                    break
                if not samples:
                    self.metrics.first_audio(time.monotonic() - started)
                samples, tokens = samples + len(chunk.audio), tokens + len(chunk.tokens)
                if content := await to_thread.run_sync(encoder.write, chunk.audio):
                    yield answers.event("delta", content) if spec.events else content
            if content := await to_thread.run_sync(encoder.finish):
                yield answers.event("delta", content) if spec.events else content
            if spec.events:
                yield answers.done(len(spec.text), tokens)
            self.metrics.spoken(samples / SAMPLE_RATE, time.monotonic() - started)
        finally:
            chunks.close()
            await stack.aclose()

    async def captions(self, request: Request) -> Response:
        """``POST /v1/audio/captions``: the segments of a text with their times."""
        values = parse_json(await access.read_body(request, self.settings))
        kind = values.pop("response_format", None) or "json"
        if kind not in ("json", "srt", "vtt"):
            raise RequestError(
                400, "invalid_response_format", "response_format is not one of json, srt, vtt"
            )
        spec = parse_speech(values, self.settings)
        async with self.admission.place():
            model: Any = await self.pool.get(spec.model)
            voice = await self.voice(model, spec.voice)
            options = model_options(RUN_OPTIONS[type(model).__name__], spec.options)
            parts = await to_thread.run_sync(
                lambda: list(model.generate_parts(spec.text, voice=voice, **options))
            )
        lines, start = [], 0.0
        for part in parts:
            lines.append((start, start + part.duration, part.text))
            start += part.duration
        if kind == "json":
            segments = [{"start": a, "end": b, "text": text} for a, b, text in lines]
            return JSONResponse({"duration": start, "segments": segments})
        return Response(answers.subtitles(lines, kind), media_type="text/plain; charset=utf-8")

    async def voice(self, model: Model, name: str | None) -> Voice | None:
        """The voice of a name; None is the model's own.

        Raises:
            RequestError: there is no such voice.
        """
        settings = self.settings
        if name is not None:
            name = settings.voice_aliases.get(name, name)
        if name in OPENAI_VOICES and name not in self.library.names():
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
            return await to_thread.run_sync(lambda: self.library.get(name).voice)
        except VoiceError:
            raise RequestError(
                *(400, "invalid_voice"),
                "there is no such voice; see /v1/audio/voices",
                param="voice",
            ) from None

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "mlx-audio-turbo"}
            for name in self.pool.names
        ]
        return JSONResponse({"object": "list", "data": data})

    async def voices(self, request: Request) -> Response:
        """``GET`` and ``POST /v1/audio/voices``."""
        if request.method == "POST":
            async with self.admission.place():
                model = await self.pool.get(None)
                saved = await create_voice(request, model, self.library, self.settings)
            return JSONResponse(answers.voice(saved), 201)
        names = await to_thread.run_sync(self.library.names)
        own = [each for name in self.pool.loaded for each in (await self.pool.get(name)).voices]
        data = [{"id": name, "name": name, "object": "voice"} for name in (*names, *own)]
        return JSONResponse({"object": "list", "data": data, "voices": data})

    async def one_voice(self, request: Request) -> Response:
        """``GET`` and ``DELETE /v1/audio/voices/{name}``."""
        name = request.path_params["name"]
        try:
            if request.method == "DELETE":
                await to_thread.run_sync(self.library.remove, name)
                return JSONResponse({"id": name, "object": "voice", "deleted": True})
            return JSONResponse(answers.voice(await to_thread.run_sync(self.library.get, name)))
        except VoiceError:
            raise RequestError(404, "voice_not_found", "there is no voice of this name") from None

    async def options(self, request: Request) -> Response:
        """``GET /v1/options``: the options of a model with their ranges, for pages and tools."""
        model = await self.pool.get(request.query_params.get("model"))
        own = model.config.generation
        found = [
            {
                "name": each.name,
                "type": each.kind.__name__,
                "default": own.get(each.name, each.default),
                "minimum": each.option.least
                if each.option.least is not None
                else each.option.above,
                "maximum": each.option.most if each.option.most is not None else each.option.below,
                "help": each.option.help,
            }
            for each in definitions(RUN_OPTIONS[type(model).__name__]).values()
            if each.kind in (int, float, str) and each.name != "batch_size"
        ]
        return JSONResponse({"options": found, "tags": model.tags})

    async def health(self, request: Request) -> Response:
        """``GET /health``: the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """``GET /ready``: the default model is in memory, and requests are taken."""
        ready = self.pool.names[0] in self.pool.loaded and not self.admission.draining
        return JSONResponse({"ready": ready, "loaded": self.pool.loaded}, 200 if ready else 503)

    async def show_metrics(self, request: Request) -> Response:
        """``GET /metrics`` in Prometheus's format."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def page(self, request: Request) -> Response:
        """``GET /``: the page."""
        folder = resources.files("mlx_audio_turbo") / "server" / "page"
        return HTMLResponse((folder / "index.html").read_text("utf-8"))


def create_app(
    models: Sequence[str] | ModelPool,
    *,
    library: VoiceLibrary | None = None,
    settings: ServerSettings | None = None,
) -> Starlette:
    """The server as an ASGI application.

    Args:
        models: the names, folders or Hub ids to serve; the first is the default.
        library: the voices; by default the user's own.
    """
    settings = settings or ServerSettings()
    pool = (
        models
        if isinstance(models, ModelPool)
        else ModelPool(models, aliases=settings.model_aliases)
    )
    server = Server(pool, library or VoiceLibrary(), settings)

    def guarded(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            access.check_key(request, settings)
            server.metrics.request(request.url.path)
            return await handler(request)

        return handle

    api = [
        ("/audio/speech", server.speech, ["POST"]),
        ("/audio/captions", server.captions, ["POST"]),
        ("/audio/voices", server.voices, ["GET", "POST"]),
        ("/audio/voices/{name}", server.one_voice, ["GET", "DELETE"]),
        ("/models", server.models, ["GET"]),
        ("/options", server.options, ["GET"]),
    ]
    routes = [
        Route(f"{version}{path}", guarded(handler), methods=methods)
        for version in ("/v1", "")
        for path, handler, methods in api
    ]
    routes += [
        Route("/health", server.health),
        Route("/ready", server.ready),
        Route("/metrics", guarded(server.show_metrics)),
        Route("/", server.page),
    ]
    middleware = [
        Middleware(access.RequestIds),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts)),
    ]
    if settings.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["authorization", "content-type"],
            )
        )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        unload = (
            asyncio.create_task(pool.unload_idle(settings.idle_unload))
            if settings.idle_unload
            else None
        )
        yield
        server.admission.draining = True
        if unload is not None:
            unload.cancel()
            with suppress(asyncio.CancelledError):
                await unload

    app = Starlette(
        routes=[Mount(settings.prefix, routes=routes)] if settings.prefix else routes,
        middleware=middleware,
        exception_handlers={
            RequestError: errors.on_request_error,
            TurboError: errors.on_our_error,
            HTTPException: errors.on_http_error,
        },
        lifespan=lifespan,
    )
    app.state.server = server
    return app
