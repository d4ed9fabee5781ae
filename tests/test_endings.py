"""Trimming on signals like speech, and the watchdog on made-up tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlx_audio_turbo.audio.trimming import fade_out, speech_end
from mlx_audio_turbo.config import SILENCE
from mlx_audio_turbo.errors import AudioError, OptionError
from mlx_audio_turbo.options import TrimOptions, WatchdogOptions
from mlx_audio_turbo.synthesis.watchdog import Verdict, Watchdog

RATE = 24_000
MARGIN = round(0.2 * RATE)
FRAME = round(0.02 * RATE)


def speech(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """A 120 Hz buzz with noise, in syllables of 4 Hz that never fall silent."""
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12))
    noise = np.random.default_rng(seed).standard_normal(len(time))
    envelope = 0.6 + 0.4 * np.cos(2 * np.pi * 4 * time)
    return (level * envelope * (buzz + 0.2 * noise)).astype(np.float32)


def noise(seconds: float, db: float, seed: int = 1) -> np.ndarray:
    """White noise at ``db`` against full scale; speech is near -20."""
    drawn = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (10 ** (db / 20) * drawn).astype(np.float32)


def hum(seconds: float, db: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (10 ** (db / 20) * np.sqrt(2) * np.sin(2 * np.pi * 50 * time)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def kept(*parts: np.ndarray, **options: float) -> int:
    return speech_end(np.concatenate(parts), sample_rate=RATE, options=TrimOptions(**options))


@pytest.mark.parametrize("level", [0.001, 0.1, 0.9])
@pytest.mark.parametrize(
    "tail",
    [silence(3), noise(3, -65), noise(30, -65), hum(3, -65), noise(0.5, -65)],
    ids=["silence", "noise", "long noise", "hum", "short noise"],
)
def test_the_tail_goes_but_for_the_margin(tail: np.ndarray, level: float) -> None:
    body = speech(1.5, level)
    tail = tail * level / 0.1  # everything is relative to the utterance
    assert abs(kept(body, tail) - (len(body) + MARGIN)) <= FRAME


def test_options_move_the_cut() -> None:
    body = speech(2)
    for margin in (0.0, 0.5):
        assert abs(kept(body, silence(2), margin=margin) - len(body) - margin * RATE) <= FRAME
    murmur = noise(1, -60)
    assert abs(kept(body, murmur, silence(2)) - (len(body) + MARGIN)) <= FRAME
    longer = kept(body, murmur, silence(2), threshold_db=-45)
    assert abs(longer - (len(body) + len(murmur) + MARGIN)) <= FRAME


@pytest.mark.parametrize("pause", [0.3, 1.04, 4.0])
@pytest.mark.parametrize("last", [0.2, 2.0])
def test_a_pause_inside_is_kept(pause: float, last: float) -> None:
    parts = [speech(2), noise(pause, -70), speech(last), silence(1)]
    length = sum(map(len, parts[:3]))
    assert abs(kept(*parts) - (length + MARGIN)) <= FRAME


def test_speech_up_to_the_end_is_kept_to_the_sample() -> None:
    for extra in (0, 1, FRAME - 1):
        body = speech(2)[extra:]
        assert kept(body, margin=0.0) == len(body)
        assert kept(body) == len(body)


def test_a_weak_last_consonant_is_kept() -> None:
    parts = [speech(2), noise(0.15, -46), silence(2)]
    assert kept(*parts) >= len(parts[0]) + len(parts[1]) + MARGIN - FRAME


def test_a_click_is_not_speech() -> None:
    click = np.zeros(round(0.005 * RATE), np.float32) + 0.9
    body = speech(1)
    assert kept(body, silence(2), click, silence(1)) <= len(body) + MARGIN + FRAME
    loud = np.concatenate([click, silence(0.5), body, silence(2)])
    assert abs(kept(loud) - (len(loud) - 2 * RATE + MARGIN)) <= FRAME


def test_a_click_hides_no_quiet_end() -> None:
    click = np.zeros(round(0.005 * RATE), np.float32) + 0.9
    parts = [click, speech(1), speech(0.5, level=0.005), silence(1)]
    assert abs(kept(*parts) - (sum(map(len, parts[:3])) + MARGIN)) <= FRAME


def test_no_more_is_kept_than_there_is() -> None:
    body = np.concatenate([speech(1), silence(0.1)])
    assert kept(body) == len(body)


@pytest.mark.parametrize(
    "audio", [silence(1), noise(1, -60), hum(2, -30), silence(0), silence(0.01)]
)
def test_audio_without_speech_is_kept_whole(audio: np.ndarray) -> None:
    assert speech_end(audio, sample_rate=RATE) == len(audio)


def test_trim_refuses_what_makes_no_sense() -> None:
    with pytest.raises(AudioError, match="one channel"):
        speech_end(np.zeros((2, 100), np.float32), sample_rate=RATE)
    for options in ({"margin": -0.1}, {"threshold_db": 0.0}, {"margin": float("nan")}):
        with pytest.raises(OptionError, match="give"):
            TrimOptions(**options)
    with pytest.raises(OptionError, match="0 Hz"):
        speech_end(silence(1), sample_rate=0)


def test_a_fade_ends_at_zero_and_leaves_the_rest() -> None:
    audio = speech(1) + np.float32(0.5)
    before = audio.copy()
    faded = fade_out(audio, sample_rate=RATE, seconds=0.005)
    assert faded.dtype == np.float32
    np.testing.assert_array_equal(audio, before)
    np.testing.assert_array_equal(faded[:-120], audio[:-120])
    gain = faded[-120:] / audio[-120:]
    assert faded[-1] == 0
    assert gain[0] > 0.999
    assert gain[59] == pytest.approx(0.5)
    assert np.all(np.diff(gain) < 0)
    assert len(fade_out(silence(0), sample_rate=RATE)) == 0
    assert fade_out(audio[:10], sample_rate=RATE)[-1] == 0
    np.testing.assert_array_equal(fade_out(audio, sample_rate=RATE, seconds=0), audio)
    with pytest.raises(OptionError, match="fade"):
        fade_out(audio, sample_rate=RATE, seconds=-1)


# --- watchdog -------------------------------------------------------------------------------


def watch(tokens: list[int], options: WatchdogOptions | None = None) -> Verdict | None:
    """The first verdict."""
    dog = Watchdog(options)
    return next((verdict for token in tokens if (verdict := dog.feed(token))), None)


def talk(length: int, seed: int = 0) -> list[int]:
    """Tokens as speech has them: each held for one to four steps."""
    rng = np.random.default_rng(seed)
    tokens: list[int] = []
    while len(tokens) < length:
        tokens += [int(rng.integers(0, 6561))] * int(rng.integers(1, 5))
    return tokens[:length]


def test_speech_is_not_taken_for_a_fault() -> None:
    assert watch(talk(1000)) is None


def test_natural_pauses_are_not_taken_for_a_fault() -> None:
    pause = [SILENCE] * 26
    assert watch((talk(40) + pause) * 10) is None
    assert watch([SILENCE] * 50) is None


def test_a_run_of_one_token_is_found() -> None:
    lead = talk(30)
    assert watch([*lead, *[7] * 25, 8]) is None
    assert watch([*lead, *[7] * 26]) == Verdict("run", start=30, length=26)


def test_a_run_of_silence_is_found() -> None:
    lead = talk(30)
    assert watch([*lead, *[SILENCE] * 51]) == Verdict("silence", start=30, length=51)
    assert watch([*[SILENCE] * 50, 1, *[SILENCE] * 50]) is None


def test_several_ids_of_silence_count_together() -> None:
    tokens = [*talk(10), *[SILENCE, 4218, 4218] * 6]
    assert watch(tokens) is None
    options = WatchdogOptions(max_silence=12, silence=frozenset({SILENCE, 4218}))
    assert watch(tokens, options) == Verdict("silence", start=10, length=13)


@pytest.mark.parametrize("period", range(2, 9))
def test_a_short_cycle_is_found(period: int) -> None:
    lead = talk(30)
    cycle = list(range(1, period + 1))
    tokens = [*lead, *(cycle * 30)]
    assert watch(tokens[:80]) is None
    assert watch(tokens[:81]) == Verdict("cycle", start=30, length=51, period=period)
    assert watch([*tokens[:80], 6000, *tokens[81:111]]) is None


def test_a_cycle_with_silence_in_it_is_found() -> None:
    verdict = watch([5, SILENCE, SILENCE, 6] * 30)
    assert verdict is not None
    assert (verdict.kind, verdict.period) == ("cycle", 4)


def test_a_longer_cycle_is_left_alone() -> None:
    assert watch(list(range(9)) * 20) is None


def test_a_run_is_no_cycle() -> None:
    options = WatchdogOptions(max_run=200)
    assert watch([7] * 200, options) is None
    verdict = watch([7] * 201, options)
    assert verdict is not None
    assert verdict.kind == "run"


def test_a_fault_is_reported_at_every_token_until_it_ends() -> None:
    dog = Watchdog(WatchdogOptions(max_run=3))
    verdicts = [dog.feed(token) for token in [1, 1, 1, 1, 1, 2]]
    assert verdicts[:3] == [None] * 3
    assert [v.length for v in verdicts[3:5] if v] == [4, 5]
    assert verdicts[5] is None


def test_verdicts_are_readable() -> None:
    assert str(Verdict("silence", 25, 51)) == "silence for 2.0 s from 1.0 s on"
    assert str(Verdict("run", 0, 26)) == "one token repeated for 1.0 s from 0.0 s on"
    assert "cycle of 3 tokens" in str(Verdict("cycle", 0, 51, 3))


@pytest.mark.parametrize("bounds", [{"max_run": 0}, {"max_silence": 0}, {"max_cycle": 15}])
def test_bounds_are_checked(bounds: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(bounds))):
        WatchdogOptions(**bounds)
