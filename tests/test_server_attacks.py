"""Attacks on a server: each is refused, touches nothing, and the server speaks on."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16

from .attacks import ATTACKS, KEYED, PLAIN, WRONG_KEYS, Answer, Target, ask, request
from .serving import Running, app_of

SPOKEN = {"input": "Hello there.", "voice": "anna", "seed": 3, "max_tokens": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Iterator[Path]:
    """A folder with voices, with what must stay as it is, and with all temporary files."""
    place = tmp_path_factory.mktemp("attacked")
    VoiceLibrary(place / "home" / "voices").add("anna", voice)
    for secret in (place / "secret", place / "home" / "secret", place / "anna.safetensors"):
        secret.write_text("kept")
    (place / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place / "tmp"))
        patch.chdir(place / "home")
        yield place


@pytest.fixture(scope="module")
def server(model: ChatterboxTurbo, place: Path) -> Iterator[Running]:
    limits = {"header_seconds": 1.0, "body_seconds": 1.0}
    running = Running(app_of(model, place / "home" / "voices", **limits))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def keyed(model: ChatterboxTurbo, place: Path) -> Iterator[Running]:
    running = Running(app_of(model, place / "home" / "voices", api_keys=("secret",)))
    yield running
    running.stop()


def tree(place: Path) -> dict[str, str]:
    """Every file and folder with the hash of its content."""
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in place.rglob("*")
    }


def check_refused(answer: Answer) -> None:
    assert 400 <= answer.status < 500, (answer.status, answer.body[:300])
    error = json.loads(answer.body)["error"]
    assert error["code"] and error["message"] and error["type"] == "invalid_request_error"
    assert len(error["message"]) < 400
    for told in (b"root:", b"Traceback", b"/tmp", b"site-packages", b".py"):
        assert told not in answer.body


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(server: Running, place: Path, name: str) -> None:
    before = tree(place)
    check_refused(ATTACKS[name](Target(server.port)))
    assert tree(place) == before
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize("name", WRONG_KEYS)
def test_wrong_key(keyed: Running, place: Path, name: str) -> None:
    before = tree(place)
    for method, path in KEYED:
        answer = ask(Target(keyed.port), method, path, PLAIN, WRONG_KEYS[name])
        check_refused(answer)
        assert answer.status == 401
        assert json.loads(answer.body)["error"]["code"] == "invalid_api_key"
    assert tree(place) == before


def test_a_key_in_the_address_is_none(keyed: Running) -> None:
    check_refused(request("GET", "/v1/models?api_key=secret&key=secret")(Target(keyed.port)))
    assert ask(Target(keyed.port, "secret"), "GET", "/v1/models").status == 200


def test_there_are_enough() -> None:
    assert len(ATTACKS) + len(WRONG_KEYS) >= 60


def test_the_server_still_speaks(server: Running, model: ChatterboxTurbo, voice: Voice) -> None:
    """After all attacks of this module, with the same bytes as before them."""
    body = {**SPOKEN, "response_format": "pcm"}
    answer = httpx.post(f"{server.url}/v1/audio/speech", json=body, timeout=60)
    assert answer.status_code == 200
    chunks = model.stream(SPOKEN["input"], voice=voice, seed=3, max_tokens=8)
    assert answer.content == b"".join(to_int16(c.audio).tobytes() for c in chunks)
