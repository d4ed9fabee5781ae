"""The port for Home Assistant, with the client of the Wyoming protocol."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_audio_turbo import ChatterboxTurbo, OptionError, Voice, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16
from mlx_audio_turbo.cli import server as command

from .serving import Running, app_of, free_port

pytest.importorskip("wyoming")

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

TEXT = "Hello there, my dear friend. How are you today?"
ANNA = SynthesizeVoice(name="anna")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    VoiceLibrary(folder).add("anna", voice)
    return folder


@pytest.fixture(scope="module")
def port(model: ChatterboxTurbo, folder: Path) -> Iterator[int]:
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        # The protocol has no seed, and without a limit the untrained model speaks for long.
        plain: Any = ChatterboxTurbo.stream

        def short(self: ChatterboxTurbo, text: Any, **options: Any) -> Any:
            return plain(self, text, **{**options, "seed": 3, "max_tokens": 20})

        patch.setattr(ChatterboxTurbo, "stream", short)
        running = Running(app_of(model, folder, wyoming=("127.0.0.1", port), max_text=600))
        yield port
        running.stop()


def talk(port: int, *events: Any, until: Any = AudioStop) -> list[Event]:
    """What comes after ``events``, up to the first of a type, an error or the end."""

    async def run() -> list[Event]:
        found: list[Event] = []
        async with AsyncTcpClient("127.0.0.1", port) as client:
            for event in events:
                await client.write_event(event if isinstance(event, Event) else event.event())
            while (got := await asyncio.wait_for(client.read_event(), 30)) is not None:
                found.append(got)
                if until.is_type(got.type) or Error.is_type(got.type):
                    break
        return found

    return asyncio.run(run())


def samples(events: list[Event]) -> np.ndarray:
    chunks = [AudioChunk.from_event(each) for each in events if AudioChunk.is_type(each.type)]
    assert {(each.rate, each.width, each.channels) for each in chunks} == {(24_000, 2, 1)}
    return np.frombuffer(b"".join(each.audio for each in chunks), "<i2")


def wanted(model: ChatterboxTurbo, voice: Voice, text: Any) -> np.ndarray:
    chunks = model.stream(text, voice=voice, seed=3, max_tokens=20)
    return to_int16(np.concatenate([chunk.audio for chunk in chunks]))


def test_describe_lists_the_voices(port: int) -> None:
    (event,) = talk(port, Describe(), until=Info)
    (program,) = Info.from_event(event).tts
    assert [each.name for each in program.voices] == ["default", "anna"]
    assert program.supports_synthesize_streaming
    assert {tuple(each.languages) for each in program.voices} == {("en",)}


@pytest.mark.parametrize("named", [None, ANNA, SynthesizeVoice(language="en")])
def test_a_text(port: int, model: ChatterboxTurbo, voice: Voice, named: Any) -> None:
    events = talk(port, Synthesize(text=TEXT, voice=named))
    assert AudioStart.is_type(events[0].type) and AudioStop.is_type(events[-1].type)
    np.testing.assert_array_equal(samples(events), wanted(model, voice, TEXT))


def streamed(text: str, cut: int, *, again: bool) -> list[Any]:
    """What Home Assistant sends for a text that a language model writes."""
    pieces = [SynthesizeChunk(text=text[at : at + cut]) for at in range(0, len(text), cut)]
    whole = [Synthesize(text=text, voice=ANNA)] if again else []
    return [SynthesizeStart(voice=ANNA), *pieces, *whole, SynthesizeStop()]


@pytest.mark.parametrize("again", [True, False])
def test_a_text_in_pieces_is_spoken_once(
    port: int, model: ChatterboxTurbo, voice: Voice, again: bool
) -> None:
    events = talk(port, *streamed(TEXT, 5, again=again), until=SynthesizeStopped)
    kinds = [each.type for each in events]
    assert kinds[0] == "audio-start" and kinds.count("audio-start") == 1
    assert kinds[-2:] == ["audio-stop", "synthesize-stopped"]
    np.testing.assert_array_equal(samples(events), wanted(model, voice, [TEXT]))


def test_texts_one_after_another(port: int, model: ChatterboxTurbo, voice: Voice) -> None:
    once = streamed(TEXT, 9, again=True)
    events = talk(port, *once, Synthesize(text=TEXT, voice=ANNA), Describe(), until=Info)
    audio = samples(events)
    whole, pieces = wanted(model, voice, TEXT), wanted(model, voice, [TEXT])
    np.testing.assert_array_equal(audio, np.concatenate([pieces, whole])[: len(audio)])
    assert len(audio) >= len(pieces)


def test_the_first_sentence_is_heard_before_the_rest_is_written(port: int) -> None:
    events = [SynthesizeStart(voice=ANNA), SynthesizeChunk(text="This is the first one.\n\n")]
    assert AudioChunk.is_type(talk(port, *events, until=AudioChunk)[-1].type)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([Synthesize(text=TEXT, voice=SynthesizeVoice(name="bob"))], "invalid_voice"),
        ([Synthesize(text=TEXT, voice=SynthesizeVoice(name="../anna"))], "invalid_voice"),
        ([Synthesize(text="...")], "invalid_text"),
        ([Synthesize(text="a " * 400)], "text_too_long"),
        ([Synthesize(text="<speak>Hello</speak>")], "unsupported_markup"),
        ([Synthesize(text="Hello.", text_format="ssml")], "unsupported_markup"),
        ([Event("synthesize", {"text": 7})], "invalid_text"),
        ([Event("synthesize", {})], "invalid_event"),
        ([SynthesizeStart(), SynthesizeChunk(text="a " * 400)], "text_too_long"),
        ([SynthesizeStart(), SynthesizeStop()], "invalid_text"),
        ([SynthesizeStart(voice=SynthesizeVoice(name="bob"))], "invalid_voice"),
    ],
)
def test_mistakes_are_told(port: int, events: list[Any], code: str) -> None:
    found = talk(port, *events, until=SynthesizeStopped)
    assert Error.from_event(found[-1]).code == code


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b"{}\n",
        b"\xff\xfe\n",
        b"x" * 200_000,
        json.dumps({"type": "describe", "payload_length": 10**12}).encode() + b"\n",
        json.dumps({"type": "describe", "data_length": -1, "data": 7}).encode() + b"\n",
        json.dumps({"type": "describe", "data_length": 5}).encode() + b"\n[]",
    ],
)
def test_what_is_no_event_ends_the_connection(port: int, content: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass
    assert talk(port, Describe(), until=Info)


def test_a_listener_who_leaves_frees_its_place(port: int, model: ChatterboxTurbo) -> None:
    events = [SynthesizeStart(voice=ANNA), SynthesizeChunk(text="This is one more.\n\n" * 20)]
    talk(port, *events, until=AudioStart)
    scheduler, deadline = model._speaking._scheduler, time.monotonic() + 10

    def busy() -> bool:
        names = [thread.name for thread in threading.enumerate()]
        return bool(scheduler._sessions) or "mlx_audio_turbo_text" in names

    while busy() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not busy()


def test_the_command_checks_the_port(port: int) -> None:
    for arguments, message in (
        (["--wyoming", "0"], "give 1 to 65535"),
        (["--wyoming", str(port)], "cannot be used"),
        (["--wyoming", "9000", "--host", "0.0.0.0", "--api_key", "k"], "add --open"),
    ):
        args = command.parser().parse_args(arguments)
        with pytest.raises(OptionError, match=message):
            command._serve(args)
