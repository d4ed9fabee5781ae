"""A real server in a process of its own, asked by the clients that people have."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16

from .conftest import CLIP
from .serving import decoded

openai = pytest.importorskip("openai")

FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
LOSSLESS = ("flac", "wav", "pcm")
TEXT = "Hello there."
SHORT: dict[str, Any] = {"seed": 3, "max_tokens": 18}
"""A stream of fewer tokens than its first chunk waits for is rendered whole."""


@pytest.fixture(scope="module")
def url(tiny_folder: Path, voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    voices = tmp_path_factory.mktemp("voices")
    VoiceLibrary(voices).add("anna", voice)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlx_audio_turbo.serve", "--model", "tiny", "--port", str(port)],
        env={**os.environ, "MLX_AUDIO_TURBO_VOICES": str(voices)},
        stderr=subprocess.PIPE,
        text=True,
    )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{url}/health")
            break
        except httpx.ConnectError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    yield url
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    # uvicorn ends by the signal itself, after the requests.
    assert process.returncode == -signal.SIGTERM, errors
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def wanted(model: ChatterboxTurbo, voice: Voice) -> np.ndarray:
    return to_int16(model.generate(TEXT, voice=voice, **SHORT).audio)


def check(content: bytes, format: str, wanted: np.ndarray) -> None:
    """The body decodes to the audio: to the sample, or to its length and its sound."""
    if format == "pcm":
        np.testing.assert_array_equal(np.frombuffer(content, "<i2"), wanted)
        return
    if format in LOSSLESS:
        np.testing.assert_array_equal(to_int16(decoded(content)), wanted)
        return
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(content)) as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    found = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    assert abs(len(found) / rate - len(wanted) / 24_000) < 0.1
    assert np.abs(found).max() > 0.01


@pytest.mark.parametrize("format", FORMATS)
def test_openai_create(client: Any, wanted: np.ndarray, format: str) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="anna", input=TEXT, response_format=format, extra_body=SHORT
    )
    check(answer.content, format, wanted)


@pytest.mark.parametrize("format", FORMATS)
def test_openai_streaming(client: Any, wanted: np.ndarray, format: str) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="anna",
        input=TEXT,
        response_format=format,
        extra_body=SHORT,
    ) as answer:
        check(b"".join(answer.iter_bytes()), format, wanted)


@pytest.mark.parametrize("format", FORMATS)
def test_openai_events(client: Any, wanted: np.ndarray, format: str) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1",
        voice="anna",
        input=TEXT,
        response_format=format,
        stream_format="sse",
        extra_body=SHORT,
    ) as answer:
        lines = [line for line in answer.iter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert events[-1]["type"] == "speech.audio.done" and events[-1]["usage"]["output_tokens"] > 0
    check(b"".join(base64.b64decode(each["audio"]) for each in events[:-1]), format, wanted)


@pytest.mark.parametrize("format", FORMATS)
def test_openai_voice_object(client: Any, wanted: np.ndarray, format: str) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice={"id": "anna"}, input=TEXT, response_format=format, extra_body=SHORT
    )
    check(answer.content, format, wanted)


@pytest.mark.parametrize("format", FORMATS)
def test_httpx(url: str, wanted: np.ndarray, format: str) -> None:
    body = {"input": TEXT, "voice": "anna", "response_format": format, **SHORT}
    check(httpx.post(f"{url}/v1/audio/speech", json=body, timeout=60).content, format, wanted)


def test_openai_async(url: str, wanted: np.ndarray) -> None:
    async def run() -> list[bytes]:
        async with openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1") as client:
            answers = await asyncio.gather(
                *(
                    client.audio.speech.create(
                        model="tts-1",
                        voice="anna",
                        input=TEXT,
                        response_format="wav",
                        extra_body=SHORT,
                    )
                    for _ in range(3)
                )
            )
            return [await answer.aread() for answer in answers]

    for content in asyncio.run(run()):
        check(content, "wav", wanted)


def test_long_text_is_that_of_a_stream_with_the_same_seed(
    client: Any, model: ChatterboxTurbo, voice: Voice
) -> None:
    text = "Hello there. [laugh]\n\nHow are you?"
    options: dict[str, Any] = {"seed": 5, "max_tokens": 60}
    answer = client.audio.speech.create(
        model="tts-1", voice="anna", input=text, response_format="pcm", extra_body=options
    )
    chunks = model.stream(text, voice=voice, **options)
    check(answer.content, "pcm", to_int16(np.concatenate([chunk.audio for chunk in chunks])))


def test_a_voice_made_by_the_official_client(client: Any, url: str) -> None:
    if not hasattr(client.audio, "voices"):
        pytest.skip("this version of the client makes no voices")
    with open(CLIP, "rb") as clip:
        made = client.audio.voices.create(name="bob", consent="Bob, by mail", audio_sample=clip)
    assert made.name == "bob"
    answer = client.audio.speech.create(
        model="tts-1", voice={"id": made.id}, input=TEXT, response_format="wav", extra_body=SHORT
    )
    assert len(decoded(answer.content)) > 1_000
    assert httpx.delete(f"{url}/v1/audio/voices/bob").json()["deleted"]
