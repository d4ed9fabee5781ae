"""Clips as people have them: formats, rates, channels, an hour; and what is said about them."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import AudioError, OptionError
from mlx_audio_turbo.audio import clip_checks, decoding
from mlx_audio_turbo.audio.files import encode_audio, load_audio, to_int16, write_audio

from .conftest import CLIP

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(CLIP, dtype="float32")[0]


def noise(seconds: float, *, scale: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(round(seconds * RATE)) * scale).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus"])
def test_formats(tmp_path: Path, speech: np.ndarray, suffix: str) -> None:
    path = write_audio(tmp_path / f"clip.{suffix}", speech, RATE)
    read = load_audio(path, sample_rate=RATE)
    assert abs(len(read) - len(speech)) < 0.1 * RATE
    assert np.corrcoef(read[: RATE * 10], speech[: RATE * 10])[0, 1] > 0.9 or suffix == "mp3"


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_rates(tmp_path: Path, rate: int) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(6 * rate) / rate)
    soundfile.write(tmp_path / "clip.wav", tone, rate)
    read = load_audio(tmp_path / "clip.wav", sample_rate=24_000)
    assert len(read) == 6 * 24_000
    spectrum = np.abs(np.fft.rfft(read * np.hanning(len(read))))
    assert abs(np.argmax(spectrum) / 6 - 440) < 1


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels(tmp_path: Path, speech: np.ndarray, channels: int) -> None:
    clip = speech[: 6 * RATE, None] * np.ones(channels)
    soundfile.write(tmp_path / "clip.wav", clip, RATE, "FLOAT")
    read = load_audio(tmp_path / "clip.wav", sample_rate=RATE)
    np.testing.assert_allclose(read, speech[: 6 * RATE], atol=1e-6)


@pytest.mark.parametrize(("rate", "channels"), [(4_000, 1), (384_000, 1), (16_000, 96)])
def test_what_is_no_clip_of_a_voice(tmp_path: Path, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / "clip.wav", np.tile(noise(1)[:, None], channels), rate)
    with pytest.raises(AudioError, match=r"give 8,000|give 1 to 8"):
        load_audio(tmp_path / "clip.wav", sample_rate=24_000)


def test_a_minute_is_taken_whole(tmp_path: Path, speech: np.ndarray) -> None:
    clip = np.tile(speech, 4)[: 60 * RATE]
    path = write_audio(tmp_path / "clip.flac", clip, RATE)
    assert len(load_audio(path, sample_rate=RATE)) == len(clip)


def test_of_a_longer_one_the_best_half_minute(
    tmp_path: Path, speech: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    """Music, then silence, then speech with a hum, then speech: the last is taken."""
    t = np.arange(60 * RATE) / RATE
    chord = np.sin(2 * np.pi * np.array([220, 277, 330])[:, None] * t)
    music = (0.1 * chord.sum(axis=0)).astype(np.float32)
    spoken = np.tile(speech, 3)
    hum = spoken + 0.05 * np.sin(2 * np.pi * 50 * t[: len(spoken)]).astype(np.float32)
    clip = np.concatenate([music, np.zeros(40 * RATE, np.float32), hum, spoken])
    path = write_audio(tmp_path / "clip.flac", clip, RATE)
    part = decoding.read_part(path, None)
    assert len(part.samples) == 30 * RATE
    assert part.start >= (60 + 40) + len(spoken) / RATE - 2
    with caplog.at_level(logging.WARNING):
        load_audio(path, sample_rate=RATE)
    assert "ref_start chooses others" in caplog.text


def test_an_hour(tmp_path: Path, speech: np.ndarray) -> None:
    """In a blink and without an hour's memory."""
    import tracemalloc

    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(230):
            file.write(speech[::2])
    tracemalloc.start()
    part = decoding.read_part(path, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.duration > 3590
    assert len(part.samples) == 30 * 8_000
    assert peak < 60e6


def test_start(tmp_path: Path, speech: np.ndarray) -> None:
    path = write_audio(tmp_path / "clip.flac", np.tile(speech, 4), RATE)
    part = load_audio(path, sample_rate=RATE, start=10.5)
    np.testing.assert_allclose(
        part, np.tile(speech, 4)[round(10.5 * RATE) :][: 30 * RATE], atol=1e-4
    )
    with pytest.raises(AudioError, match="start before that"):
        load_audio(path, sample_rate=RATE, start=100)
    for start in (-1.0, float("nan")):
        with pytest.raises(OptionError, match="0 or more"):
            load_audio(path, sample_rate=RATE, start=start)


def fake_ffmpeg(folder: Path, body: str) -> None:
    script = folder / "ffmpeg"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)


