"""Chunks by measured speed: played as they come, they leave no gap."""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

import numpy as np
import pytest

from mlx_audio_turbo import ChunkOptions, OptionError, Pace
from mlx_audio_turbo.cli.tts import main
from mlx_audio_turbo.config import TOKENS_PER_SECOND
from mlx_audio_turbo.synthesis import token_to_wav
from mlx_audio_turbo.synthesis.pace import LARGEST, MARGIN
from mlx_audio_turbo.synthesis.token_to_wav import LATENCY_TOKENS
from mlx_audio_turbo.t3.decoder import Decoder

PACES = [
    Pace(token=0.0136, audio=0.0066, chunk=0.75),
    Pace(token=0.002, audio=0.001, chunk=0.08),
    Pace(token=0.02, audio=0.008, chunk=0.3),
    Pace(token=0.001, audio=0.0, chunk=0.0),
]


def gaps(pace: Pace, chunks: ChunkOptions, tokens: int) -> float:
    """Seconds of silence while an utterance plays as its chunks come."""
    now, known, heard, playing_until, silent = 0.0, 0, 0, None, 0.0
    for index in range(tokens):
        due = token_to_wav.tokens_due(index, chunks)
        final = due >= tokens
        needed = min(due, tokens)
        audio = (tokens if final else needed - LATENCY_TOKENS) - heard
        now += (needed - known) * pace.token + pace.chunk + audio * pace.audio
        known, heard = needed, heard + audio
        if playing_until is not None:
            silent += max(0.0, now - playing_until)
        playing_until = max(now, playing_until or 0.0) + audio / TOKENS_PER_SECOND
        if final:
            return silent
    raise AssertionError("the utterance did not end")


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("tokens", [30, 250, 1000])
def test_no_gap_also_on_a_machine_that_is_slower_than_measured(pace: Pace, tokens: int) -> None:
    slower = Pace(*(MARGIN * each for each in (pace.token, pace.audio, pace.chunk)))
    assert gaps(slower, pace.chunks(), tokens) < 1e-9


def test_smaller_chunks_would_leave_a_gap() -> None:
    pace = Pace(token=0.02, audio=0.008, chunk=0.3)
    first = pace.chunks().sizes[0]
    slower = Pace(*(MARGIN * each for each in (pace.token, pace.audio, pace.chunk)))
    assert gaps(slower, ChunkOptions(sizes=(first // 2,)), 1000) > 0.1


def test_sizes_grow_up_to_a_limit() -> None:
    for pace in PACES:
        sizes = pace.chunks().sizes
        assert list(sizes) == sorted(sizes)
        assert sizes[-1] == LARGEST


@pytest.mark.parametrize(
    "pace", [Pace(token=0.05, audio=0.01, chunk=0.1), Pace(token=0.02, audio=0.012, chunk=5.0)]
)
def test_a_slow_machine_is_told_so(pace: Pace) -> None:
    with pytest.raises(OptionError, match="play it when it is whole"):
        pace.chunks()


def test_real_time_factor() -> None:
    assert Pace(token=0.01, audio=0.01, chunk=3.0).real_time_factor == pytest.approx(0.5)


def test_it_measures_decoding_and_rendering_apart(model: Any, voice: Any) -> None:
    plain = model.measure_pace(voice)
    assert plain.token > 0
    assert plain.audio + plain.chunk > 0
    step, push = Decoder.step, token_to_wav.TokenToWav.push

    def slow_step(self: Any) -> Any:
        time.sleep(0.05)
        return step(self)

    def slow_push(self: Any, tokens: Any, *, final: bool) -> Any:
        time.sleep(0.5)
        yield from push(self, tokens, final=final)

    with mock.patch.object(Decoder, "step", slow_step):
        assert model.measure_pace(voice).token > 0.05
    with mock.patch.object(token_to_wav.TokenToWav, "push", slow_push):
        slow = model.measure_pace(voice)
    assert slow.chunk > 0.3
    assert slow.token < 0.05


def test_chunks_of_a_pace_give_the_same_audio_as_the_same_sizes(model: Any, voice: Any) -> None:
    chunks = PACES[1].chunks()
    streams = [
        np.concatenate(
            [each.audio for each in model.stream("One, two.", voice=voice, seed=3, chunks=some)]
        )
        for some in (chunks, ChunkOptions(sizes=chunks.sizes))
    ]
    np.testing.assert_array_equal(streams[0], streams[1])


def test_the_command_measures_first(tmp_path: Any, capsys: Any, voice: Any) -> None:
    path = tmp_path / "speech.wav"
    voice.save(tmp_path / "voice.safetensors")
    arguments = ["A few words.", "--model", "tiny", "--voice", str(tmp_path / "voice.safetensors")]
    arguments += ["--seed", "1", "--max_tokens", "40", "--output", str(path), "--verbose"]
    with mock.patch.object(Pace, "chunks", lambda self: ChunkOptions(sizes=(33,))):
        assert main([*arguments, "--stream", "--steady"]) == 0
    assert "chunks of 33 tokens" in capsys.readouterr().err
    assert path.stat().st_size > 1000


def test_steady_without_a_stream_is_refused(capsys: Any) -> None:
    assert main(["A few words.", "--model", "tiny", "--steady"]) == 2
    assert "give --stream too" in capsys.readouterr().err
