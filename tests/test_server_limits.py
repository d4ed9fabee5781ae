"""How much one client may ask at a time, and for how long."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from mlx_audio_turbo import ChatterboxTurbo, OptionError, Voice, VoiceLibrary
from mlx_audio_turbo.cli import server as command
from mlx_audio_turbo.errors import NotFiniteError
from mlx_audio_turbo.server.access import client_of_address

from .serving import Running, app_of

SHORT = {"input": "Hello there.", "seed": 3, "max_tokens": 8, "response_format": "pcm"}
LONG = {**SHORT, "input": "One sentence, and one more. " * 400, "max_tokens": 200}


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


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def speak(server: Running, key: str | None = None, **fields: Any) -> httpx.Response:
    body = {**SHORT, **fields}
    return httpx.post(f"{server.url}/v1/audio/speech", json=body, headers=bearer(key), timeout=60)


@contextmanager
def listening(server: Running, key: str | None = None, **fields: Any) -> Iterator[Any]:
    """A listener in the middle of a long text."""
    url, body = f"{server.url}/v1/audio/speech", {**LONG, **fields}
    with httpx.stream("POST", url, json=body, headers=bearer(key), timeout=60) as answer:
        parts = answer.iter_raw()
        next(parts)
        yield parts


def freed(server: Running, key: str | None = None) -> bool:
    """Whether a request is taken again within ten seconds."""
    deadline = time.monotonic() + 10
    while (status := speak(server, key).status_code) != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    return status == 200


@pytest.mark.parametrize(("one", "other"), [("first", "second"), (None, None)])
def test_a_client_has_so_many_requests_at_a_time(
    model: ChatterboxTurbo, folder: Path, one: str | None, other: str | None
) -> None:
    keys = tuple(key for key in (one, other) if key)
    with running(model, folder, api_keys=keys, max_per_client=1) as server:
        socket_url = server.url.replace("http", "ws") + "/v1/audio/speech/stream"
        with listening(server, one):
            for path in ("speech", "captions", "voices", "conversions"):
                url = f"{server.url}/v1/audio/{path}"
                refused = httpx.post(url, json=SHORT, headers=bearer(one), timeout=60)
                assert refused.status_code == 429, path
                assert refused.headers["retry-after"] == "5"
                error = refused.json()["error"]
                assert error["code"] == "concurrency_limit_exceeded" and error["message"]
            with (
                pytest.raises(InvalidStatus) as denied,
                connect(socket_url, additional_headers=bearer(one)),
            ):
                pass
            assert denied.value.response.status_code == 429
            models = httpx.get(f"{server.url}/v1/models", headers=bearer(one))
            assert models.status_code == 200
            if other is not None:
                assert speak(server, other).status_code == 200
        assert freed(server, one)
        with connect(socket_url, additional_headers=bearer(one)):  # an open one counts too
            assert speak(server, one).status_code == 429
        assert freed(server, one)
        clients: Any = server.app.state.server.clients
        deadline = time.monotonic() + 10
        while clients._busy and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not clients._busy


def test_addresses_of_one_network_are_one_client() -> None:
    assert client_of_address("192.0.2.7") != client_of_address("192.0.2.8")
    assert client_of_address("2001:db8::1") == client_of_address("2001:db8::2:3:4:5")
    assert client_of_address("2001:db8::1") != client_of_address("2001:db8:0:1::1")
    assert client_of_address("fe80::1%eth0") == client_of_address("fe80::2%eth0")
    assert client_of_address("::ffff:192.0.2.7") != client_of_address("::ffff:192.0.2.8")
    assert client_of_address("/a/socket") == "/a/socket"


def arguments(*given: str) -> argparse.Namespace:
    return command.parser().parse_args([*given])


def test_keys_come_from_options_a_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_AUDIO_TURBO_API_KEY", "from, there")
    assert command._keys(arguments()) == ("from", "there")
    file = tmp_path / "keys"
    file.write_text("# of the lounge\n\n  b \nc\n")
    given = ("--api_key", "a", "--api_key", "b", "--api_key_file", str(file))
    assert command._keys(arguments(*given)) == ("a", "b", "c")
    file.write_text("# none\n")
    for wrong, message in (
        (["--api_key_file", str(file)], "has no key"),
        (["--api_key", "two words"], "visible ASCII"),
        (["--api_key", "schlüssel"], "visible ASCII"),
    ):
        with pytest.raises(OptionError, match=message):
            command._keys(arguments(*wrong))
    with pytest.raises(OptionError, match="give 1 or more"):
        command._serve(arguments("--max_per_client", "0"))


def idle(model: ChatterboxTurbo) -> bool:
    """Whether nothing is spoken any more, after two seconds at the latest."""
    scheduler, deadline = model._speaking._scheduler, time.monotonic() + 2
    while scheduler._sessions and time.monotonic() < deadline:
        time.sleep(0.02)
    return not scheduler._sessions


@pytest.fixture(scope="module")
def brief(model: ChatterboxTurbo, folder: Path) -> Iterator[Running]:
    with running(model, folder, request_seconds=1.5) as server:
        yield server


def test_a_request_has_so_much_time(brief: Running, model: ChatterboxTurbo) -> None:
    assert speak(brief).status_code == 200
    late = httpx.post(f"{brief.url}/v1/audio/captions", json={**LONG, "response_format": "json"})
    assert (late.status_code, late.json()["error"]["code"]) == (408, "request_timeout")
    assert late.headers["x-should-retry"] == "false"
    assert idle(model)


def test_audio_that_takes_too_long_breaks_the_connection(
    brief: Running, model: ChatterboxTurbo
) -> None:
    heard = 0
    with pytest.raises(httpx.RemoteProtocolError), listening(brief) as parts:
        for part in parts:
            heard += len(part)
    assert heard and idle(model)
    assert not brief.app.state.server.admission.active


def test_events_that_take_too_long_end_with_an_error(
    brief: Running, model: ChatterboxTurbo
) -> None:
    with listening(brief, stream_format="sse") as parts:
        events = b"".join(parts).strip().split(b"\n\n")
    last = json.loads(events[-1].removeprefix(b"data: "))
    assert last["type"] == "error" and last["error"]["code"] == "request_timeout"
    assert b"speech.audio.done" not in events[-2]
    assert idle(model)


def test_a_socket_has_so_much_time(brief: Running, model: ChatterboxTurbo) -> None:
    url = brief.url.replace("http", "ws") + "/v1/audio/speech/stream"
    for text in ("", "One more sentence is said here.\n\n" * 200):
        with connect(url) as socket:
            if text:
                socket.send(json.dumps({"type": "input.text", "text": text}))
            found = []
            with pytest.raises(ConnectionClosedError):
                while True:
                    found.append(json.loads(socket.recv(20)))
            assert socket.close_code == 1008
        assert found[-1]["error"]["code"] == "request_timeout"
        assert idle(model)


def test_a_request_waits_so_long_for_a_place(model: ChatterboxTurbo, folder: Path) -> None:
    with running(model, folder, max_active=1, queue_seconds=0.3) as server:
        with listening(server):
            started = time.monotonic()
            refused = speak(server)
            assert time.monotonic() - started >= 0.3
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_timeout")
            assert refused.headers["retry-after"] == "5"
            assert server.app.state.server.admission.waiting == 0
        assert freed(server)


def test_what_fails_after_the_first_audio_is_told(
    model: ChatterboxTurbo, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: Any = ChatterboxTurbo.stream

    class Failing:
        """A stream whose second chunk is an error."""

        def __init__(self, chunks: Any):
            self._chunks, self._taken = chunks, 0
            self.close = chunks.close

        def __next__(self) -> Any:
            self._taken += 1
            if self._taken > 1:
                raise NotFiniteError("HiFT")
            return next(self._chunks)

    monkeypatch.setattr(
        ChatterboxTurbo, "stream", lambda self, *given, **more: Failing(plain(self, *given, **more))
    )
    with running(model, folder) as server:
        with listening(server, stream_format="sse") as parts:
            last = b"".join(parts).strip().split(b"\n\n")[-1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "internal_error"
        with pytest.raises(httpx.RemoteProtocolError), listening(server) as parts:
            b"".join(parts)
    assert idle(model)