def m4a(folder: Path) -> Path:
    path = folder / "clip.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    return path


def test_m4a_without_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match="install ffmpeg, or convert it") as caught:
        load_audio(m4a(tmp_path), sample_rate=RATE)
    assert "\n" not in str(caught.value)


def test_m4a_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in its place: the last argument is the wav to write."""
    fake_ffmpeg(tmp_path, f'for last; do :; done\ncp "{tmp_path}/real.wav" "$last"')
    write_audio(tmp_path / "real.wav", noise(6), RATE)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert len(load_audio(m4a(tmp_path), sample_rate=RATE)) == 6 * RATE


def test_what_ffmpeg_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(tmp_path, "echo first >&2\necho moov atom not found >&2\nexit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(AudioError, match="moov atom not found"):
        load_audio(m4a(tmp_path), sample_rate=RATE)


def test_a_good_clip_needs_no_word(speech: np.ndarray) -> None:
    assert clip_checks.warnings(speech, RATE) == []
    assert clip_checks.warnings(np.tile(speech[:, None], 2), RATE) == []


def spoilt(speech: np.ndarray) -> dict[str, np.ndarray]:
    t = np.arange(len(speech)) / RATE
    gap = np.zeros(4 * RATE, np.float32)
    chord = sum(np.sin(2 * np.pi * f * t) for f in (220, 277, 330)) / 8
    return {
        "clipped": np.clip(speech * 8, -1, 1),
        "noisy": speech + noise(len(speech) / RATE, scale=0.02),
        "music": (chord * (1 + 0.3 * np.sin(t))).astype(np.float32),
        "steady noise": noise(10),
        "silence": np.concatenate([speech[: 6 * RATE], gap, speech[6 * RATE :]]),
        "only 7.0 s long": speech[: 7 * RATE],
        "s of sound": np.concatenate([speech[: 3 * RATE], np.zeros(9 * RATE, np.float32)]),
    }


@pytest.mark.parametrize(
    "what",
    ["clipped", "noisy", "music", "steady noise", "silence", "only 7.0 s long", "s of sound"],
)
def test_what_spoils_a_voice_is_said(speech: np.ndarray, what: str) -> None:
    said = clip_checks.warnings(spoilt(speech)[what], RATE)
    assert any(what in line for line in said), said
    assert all(";" in line and "\n" not in line for line in said)


def test_the_library_logs_and_does_not_print(
    tmp_path: Path,
    speech: np.ndarray,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write_audio(tmp_path / "clip.wav", spoilt(speech)["clipped"], RATE)
    load_audio(path, sample_rate=RATE)
    assert [record.name.split(".")[0] for record in caplog.records] == ["mlx_audio_turbo"]
    assert str(path) in caplog.text
    assert capfd.readouterr() == ("", "")


def test_integers_are_those_of_the_file() -> None:
    samples = np.concatenate([noise(1, scale=0.5), np.array([1.0, -1.0, 0.99999, 2, -2])])
    samples = samples.astype(np.float32)
    wav = encode_audio(samples, RATE)
    np.testing.assert_array_equal(np.frombuffer(wav[44:], "<i2"), to_int16(samples))
