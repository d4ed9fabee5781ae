"""A server that ends: what is heard is heard to its end, and nothing new is begun."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16

from .serving import Running, app_of, free_port

SENTENCES = "One more sentence is said here.\n\n" * 25
SESSION: dict[str, Any] = {"seed": 3, "max_tokens": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    VoiceLibrary(folder).add("anna", voice)
    return folder


@contextmanager
def running(model: ChatterboxTurbo, folder: Path, **settings: Any) -> Iterator[Running]:
    server = Running(app_of(model, folder, **settings))
    try:
        yield server
    finally:
        server.stop()


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def told_to_end(server: Running) -> bool:
    server.begin_to_end()
    return until(server.app.state.server.draining.begun.is_set)


def heard(socket: Any) -> list[dict[str, Any]]:
    """All messages to the end."""
    found: list[dict[str, Any]] = []
    with pytest.raises(ConnectionClosed):
        while True:
            found.append(json.loads(socket.recv(30)))
    return found


def test_a_socket_hears_what_it_wrote(model: ChatterboxTurbo, voice: Voice, folder: Path) -> None:
    chunks = model.stream([SENTENCES], voice=voice, **SESSION)
    alone = to_int16(np.concatenate([chunk.audio for chunk in chunks])).astype("<i2").tobytes()
    with running(model, folder) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/health").status_code == 200
        url = server.url.replace("http", "ws") + "/v1/audio/speech/stream"
        with connect(url) as socket, connect(url) as idle:
            for message in (
                {"type": "session.update", "session": SESSION},
                {"type": "input.text", "text": SENTENCES},
            ):
                socket.send(json.dumps(message))
            first = [json.loads(socket.recv(20)) for _ in range(2)][1]
            assert told_to_end(server)
            socket.send(json.dumps({"type": "input.text", "text": "This comes too late."}))
            assert client.get("/ready").status_code == 503  # of a connection that was open
            late = client.post("/v1/audio/speech", json={"input": "Too late."})
            assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
            messages = heard(socket)
            assert socket.close_code == 1001
            assert heard(idle) == [] and idle.close_code == 1001
        kinds = [each["type"] for each in messages]
        assert kinds.count("error") == 1 and kinds[-1] == "speech.audio.done"
        assert messages[kinds.index("error")]["error"]["code"] == "shutting_down"
        assert messages[-1]["usage"]["input_tokens"] == len(SENTENCES)
        audio = [base64.b64decode(each["audio"]) for each in [first, *messages] if "audio" in each]
        assert b"".join(audio) == alone
        assert until(lambda: not server.alive)


def test_a_text_that_has_ended_is_closed_as_ever(model: ChatterboxTurbo, folder: Path) -> None:
    with running(model, folder) as server:
        url = server.url.replace("http", "ws") + "/v1/audio/speech/stream"
        with connect(url) as socket:
            for message in (
                {"type": "input.text", "text": SENTENCES[:330]},
                {"type": "input.done"},
            ):
                socket.send(json.dumps(message))
            socket.recv(20)
            assert told_to_end(server)
            assert heard(socket)[-1]["type"] == "speech.audio.done"
            assert socket.close_code == 1000


def test_who_is_not_finished_in_time_is_cut_off(
    model: ChatterboxTurbo, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_audio_turbo.server.draining.GRACE", 0.3)
    with running(model, folder) as server:
        url = server.url.replace("http", "ws") + "/v1/audio/speech/stream"
        with connect(url) as socket:
            socket.send(json.dumps({"type": "input.text", "text": SENTENCES * 20}))
            socket.recv(20)
            assert told_to_end(server)
            messages = heard(socket)
        assert socket.close_code in (1012, 1006)
        assert "speech.audio.done" not in [each["type"] for each in messages]
        assert until(lambda: not server.alive)
    assert until(lambda: not model._speaking._scheduler._sessions)


# --- Home Assistant -------------------------------------------------------------------------


def test_home_assistant_hears_the_rest(model: ChatterboxTurbo, folder: Path) -> None:
    pytest.importorskip("wyoming")
    from wyoming.client import AsyncTcpClient
    from wyoming.tts import SynthesizeChunk, SynthesizeStart

    port = free_port()

    async def talk(server: Running) -> tuple[list[str], Any]:
        async with (
            AsyncTcpClient("127.0.0.1", port) as client,
            AsyncTcpClient("127.0.0.1", port) as idle,
        ):
            await client.write_event(SynthesizeStart().event())
            await client.write_event(SynthesizeChunk(text=SENTENCES[:170]).event())
            found = [await asyncio.wait_for(client.read_event(), 30)]
            server.begin_to_end()
            while found[-1] is not None:
                found.append(await asyncio.wait_for(client.read_event(), 30))
            last = await asyncio.wait_for(idle.read_event(), 30)
        return [each.type for each in found if each is not None], last

    with running(model, folder, wyoming=("127.0.0.1", port)) as server:
        kinds, last = asyncio.run(talk(server))
        assert last is None
        assert kinds[0] == "audio-start" and kinds[-2:] == ["audio-stop", "synthesize-stopped"]
        assert "audio-chunk" in kinds and "error" not in kinds
        assert until(lambda: not server.alive)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 5)


def closes(connection: socket.socket, content: bytes) -> float:
    """Seconds until a server closes a connection that sends this and then nothing."""
    started = time.monotonic()
    connection.settimeout(20)
    connection.sendall(content)
    while connection.recv(65_536):
        pass
    return time.monotonic() - started


def test_connections_of_home_assistant_are_bounded(model: ChatterboxTurbo, folder: Path) -> None:
    pytest.importorskip("wyoming")
    port = free_port()
    limits: dict[str, Any] = {"max_wyoming": 2, "text_seconds": 1.0, "body_seconds": 0.3}
    with running(model, folder, wyoming=("127.0.0.1", port), **limits):

        def opened() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port))

        with opened() as one, opened() as other:
            time.sleep(0.1)
            with opened() as third:
                answer = b""
                third.settimeout(10)
                while part := third.recv(65_536):
                    answer += part
            assert b"rate_limit_exceeded" in answer
            assert closes(one, b"") > 0.5  # says nothing
            closes(other, b"")
        for begun in (
            b'{"type": "describe"',
            b'{"type": "describe", "data_length": 50}\n{',
            b'{"type": "describe", "payload_length": 50}\nabc',
        ):
            with opened() as connection:
                assert closes(connection, begun) < 0.95, begun  # has begun something
        start = b'{"type": "synthesize-start", "data": {}}\n'
        with opened() as connection:
            connection.settimeout(20)
            connection.sendall(start)
            heard = b""
            while part := connection.recv(65_536):
                heard += part
        assert b"text_too_slow" in heard
        assert until(lambda: "mlx_audio_turbo_text" not in [t.name for t in threading.enumerate()])


def test_a_long_speech_is_no_idle_connection(model: ChatterboxTurbo, folder: Path) -> None:
    pytest.importorskip("wyoming")
    port = free_port()
    with running(model, folder, wyoming=("127.0.0.1", port), text_seconds=0.2):
        text = {"text": "This is one more sentence. " * 8}
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(60)
            connection.sendall(json.dumps({"type": "synthesize", "data": text}).encode() + b"\n")
            heard = b""
            while b"audio-stop" not in heard and (part := connection.recv(65_536)):
                heard = heard[-100:] + part
        assert b"audio-stop" in heard
