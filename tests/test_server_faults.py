"""Listeners who leave, who do not read, and a server that is told to end."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary
from mlx_audio_turbo.server.connection import Connection
from mlx_audio_turbo.server.pool import ModelPool

from .measure.server_process import ServerProcess, ask, connect
from .serving import Running, app_of

BODY = {"input": "Hello there.", "voice": "anna", "seed": 3, "response_format": "pcm"}
LONG = {**BODY, "input": "One sentence, and one more. " * 60, "max_tokens": 200}
SPEECH = "/v1/audio/speech"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    VoiceLibrary(folder).add("anna", voice)
    return folder


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def begin(port: int, path: str, body: dict[str, Any]) -> socket.socket:
    """A connection that has sent a request and reads nothing."""
    content = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("path", [SPEECH, "/v1/audio/captions"])
def test_who_leaves_in_the_queue_or_before_the_first_audio_frees_the_place(
    model: ChatterboxTurbo, folder: Path, path: str
) -> None:
    app = app_of(model, folder, max_active=1)
    running, admission = Running(app), app.state.server.admission
    sessions = model._speaking._scheduler._sessions
    body = LONG if path == SPEECH else {**LONG, "response_format": "json"}
    try:
        first = begin(running.port, path, body)
        assert until(lambda: admission.active == 1)
        second = begin(running.port, path, body)
        assert until(lambda: admission.waiting == 1)
        second.close()
        assert until(lambda: admission.waiting == 0), "who left still waits"
        first.close()
        assert until(lambda: admission.active == 0), "who left still has a place"
        assert until(lambda: not sessions)
        answer = httpx.post(running.url + SPEECH, json={**BODY, "max_tokens": 5}, timeout=60)
        assert answer.status_code == 200
    finally:
        running.stop()


def test_who_leaves_before_the_body_begins_frees_the_place(
    model: ChatterboxTurbo, folder: Path
) -> None:
    """The client goes in the moment between the answer's head and its body."""
    app = app_of(model, folder)
    head_sent = asyncio.Event()
    content = json.dumps({**LONG, "voice": "anna"}).encode()
    parts = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        if parts:
            return parts.pop()
        await head_sent.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        assert message["type"] == "http.response.start", message
        head_sent.set()
        await asyncio.sleep(60)

    scope = {
        **{"type": "http", "method": "POST", "path": SPEECH, "raw_path": SPEECH.encode()},
        **{"query_string": b"", "headers": [(b"host", b"localhost")], "http_version": "1.1"},
        **{"scheme": "http", "root_path": "", "server": None, "client": None, "state": {}},
        "asgi": {"version": "3.0", "spec_version": "2.3"},
    }
    asyncio.run(app(scope, receive, send))
    assert app.state.server.admission.active == 0
    assert until(lambda: not model._speaking._scheduler._sessions)


def test_who_takes_no_bytes_is_cut_off() -> None:
    class Transport(asyncio.Transport):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Silent(Connection):
        stalled_seconds = 0.05

        def __init__(self, transport: Transport, loop: asyncio.AbstractEventLoop):
            self.transport, self.loop = transport, loop
            self.flow = type("Flow", (), {"pause_writing": int, "resume_writing": int})  # type: ignore[assignment]

    async def stall(seconds: float) -> bool:
        transport = Transport()
        connection = Silent(transport, asyncio.get_running_loop())
        connection.pause_writing()
        await asyncio.sleep(seconds)
        connection.resume_writing()
        await asyncio.sleep(0.1)
        return transport.aborted

    assert asyncio.run(stall(0.2))
    assert not asyncio.run(stall(0.0))


def test_a_model_in_use_is_not_unloaded(model: ChatterboxTurbo) -> None:
    pool = ModelPool(["tiny"], load=lambda name: model)

    async def use() -> tuple[bool, bool]:
        unloading = asyncio.create_task(pool.unload_idle(0.05))
        async with pool.lease(None):
            await asyncio.sleep(0.3)
            kept = bool(pool.loaded)
        await asyncio.sleep(0.3)
        unloading.cancel()
        return kept, bool(pool.loaded)

    assert asyncio.run(use()) == (True, False)
    gc.collect()


def test_sigterm_lets_requests_end(voice: Voice, cache: Path, tmp_path: Path) -> None:
    server = ServerProcess("tiny", tmp_path / "place", voice)
    bodies = [{**BODY, "seed": seed, "max_tokens": 60} for seed in range(3)]
    try:
        alone = [ask(server.port, "POST", SPEECH, body) for body in bodies]
        heard: list[bytes] = [b""] * len(bodies)
        begun = threading.Barrier(len(bodies) + 1)

        def listen(index: int) -> None:
            connection, answer = connect(server.port, "POST", SPEECH, bodies[index])
            first = answer.read1(10)
            begun.wait(60)
            heard[index] = first + answer.read()
            connection.close()

        threads = [threading.Thread(target=listen, args=(index,)) for index in range(len(bodies))]
        for thread in threads:
            thread.start()
        begun.wait(60)
        server.terminate()
        for thread in threads:
            thread.join(60)
        assert [(200, content) for content in heard] == alone
        assert server.wait(40) is not None
        assert not list(server.temporary.iterdir())
    finally:
        server.kill()
