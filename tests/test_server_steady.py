"""A server with ``steady``: streams cut by the speed of the machine, and its warm-up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import numpy as np
import pytest

from mlx_audio_turbo import ChatterboxTurbo, ChunkOptions, Pace, Voice, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16

from .serving import Running, app_of

TEXT = "Hello there, and good morning."
OPTIONS: dict[str, Any] = {"seed": 3, "max_tokens": 60}
QUICK = Pace(token=0.001, audio=0.001, chunk=0.2)
SLOW = Pace(token=0.1, audio=0.1, chunk=1.0)


@pytest.fixture
def folder(tmp_path: Path, voice: Voice) -> Path:
    VoiceLibrary(tmp_path).add("anna", voice)
    return tmp_path


@pytest.fixture
def given(model: ChatterboxTurbo) -> Iterator[list[Any]]:
    """The chunks of each stream that the model begins."""
    stream, found = model.stream, []

    def spied(*args: Any, **options: Any) -> Any:
        found.append(options.get("chunks"))
        return stream(*args, **options)

    with mock.patch.object(model, "stream", spied):
        yield found


def heard(app: Any, times: int = 1) -> list[np.ndarray]:
    running, body = Running(app), {"input": TEXT, "response_format": "pcm", **OPTIONS}
    try:
        url = f"{running.url}/v1/audio/speech"
        answers = [httpx.post(url, json=body, timeout=60) for _ in range(times)]
    finally:
        running.stop()
    assert [answer.status_code for answer in answers] == [200] * times
    return [np.frombuffer(answer.content, "<i2") for answer in answers]


def test_streams_have_the_chunks_of_the_pace_measured_once(
    model: ChatterboxTurbo, voice: Voice, folder: Path, given: list[Any]
) -> None:
    with mock.patch.object(type(model), "measure_pace", return_value=QUICK) as measured:
        first, second = heard(app_of(model, folder, steady=True), 2)
    assert measured.call_count == 1
    assert given == [QUICK.chunks()] * 2
    chunks = model.stream(TEXT, voice=voice, chunks=QUICK.chunks(), **OPTIONS)
    wanted = to_int16(np.concatenate([chunk.audio for chunk in chunks]))
    np.testing.assert_array_equal(first, wanted)
    np.testing.assert_array_equal(second, wanted)


def test_a_slow_machine_keeps_the_usual_chunks_and_the_log_says_so(
    model: ChatterboxTurbo, folder: Path, given: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "mlx_audio_turbo"),
        mock.patch.object(type(model), "measure_pace", return_value=SLOW),
    ):
        heard(app_of(model, folder, steady=True))
    assert given == [ChunkOptions()]
    assert "streams will have gaps" in caplog.text


def test_without_it_nothing_is_measured(
    model: ChatterboxTurbo, folder: Path, given: list[Any]
) -> None:
    with mock.patch.object(type(model), "measure_pace") as measured:
        heard(app_of(model, folder))
    assert not measured.called
    assert given == [None]


def test_the_warm_up_speaks_and_measures(model: ChatterboxTurbo, folder: Path) -> None:
    app, spoken = app_of(model, folder, steady=True), model.work.tokens
    with mock.patch.object(type(model), "measure_pace", return_value=QUICK) as measured:
        asyncio.run(app.state.server.speaking.warm_up())
    assert measured.call_count == 1
    assert model.work.tokens > spoken


def test_a_server_without_a_voice_of_its_own_only_loads(
    model: ChatterboxTurbo, tmp_path: Path
) -> None:
    app, spoken = app_of(model, tmp_path, default_voice=None), model.work.tokens
    asyncio.run(app.state.server.speaking.warm_up())
    assert model.work.tokens == spoken
