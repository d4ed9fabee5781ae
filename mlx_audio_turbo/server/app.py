"""The routes of the server.

Each exists with and without ``/v1``. A request waits for a place, its utterances join those of
other requests in the model's decoding batch, and its audio is encoded as it comes.
"""

from __future__ import annotations

import asyncio
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
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from ..errors import TurboError, VoiceError
from ..options import RUN_OPTIONS, definitions
from ..voice_library import VoiceLibrary
from . import access, answers, errors, metrics
from .admission import Admission
from .draining import Draining
from .errors import RequestError
from .forms import read_form
from .guard import Clients, Guarded
from .pool import ModelPool
from .settings import ServerSettings
from .speaking import Speaking
from .speech_request import parse_conversion, parse_json, parse_speech
from .text_socket import TextSocket
from .voices import create_voice, read_upload


class Server:
    """The state behind the routes."""

    def __init__(self, pool: ModelPool, library: VoiceLibrary, settings: ServerSettings):
        self.pool, self.library, self.settings = pool, library, settings
        self.draining = Draining()
        self.admission = Admission(
            *(settings.max_active, settings.max_waiting, settings.queue_seconds),
            draining=self.draining,
        )
        self.clients = Clients(settings.max_per_client)
        self.metrics = metrics.Metrics(self.admission, pool)
        self.speaking = Speaking(pool, library, settings, self.admission, self.metrics)

    async def speech(self, request: Request) -> Response:
        """``POST /v1/audio/speech``."""
        content = await access.read_json(request, self.settings)
        spec = parse_speech(parse_json(content), self.settings)
        stack = AsyncExitStack()
        try:
            return await access.while_listening(request, partial(self.speaking.answer, spec, stack))
        except BaseException:
            await stack.aclose()
            raise

    async def conversion(self, request: Request) -> Response:
        """``POST /v1/audio/conversions``: a recording in another voice."""
        form = await read_form(request, self.settings, name="file")
        spec, stack = parse_conversion(form.texts), AsyncExitStack()
        try:
            work = partial(self.speaking.conversion, spec, form.file, stack)
            return await access.while_listening(request, work)
        except BaseException:
            await stack.aclose()
            raise

    async def text_socket(self, socket: WebSocket) -> None:
        """The WebSocket ``/v1/audio/speech/stream``."""
        self.metrics.request("/audio/speech/stream")
        with self.draining.connection():
            guards = self.clients, self.draining
            await TextSocket(socket, self.speaking, self.settings, *guards).run()

    async def captions(self, request: Request) -> Response:
        """``POST /v1/audio/captions``: the segments of a text with their times."""
        values = parse_json(await access.read_json(request, self.settings))
        kind = values.pop("response_format", None) or "json"
        if kind not in ("json", "srt", "vtt"):
            raise RequestError(
                400, "invalid_response_format", "response_format is not one of json, srt, vtt"
            )
        spec = parse_speech(values, self.settings)
        parts = await access.while_listening(request, partial(self.speaking.parts, spec))
        lines = [(start, stop, text) for start, stop, text in parts if stop > start]
        if kind == "json":
            segments = [{"start": a, "end": b, "text": text} for a, b, text in lines]
            duration = lines[-1][1] if lines else 0.0
            return JSONResponse({"duration": duration, "segments": segments})
        return Response(answers.subtitles(lines, kind), media_type="text/plain; charset=utf-8")

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
            upload = await read_upload(request, self.library, self.settings)
            async with self.admission.place(), self.pool.lease(None) as model:
                saved = await create_voice(upload, model, self.library, self.settings)
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
        ready = self.pool.names[0] in self.pool.loaded and not self.draining.begun.is_set()
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

    def guarded(path: str, handler: Callable[[Request], Any]) -> Guarded:
        return Guarded(
            *(path, handler),
            settings=settings,
            clients=server.clients,
            metrics=server.metrics,
        )

    api = [
        ("/audio/speech", server.speech, ["POST"]),
        ("/audio/conversions", server.conversion, ["POST"]),
        ("/audio/captions", server.captions, ["POST"]),
        ("/audio/voices", server.voices, ["GET", "POST"]),
        ("/audio/voices/{name}", server.one_voice, ["GET", "DELETE"]),
        ("/models", server.models, ["GET"]),
        ("/options", server.options, ["GET"]),
    ]
    routes = [
        Route(f"{version}{path}", guarded(path, handler), methods=methods)
        for version in ("/v1", "")
        for path, handler, methods in api
    ]
    routes += [
        WebSocketRoute(f"{version}/audio/speech/stream", server.text_socket)
        for version in ("/v1", "")
    ]
    routes += [
        Route("/health", server.health),
        Route("/ready", server.ready),
        Route("/metrics", guarded("/metrics", server.show_metrics), methods=["GET"]),
        Route("/", server.page),
    ]
    middleware = [
        Middleware(access.RequestIds),
        Middleware(access.Gate, hosts=settings.hosts, origins=settings.origins),
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
        async with AsyncExitStack() as stack:
            if settings.wyoming is not None:
                from .wyoming_port import wyoming_port  # its library is an extra of its own

                await pool.get(None)  # a client describes what it finds, and waits seconds for it
                await stack.enter_async_context(
                    wyoming_port(
                        *settings.wyoming,
                        speaking=server.speaking,
                        settings=settings,
                        clients=server.clients,
                        draining=server.draining,
                    )
                )
            yield
            server.draining.begin()
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
            Exception: errors.on_any_error,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would repeat what the client calls itself
    app.state.server = server
    return app
