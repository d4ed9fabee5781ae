"""The WebSocket that speaks a text while it is written, on a free port."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.websockets import WebSocket
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidStatus,
)
from websockets.sync.client import ClientConnection, connect

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16

from .serving import Running, app_of

TEXT = "Hello there, my dear friend. How are you today?"
OPTIONS: dict[str, Any] = {"seed": 3, "max_tokens": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    VoiceLibrary(folder).add("anna", voice)
    return folder


@pytest.fixture(scope="module")
def server(model: ChatterboxTurbo, folder: Path) -> Iterator[Running]:
    running = Running(app_of(model, folder, max_text=500, max_active=2, max_waiting=0))
    yield running
    running.stop()


def opened(server: Running, path: str = "/v1/audio/speech/stream", **options: Any) -> Any:
    return connect(server.url.replace("http", "ws") + path, **options)


def send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def received(socket: ClientConnection) -> list[Any]:
    """All messages to the end; JSON is parsed."""
    found: list[Any] = []
    with suppress(ConnectionClosedError):
        while True:
            try:
                each = socket.recv(30)
            except ConnectionClosedOK:
                break
            found.append(json.loads(each) if isinstance(each, str) else each)
    return found


def spoken(server: Running, pieces: list[str], **session: Any) -> list[Any]:
    with opened(server) as socket:
        send(socket, "session.update", session={"voice": "anna", **OPTIONS, **session})
        for piece in pieces:
            send(socket, "input.text", text=piece)
        send(socket, "input.done")
        return received(socket)


def audio(messages: list[Any]) -> bytes:
    deltas = [each for each in messages if isinstance(each, dict) and "audio" in each]
    return b"".join(base64.b64decode(each["audio"]) for each in deltas)


@pytest.fixture(scope="module")
def wanted(model: ChatterboxTurbo, voice: Voice) -> bytes:
    chunks = model.stream([TEXT], voice=voice, **OPTIONS)
    return to_int16(np.concatenate([chunk.audio for chunk in chunks])).astype("<i2").tobytes()


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_the_audio_is_that_of_a_stream_of_the_joined_text(
    server: Running, wanted: bytes, cut: int
) -> None:
    pieces = [TEXT[at : at + cut] for at in range(0, len(TEXT), cut)]
    messages = spoken(server, pieces)
    assert messages[0]["type"] == "session.updated"
    assert {each["type"] for each in messages[1:-1]} == {"speech.audio.delta"}
    assert audio(messages) == wanted
    assert messages[-1]["type"] == "speech.audio.done"
    assert messages[-1]["usage"]["input_tokens"] == len(TEXT)


def test_what_is_spoken_is_counted_without_the_time_that_the_text_took(server: Running) -> None:
    def counted() -> dict[str, float]:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        found = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name.removeprefix("mlx_audio_turbo_"): float(value) for name, value in found}

    before = counted()
    seconds = len(audio(spoken(server, [TEXT]))) / 48_000
    after = counted()
    assert after["audio_seconds_total"] - before["audio_seconds_total"] == pytest.approx(seconds)
    assert after["real_time_factor_count"] == before["real_time_factor_count"]


def test_binary_frames_and_other_formats(server: Running, wanted: bytes) -> None:
    messages = spoken(server, [TEXT], stream_format="audio")
    assert b"".join(each for each in messages if isinstance(each, bytes)) == wanted
    messages = spoken(server, [TEXT], stream_format="audio", response_format="wav")
    content = b"".join(each for each in messages if isinstance(each, bytes))
    assert content[:4] == b"RIFF" and content[44:] == wanted


def test_a_session_needs_no_settings(server: Running) -> None:
    with opened(server, "/audio/speech/stream") as socket:
        send(socket, "input.text", text="Hello.")
        send(socket, "input.done")
        messages = received(socket)
    assert messages[-1]["type"] == "speech.audio.done" and len(audio(messages)) > 1_000


def test_the_first_sentence_is_heard_before_the_rest_is_written(server: Running) -> None:
    with opened(server) as socket:
        send(socket, "session.update", session=OPTIONS)
        send(socket, "input.text", text=f"{TEXT}\n\n")
        assert json.loads(socket.recv(20))["type"] == "session.updated"
        assert json.loads(socket.recv(20))["type"] == "speech.audio.delta"
        send(socket, "input.text", text="The end.")
        send(socket, "input.done")
        assert received(socket)[-1]["type"] == "speech.audio.done"


MISTAKES: list[tuple[str, list[Any], str]] = [
    ("no JSON", ["{"], "invalid_json"),
    ("no object", ["[]"], "invalid_json"),
    ("binary", [b"\xff\x00"], "invalid_json"),
    ("unknown message", [{"type": "response.create"}], "unexpected_message"),
    ("no type", [{}], "unexpected_message"),
    ("no text", [{"type": "input.text"}], "invalid_text"),
    ("a number", [{"type": "input.text", "text": 7}], "invalid_text"),
    ("nothing to say", [{"type": "input.done"}], "invalid_text"),
    ("null characters", [{"type": "input.text", "text": "a\0"}], "invalid_text"),
    ("half a surrogate", [{"type": "input.text", "text": "a\ud800.\n\n"}], "invalid_text"),
    ("too long", [{"type": "input.text", "text": "ab " * 60}] * 3, "text_too_long"),
    ("markup", [{"type": "input.text", "text": "<spe"}, {"type": "input.text", "text": "ak>"}],
     "unsupported_markup"),
    ("settings late", [{"type": "input.text", "text": "a"}, {"type": "session.update"}],
     "unexpected_message"),
    ("no settings", [{"type": "session.update"}], "invalid_session"),
    ("bad format", [{"type": "session.update", "session": {"response_format": "exe"}}],
     "invalid_response_format"),
    ("bad voice", [{"type": "session.update", "session": {"voice": "../x"}}], "invalid_voice"),
    ("unknown voice", [{"type": "session.update", "session": {"voice": "bob"}},
                       {"type": "input.text", "text": "Hi."}], "invalid_voice"),
    ("unknown model", [{"type": "session.update", "session": {"model": "gpt-9"}},
                       {"type": "input.text", "text": "Hi."}], "model_not_found"),
    ("bad option", [{"type": "session.update", "session": {"top_p": 7}},
                    {"type": "input.text", "text": "Hi."}], "invalid_option"),
    ("more after the end", [{"type": "input.text", "text": "Hello."}, {"type": "input.done"},
                            {"type": "input.text", "text": "Hello."}], "unexpected_message"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "code"), [each[1:] for each in MISTAKES],
                         ids=[each[0] for each in MISTAKES])  # fmt: skip
def test_mistakes_are_told_and_end_the_connection(
    server: Running, model: ChatterboxTurbo, messages: list[Any], code: str
) -> None:
    with opened(server) as socket:
        for message in messages:
            socket.send(json.dumps(message) if isinstance(message, dict) else message)
        found = received(socket)
        with pytest.raises(ConnectionClosed):
            socket.recv()
        assert socket.close_code == 1008
    assert found[-1]["type"] == "error"
    error = found[-1]["error"]
    assert error["code"] == code and error["message"] and error["type"] == "invalid_request_error"
    free(model)


def free(model: ChatterboxTurbo) -> None:
    """Wait until nothing is decoded and no thread waits for text."""
    scheduler, deadline = model._speaking._scheduler, time.monotonic() + 10

    def busy() -> bool:
        names = [thread.name for thread in threading.enumerate()]
        return bool(scheduler._sessions) or "mlx_audio_turbo_text" in names

    while busy() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not busy()


@pytest.mark.parametrize("written", [TEXT[:20], "One more sentence is said here.\n\n" * 10])
def test_a_listener_who_leaves_frees_its_place(
    server: Running, model: ChatterboxTurbo, written: str
) -> None:
    with opened(server) as socket:
        send(socket, "input.text", text=written)
        time.sleep(0.3)
    free(model)


def test_a_full_server_says_so(server: Running, model: ChatterboxTurbo) -> None:
    with opened(server) as one, opened(server) as other:
        for socket in (one, other):
            send(socket, "input.text", text="One more sentence is said here.\n\nAnd")
            socket.recv(20)
        with opened(server) as third:
            send(third, "input.text", text="Hello.")
            assert received(third)[-1]["error"]["code"] == "rate_limit_exceeded"
            assert third.close_code == 1013
    free(model)


def test_keys_hosts_and_origins(model: ChatterboxTurbo, folder: Path) -> None:
    running = Running(app_of(model, folder, api_keys=("secret",)))
    right = {"Authorization": "Bearer secret"}
    try:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with (
                pytest.raises(InvalidStatus) as refused,
                opened(running, additional_headers=headers),
            ):
                pass
            assert refused.value.response.status_code == 401
            body = json.loads(refused.value.response.body or b"")
            assert body["error"]["code"] == "invalid_api_key"
        for headers in ({**right, "Origin": "https://evil.example"},):
            with (
                pytest.raises(InvalidStatus) as refused,
                opened(running, additional_headers=headers),
            ):
                pass
            assert refused.value.response.status_code == 403
        subprotocols: Any = ["realtime", "openai-insecure-api-key.secret"]
        allowed: list[dict[str, Any]] = [
            {"additional_headers": right},
            {"additional_headers": {**right, "Origin": running.url}},
            {"subprotocols": subprotocols},
        ]
        for options in allowed:
            with opened(running, **options) as socket:
                send(socket, "input.text", text="Hello.")
                send(socket, "input.done")
                assert received(socket)[-1]["type"] == "speech.audio.done"
    finally:
        running.stop()


def test_slow_writers_and_readers_are_cut_off(
    model: ChatterboxTurbo, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(app_of(model, folder, text_seconds=0.3, stalled_seconds=0.3))
    plain = WebSocket.send_text

    async def full(self: WebSocket, data: str) -> None:
        """Wait for a reader for ever, as a connection does whose buffers are full."""
        if "speech.audio.delta" in data:
            await asyncio.Event().wait()
        await plain(self, data)

    try:
        with opened(running) as socket:
            send(socket, "input.text", text="Hello")
            assert received(socket)[-1]["error"]["code"] == "text_too_slow"
        monkeypatch.setattr(WebSocket, "send_text", full)
        with opened(running) as socket:
            send(socket, "input.text", text="One more sentence is said here.\n\n" * 500)
            send(socket, "input.done")
            assert received(socket)[-1]["error"]["code"] == "listener_stalled"
        free(model)
    finally:
        running.stop()
