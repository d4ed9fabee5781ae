"""The server, on a free port, as clients use it."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16
from mlx_audio_turbo.server import speaking
from mlx_audio_turbo.server.settings import OPENAI_VOICES

from .conftest import CLIP
from .serving import Running, app_of, decoded

TEXT = "Hello there."
OPTIONS: dict[str, Any] = {"seed": 3, "max_tokens": 30}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    VoiceLibrary(folder).add("anna", voice)
    return folder


@pytest.fixture(scope="module")
def server(model: ChatterboxTurbo, folder: Path) -> Iterator[Running]:
    running = Running(app_of(model, folder))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def expected(model: ChatterboxTurbo, voice: Voice) -> np.ndarray:
    return model.generate(TEXT, voice=voice, **OPTIONS).audio


def speak(server: Running, **fields: Any) -> Any:
    body = {"model": "tiny", "input": TEXT, "voice": "anna", **OPTIONS, **fields}
    return httpx.post(f"{server.url}/v1/audio/speech", json=body, timeout=60)


# --- speech ---------------------------------------------------------------------------------


def test_pcm_is_the_audio_of_a_stream_of_the_same_seed(
    server: Running, model: ChatterboxTurbo, voice: Voice
) -> None:
    answer = speak(server, response_format="pcm")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/pcm"
    assert answer.headers["x-request-id"].startswith("req_")
    chunks = list(model.stream(TEXT, voice=voice, **OPTIONS))
    wanted = to_int16(np.concatenate([chunk.audio for chunk in chunks]))
    np.testing.assert_array_equal(np.frombuffer(answer.content, "<i2"), wanted)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_lossless_formats_hold_the_same_samples(server: Running, format: str) -> None:
    pytest.importorskip("av")
    wanted = np.frombuffer(speak(server, response_format="pcm").content, "<i2") / 32_768
    found = decoded(speak(server, response_format=format).content)
    np.testing.assert_array_equal(found, wanted.astype(np.float32))


@pytest.mark.parametrize("format", ["mp3", "opus", "aac"])
def test_other_formats_have_the_same_length(
    server: Running, expected: np.ndarray, format: str
) -> None:
    av = pytest.importorskip("av")
    content = speak(server, response_format=format).content
    with av.open(io.BytesIO(content)) as container:
        frames = list(container.decode(audio=0))
    seconds = sum(frame.samples for frame in frames) / frames[0].sample_rate
    assert abs(seconds - len(expected) / 24_000) < 0.1


def test_events_hold_the_same_bytes_and_end_with_the_usage(server: Running) -> None:
    answer = speak(server, response_format="pcm", stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert audio == speak(server, response_format="pcm").content
    assert events[-1]["type"] == "speech.audio.done"
    usage = events[-1]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 < usage["output_tokens"] <= 30


def test_first_bytes_come_before_the_end(server: Running) -> None:
    text = "Hello there. [laugh]\n\n" * 10
    body = {"input": text, "voice": "anna", "response_format": "pcm", "temperature": 0}
    body |= {"max_tokens": 120}
    started, first = time.monotonic(), None
    with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=body, timeout=60) as answer:
        for _ in answer.iter_raw():
            first = first or time.monotonic() - started
    assert first is not None and first < 0.5 * (time.monotonic() - started)


@pytest.mark.parametrize("named", [None, "alloy", {"id": "anna"}, "anna"])
def test_voices_by_name_by_object_and_by_openais_names(server: Running, named: Any) -> None:
    wanted = speak(server, response_format="pcm").content
    assert speak(server, voice=named, response_format="pcm").content == wanted


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/audio/speech"])
def test_routes_exist_with_and_without_the_version(server: Running, path: str) -> None:
    body = {"input": TEXT, "voice": "anna", "response_format": "pcm", **OPTIONS}
    answer = httpx.post(server.url + path, json=body, timeout=60)
    assert answer.status_code == 200 and len(answer.content) > 1_000


def test_unknown_fields_and_instructions_are_ignored(server: Running) -> None:
    wanted = speak(server, response_format="pcm").content
    found = speak(server, response_format="pcm", instructions="Whisper", foo=[1], speed=1.0)
    assert found.content == wanted


def test_the_official_client(server: Running) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="none", base_url=f"{server.url}/v1")
    options = {"extra_body": OPTIONS}
    answer = client.audio.speech.create(
        model="tts-1", voice="anna", input=TEXT, response_format="wav", **options
    )
    wanted = np.frombuffer(speak(server, response_format="pcm").content, "<i2")
    np.testing.assert_array_equal(to_int16(decoded(answer.content)), wanted)
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="nova", input=TEXT, response_format="pcm", **options
    ) as stream:
        assert b"".join(stream.iter_bytes()) == wanted.tobytes()
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.speech.create(model="tts-1", voice="anna", input=" ", **options)
    assert refused.value.code == "invalid_text"
    with pytest.raises(openai.NotFoundError):
        client.audio.speech.create(model="unknown", voice="anna", input=TEXT)


@pytest.mark.parametrize("kind", ["json", "srt", "vtt"])
def test_captions_have_the_times_of_the_segments(server: Running, kind: str) -> None:
    text = "First paragraph.\n\nSecond paragraph."
    body = {"input": text, "voice": "anna", "response_format": kind, **OPTIONS}
    answer = httpx.post(f"{server.url}/v1/audio/captions", json=body, timeout=60)
    assert answer.status_code == 200
    if kind == "json":
        segments = answer.json()["segments"]
        assert [segment["text"] for segment in segments] == text.split("\n\n")
        assert segments[0]["end"] == segments[1]["start"] > 0
    else:
        assert "-->" in answer.text and "Second paragraph." in answer.text


# --- voices ---------------------------------------------------------------------------------


def test_a_voice_is_made_used_and_deleted(server: Running) -> None:
    with open(CLIP, "rb") as clip:
        made = httpx.post(
            f"{server.url}/v1/audio/voices",
            data={"name": "bob", "consent": "Bob, by mail"},
            files={"audio_sample": clip},
            timeout=60,
        )
    assert made.status_code == 201, made.text
    names = [each["id"] for each in httpx.get(f"{server.url}/v1/audio/voices").json()["data"]]
    assert {"anna", "bob"} <= set(names)
    assert speak(server, voice="bob").status_code == 200
    with open(CLIP, "rb") as clip:
        again = httpx.post(
            f"{server.url}/v1/audio/voices",
            data={"name": "bob", "consent": "again"},
            files={"audio_sample": clip},
            timeout=60,
        )
    assert again.status_code == 409
    assert httpx.delete(f"{server.url}/v1/audio/voices/bob").json()["deleted"]
    assert httpx.get(f"{server.url}/v1/audio/voices/bob").status_code == 404


def test_a_voice_needs_consent_and_a_clip(server: Running) -> None:
    with open(CLIP, "rb") as clip:
        answer = httpx.post(
            f"{server.url}/v1/audio/voices", data={"name": "eve"}, files={"audio_sample": clip}
        )
    assert answer.json()["error"]["code"] == "missing_consent"
    answer = httpx.post(f"{server.url}/v1/audio/voices", data={"name": "eve", "consent": "yes"})
    assert answer.status_code == 400


def test_openais_voices_are_thirteen() -> None:
    assert len(set(OPENAI_VOICES)) == 13


# --- attacks and mistakes -------------------------------------------------------------------

BAD: list[tuple[str, dict[str, Any], int]] = [
    ("no input", {"input": None}, 400),
    ("empty input", {"input": ""}, 400),
    ("white space", {"input": " \n\t"}, 400),
    ("no letter", {"input": "..."}, 400),
    ("a number for a text", {"input": 7}, 400),
    ("a list for a text", {"input": ["a"]}, 400),
    ("huge text", {"input": "a " * 20_000}, 400),
    ("half a surrogate", {"input": "\ud800"}, 400),
    ("unknown model", {"model": "gpt-9"}, 404),
    ("a model that is a path", {"model": "../../etc"}, 404),
    ("a model that is a number", {"model": 3}, 400),
    ("unknown voice", {"voice": "nobody"}, 400),
    *(
        (f"voice {path!r}", {"voice": path}, 400)
        for path in (
            "../anna",
            "/etc/passwd",
            "..",
            ".",
            "anna/../anna",
            "a\\b",
            "anna\0",
            "anna.safetensors/",
            "C:\\x",
            "%2e%2e",
            "https://example.org/x",
            "file:///etc/passwd",
            "~root",
            "a" * 100,
            "",
        )
    ),
    ("voice of a list", {"voice": ["anna"]}, 400),
    ("voice of an empty object", {"voice": {"id": 3}}, 400),
    ("format", {"response_format": "exe"}, 400),
    ("format of a list", {"response_format": ["mp3"]}, 400),
    ("stream format", {"stream_format": "websocket"}, 400),
    ("speed", {"speed": 1.5}, 400),
    ("speed of a text", {"speed": "fast"}, 400),
    ("speed of a bool", {"speed": True}, 400),
    ("temperature", {"temperature": -1}, 400),
    ("temperature of a text", {"temperature": "hot"}, 400),
    ("top_p", {"top_p": 2}, 400),
    ("top_k", {"top_k": 1.5}, 400),
    ("max_tokens", {"max_tokens": 10**9}, 400),
    ("seed", {"seed": -1}, 400),
    ("seed of a float", {"seed": 1.5}, 400),
    ("seed too large", {"seed": 2**64}, 400),
    ("segment_limit", {"segment_limit": 1}, 400),
    ("retries", {"retries": 10**6}, 400),
]


@pytest.mark.parametrize(("fields", "status"), [case[1:] for case in BAD], ids=[c[0] for c in BAD])
def test_bad_fields_are_refused_in_openais_form(
    server: Running, fields: dict[str, Any], status: int
) -> None:
    body = {"input": TEXT, "voice": "anna", "max_tokens": 5, **fields}
    content = json.dumps({k: v for k, v in body.items() if v is not None}).encode()
    answer = httpx.post(f"{server.url}/v1/audio/speech", content=content, timeout=60)
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert error["code"] and error["message"] and error["type"] == "invalid_request_error"
    assert "/" not in error["message"].replace("/v1/audio/voices", "").replace("/v1/models", "")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"input": NaN}']
)
def test_bad_bodies_are_refused(server: Running, content: bytes) -> None:
    answer = httpx.post(f"{server.url}/v1/audio/speech", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_json", "missing_input", "invalid_input")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/audio/speech", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/audio/voices/..%2f..%2fetc%2fpasswd", 404),
        ("DELETE", "/v1/audio/voices/%2e%2e%2fanna", 404),
        ("GET", "/v1/audio/voices/nobody", 404),
        ("POST", "/v1/models", 405),
    ],
)
def test_bad_routes_are_refused(server: Running, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, server.url + path)
    assert answer.status_code == status
    assert "code" in answer.json()["error"]


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".x", "a\0b", "x" * 65])
def test_a_voice_is_never_kept_outside_of_its_folder(
    server: Running, folder: Path, name: str
) -> None:
    before = sorted(folder.parent.rglob("*"))
    with open(CLIP, "rb") as clip:
        answer = httpx.post(
            f"{server.url}/v1/audio/voices",
            data={"name": name, "consent": "yes"},
            files={"audio_sample": clip},
            timeout=60,
        )
    assert 400 <= answer.status_code < 500
    assert sorted(folder.parent.rglob("*")) == before


def test_a_clip_that_is_no_audio_is_refused(server: Running) -> None:
    for content in (b"", b"hello " * 100, b"RIFF\0\0\0\0WAVE", b"PK\x03\x04" + bytes(1000)):
        answer = httpx.post(
            f"{server.url}/v1/audio/voices",
            data={"name": "mallory", "consent": "yes"},
            files={"audio_sample": content},
            timeout=60,
        )
        assert answer.status_code == 400, answer.text
        assert "/tmp" not in answer.text


def test_limits_keys_hosts_and_queue(model: ChatterboxTurbo, folder: Path) -> None:
    running = Running(
        app_of(model, folder, api_keys=("secret",), max_body=500, max_active=1, max_waiting=0)
    )
    url, key = f"{running.url}/v1/audio/speech", {"Authorization": "Bearer secret"}
    try:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            refused = httpx.post(url, json={"input": TEXT}, headers=header)
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                401,
                "invalid_api_key",
            )
        assert httpx.get(f"{running.url}/health").status_code == 200
        large = httpx.post(url, json={"input": "a" * 600}, headers=key)
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
        other = httpx.get(f"{running.url}/health", headers={"Host": "evil.example"})
        assert other.status_code == 400
        body = {"input": "A sentence. " * 30, "response_format": "pcm", "voice": "anna"}
        with httpx.stream("POST", url, json=body, headers=key, timeout=60) as busy:
            parts = busy.iter_raw()
            next(parts)
            full = httpx.post(url, json={"input": TEXT}, headers=key)
            assert full.status_code == 429, full.text[:200]
            assert (full.status_code, full.headers["retry-after"]) == (429, "5")
        deadline, freed = time.monotonic() + 10, False
        while not freed and time.monotonic() < deadline:
            again = httpx.post(url, json={"input": TEXT, **OPTIONS}, headers=key, timeout=60)
            freed = again.status_code == 200
            time.sleep(0.1)
        assert freed, "the place of a listener who left was not freed"
    finally:
        running.stop()


def test_a_listener_who_leaves_frees_its_place(server: Running, model: ChatterboxTurbo) -> None:
    scheduler = model._speaking._scheduler
    body = {"input": "One sentence. " * 40, "voice": "anna", "response_format": "pcm"}
    with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=body, timeout=60) as answer:
        parts = answer.iter_raw()
        next(parts)
        assert len(scheduler._sessions) == 1
    deadline = time.monotonic() + 10
    while scheduler._sessions and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not scheduler._sessions


def test_listeners_at_once_hear_what_each_would_alone(server: Running) -> None:
    texts = [f"Listener number {index}, hello." for index in range(6)]
    alone = [speak(server, input=text, response_format="pcm").content for text in texts]
    together: list[bytes] = [b""] * len(texts)
    health: list[float] = []

    def listen(index: int) -> None:
        together[index] = speak(server, input=texts[index], response_format="pcm").content

    threads = [threading.Thread(target=listen, args=(index,)) for index in range(len(texts))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        started = time.monotonic()
        assert httpx.get(f"{server.url}/health").status_code == 200
        health.append(time.monotonic() - started)
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        difference = np.frombuffer(one, "<i2").astype(int) - np.frombuffer(other, "<i2")
        assert np.abs(difference).max() < 70
    assert np.median(health) < 0.5


def test_metrics_and_the_page(server: Running) -> None:
    text = httpx.get(f"{server.url}/metrics").text
    for name in ("requests_total", "audio_seconds_total", "first_audio_seconds", "queue", "active"):
        assert f"mlx_audio_turbo_{name}" in text
    page = httpx.get(f"{server.url}/").text
    assert "<textarea" in page and "http://" not in page.replace("http://www.w3.org", "")
    options = {o["name"]: o for o in httpx.get(f"{server.url}/v1/options").json()["options"]}
    assert options["temperature"]["minimum"] == 0 and "batch_size" not in options


def test_what_encodes_is_imported_on_another_thread(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    real = speaking.import_encoders

    def noted() -> None:
        threads.append(threading.current_thread().name)
        real()

    monkeypatch.setattr(speaking, "import_encoders", noted)
    assert speak(server, response_format="mp3").status_code == 200
    assert threads and all("AnyIO" in name for name in threads), threads
