"""The route that converts a recording, on a free port."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceConverter, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16

from .conftest import CLIP
from .serving import Running, app_of, decoded


@pytest.fixture(scope="module")
def server(
    model: ChatterboxTurbo, voice: Voice, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("voices")
    VoiceLibrary(folder).add("anna", voice)
    running = Running(app_of(model, folder, max_source_seconds=8))
    yield running
    running.stop()


def recording(seconds: float) -> bytes:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    content = io.BytesIO()
    soundfile.write(content, np.resize(samples, round(seconds * rate)), rate, format="FLAC")
    return content.getvalue()


def convert(server: Running, content: Any, **fields: str) -> httpx.Response:
    data = {"voice": "anna", "seed": "3", **fields}
    files = {} if content is None else {"file": ("a.flac", content)}
    return httpx.post(f"{server.url}/v1/audio/conversions", data=data, files=files, timeout=60)


def test_the_answer_is_that_of_the_converter(
    server: Running, model: ChatterboxTurbo, voice: Voice, tmp_path: Path
) -> None:
    content = recording(3)
    path = tmp_path / "source.flac"
    path.write_bytes(content)
    chunks = VoiceConverter.of(model).stream(path, voice=voice, seed=3)
    wanted = to_int16(np.concatenate([chunk.audio for chunk in chunks]))
    answer = convert(server, content, response_format="pcm")
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(np.frombuffer(answer.content, "<i2"), wanted)
    assert abs(len(wanted) / 24_000 - 3) < 0.041
    for format in ("wav", "flac"):
        answer = convert(server, content, response_format=format)
        np.testing.assert_array_equal(to_int16(decoded(answer.content)), wanted)
    assert convert(server, content).headers["content-type"] == "audio/mpeg"
    events = convert(server, content, stream_format="sse", response_format="pcm")
    assert "speech.audio.delta" in events.text and "speech.audio.done" in events.text


@pytest.mark.parametrize(
    ("content", "fields", "code"),
    [
        (None, {}, "unsupported_media_type"),
        (b"", {}, "invalid_audio"),
        (b"hello " * 100, {}, "invalid_audio"),
        (recording(9), {}, "invalid_audio"),
        (recording(1), {"voice": "bob"}, "invalid_voice"),
        (recording(1), {"voice": "../anna"}, "invalid_voice"),
        (recording(1), {"response_format": "exe"}, "invalid_response_format"),
        (recording(1), {"seed": "-1"}, "invalid_seed"),
        (recording(1), {"seed": "9" * 20}, "invalid_option"),
        (recording(1), {"model": "gpt-9"}, "model_not_found"),
    ],
)
def test_mistakes(server: Running, content: Any, fields: dict[str, str], code: str) -> None:
    answer = convert(server, content, **fields)
    if content is None:  # a form without a file has the type of other forms
        assert answer.json()["error"]["code"] == "missing_file"
        return
    assert 400 <= answer.status_code < 500
    error = answer.json()["error"]
    assert error["code"] == code and "/tmp" not in error["message"]


def test_a_listener_who_leaves_ends_the_work(server: Running, model: ChatterboxTurbo) -> None:
    requests = model._engine._state.requests
    client = httpx.Client(timeout=60)
    threads = threading.active_count()
    files = {"file": ("a.flac", recording(8))}
    with client.stream(
        "POST",
        f"{server.url}/v1/audio/conversions",
        data={"voice": "anna", "response_format": "pcm"},
        files=files,
    ) as answer:
        next(answer.iter_raw())
    client.close()
    deadline = time.monotonic() + 10
    while requests and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not requests
    assert threading.active_count() <= threads + 2
