"""Clips as people have them: formats, rates, channels, an hour; and what is said about them."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import AudioError, OptionError
from mlx_audio_turbo.audio import clip_quality, clip_reader
from mlx_audio_turbo.audio import ffmpeg as ffmpeg_command
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
def test_every_format_is_read(tmp_path: Path, speech: np.ndarray, suffix: str) -> None:
    path = write_audio(tmp_path / f"clip.{suffix}", speech, RATE)
    read = load_audio(path, sample_rate=RATE)
    assert abs(len(read) - len(speech)) < 0.1 * RATE
    assert np.corrcoef(read[: RATE * 10], speech[: RATE * 10])[0, 1] > 0.9 or suffix == "mp3"


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_every_sample_rate_keeps_the_pitch(tmp_path: Path, rate: int) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(6 * rate) / rate)
    soundfile.write(tmp_path / "clip.wav", tone, rate)
    read = load_audio(tmp_path / "clip.wav", sample_rate=24_000)
    assert len(read) == 6 * 24_000
    spectrum = np.abs(np.fft.rfft(read * np.hanning(len(read))))
    assert abs(np.argmax(spectrum) / 6 - 440) < 1


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels_are_mixed(tmp_path: Path, speech: np.ndarray, channels: int) -> None:
    clip = speech[: 6 * RATE, None] * np.ones(channels)
    soundfile.write(tmp_path / "clip.wav", clip, RATE, "FLOAT")
    read = load_audio(tmp_path / "clip.wav", sample_rate=RATE)
    np.testing.assert_allclose(read, speech[: 6 * RATE], atol=1e-6)


@pytest.mark.parametrize(("rate", "channels"), [(4_000, 1), (384_000, 1), (16_000, 96)])
def test_unusable_clips_are_refused(tmp_path: Path, rate: int, channels: int) -> None:
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
    part = clip_reader.read_part(path, None)
    assert len(part.samples) == 30 * RATE
    assert part.start >= (60 + 40) + len(spoken) / RATE - 2
    with caplog.at_level(logging.WARNING):
        load_audio(path, sample_rate=RATE)
    assert "ref_start chooses others" in caplog.text


def test_an_hour_takes_little_memory(tmp_path: Path, speech: np.ndarray) -> None:
    """In a blink and without an hour's memory."""
    import tracemalloc

    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(230):
            file.write(speech[::2])
    tracemalloc.start()
    part = clip_reader.read_part(path, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.duration > 3590
    assert len(part.samples) == 30 * 8_000
    assert peak < 60e6


def test_ref_start_chooses_the_part(tmp_path: Path, speech: np.ndarray) -> None:
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


@pytest.fixture
def without_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where PyAV is not installed."""
    monkeypatch.setattr("mlx_audio_turbo.audio.decoders._has_av", lambda: False)


def fake_ffmpeg(folder: Path, body: str) -> None:
    script = folder / "ffmpeg"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)


def m4a(folder: Path) -> Path:
    path = folder / "clip.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    return path


@pytest.mark.usefixtures("without_av")
def test_m4a_without_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("mlx_audio_turbo.audio.ffmpeg.FOLDERS", ())
    path = m4a(tmp_path).rename(tmp_path / "my clip.m4a")
    hint = r"install ffmpeg \(\w+ .*install ffmpeg\) or mlx-audio-turbo"
    with pytest.raises(AudioError, match=hint) as caught:
        load_audio(path, sample_rate=RATE)
    assert "\n" not in str(caught.value)
    # The command may be copied.
    assert "ffmpeg -i 'my clip.m4a' 'my clip.wav'" in str(caught.value)


@pytest.mark.usefixtures("without_av")
def test_m4a_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in its place, that gives a finished file."""
    soundfile.write(tmp_path / "real.au", noise(6), RATE, "PCM_16", "BIG", format="AU")
    fake_ffmpeg(tmp_path, f'cat "{tmp_path}/real.au"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    read = load_audio(m4a(tmp_path), sample_rate=RATE)
    np.testing.assert_allclose(read, noise(6), atol=1e-4)


@pytest.mark.usefixtures("without_av")
def test_ffmpeg_is_found_where_path_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a Mac's Finder or launchd starts has no folder of Homebrew in PATH."""
    assert "/opt/homebrew/bin" in ffmpeg_command.FOLDERS
    soundfile.write(tmp_path / "real.au", noise(6), RATE, "PCM_16", "BIG", format="AU")
    place = tmp_path / "homebrew"
    place.mkdir()
    fake_ffmpeg(place, f'exec /bin/cat "{tmp_path}/real.au"')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ffmpeg_command, "FOLDERS", (str(tmp_path), str(place)))
    assert len(load_audio(m4a(tmp_path), sample_rate=RATE)) == 6 * RATE


@pytest.mark.usefixtures("without_av")
def test_the_message_of_ffmpeg_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = m4a(tmp_path)
    said = f"echo '[mov,mp4 @ 0x55] moov atom not found' >&2; echo '{path}: Invalid' >&2; exit 1"
    fake_ffmpeg(tmp_path, said)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(AudioError, match=r"read as audio \(moov atom not found\)"):
        load_audio(path, sample_rate=RATE)
    fake_ffmpeg(tmp_path, "exit 1")
    with pytest.raises(AudioError, match="ffmpeg failed"):
        load_audio(path, sample_rate=RATE)


real_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def ffmpeg(*arguments: str | Path) -> Path:
    """Runs it; gives what it wrote."""
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *map(str, arguments)], check=True)
    return Path(arguments[-1])


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation where the two fit best."""
    size = 1 << (len(one) + len(other)).bit_length()
    product = np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size))
    return float(np.fft.irfft(product).max() / np.linalg.norm(one) / np.linalg.norm(other))


@real_ffmpeg
@pytest.mark.parametrize("suffix", ["m4a", "aac", "mov", "3gp", "mka", "wma", "mp3", "ogg"])
def test_what_ffmpeg_wrote(
    tmp_path: Path, speech: np.ndarray, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    codec = ("-c:a", "aac") if suffix == "3gp" else ()
    path = ffmpeg("-i", CLIP, *codec, tmp_path / f"clip.{suffix}")
    read = load_audio(path, sample_rate=RATE)
    assert abs(len(read) - len(speech)) < 0.2 * RATE
    assert likeness(read, speech) > 0.97
    assert caplog.text == ""


@real_ffmpeg
@pytest.mark.usefixtures("without_av")
def test_a_video(tmp_path: Path, speech: np.ndarray) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=16")
    path = ffmpeg(*picture, "-i", CLIP, tmp_path / "clip.mp4")
    assert likeness(load_audio(path, sample_rate=RATE), speech) > 0.97
    with pytest.raises(AudioError, match="there is no sound in it"):
        load_audio(ffmpeg(*picture, tmp_path / "mute.mp4"), sample_rate=RATE)


@real_ffmpeg
@pytest.mark.usefixtures("without_av")
def test_a_part_through_ffmpeg(tmp_path: Path, speech: np.ndarray) -> None:
    """The best part and any other are, to the sample, those of a file that libsndfile reads."""
    wav = write_audio(tmp_path / "a.wav", np.concatenate([noise(50), np.tile(speech, 4)]), RATE)
    lossless = ffmpeg("-i", wav, "-c:a", "alac", tmp_path / "a.m4a")
    for start in (None, 0.0, 61.3, 112.0):
        one, other = clip_reader.read_part(wav, start), clip_reader.read_part(lossless, start)
        assert (one.start, one.duration) == (other.start, other.duration)
        np.testing.assert_array_equal(one.samples, other.samples)
    with pytest.raises(AudioError, match="start before that"):
        clip_reader.read_part(lossless, 200)


@real_ffmpeg
@pytest.mark.usefixtures("without_av")
def test_a_recording_that_breaks_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def cut(path: Path) -> np.ndarray:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        return load_audio(path, sample_rate=RATE)

    with pytest.raises(AudioError, match="moov atom not found"):
        cut(ffmpeg("-i", CLIP, tmp_path / "a.m4a"))
    assert 5 * RATE < len(cut(ffmpeg("-i", CLIP, tmp_path / "a.aac"))) < 11 * RATE
    assert "a.aac is damaged (" in caplog.text


@real_ffmpeg
@pytest.mark.usefixtures("without_av")
def test_an_hour_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in memory nor on the disk."""
    import tracemalloc

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    options = ("-ar", "8000", "-c:a", "pcm_mulaw")
    hour = ffmpeg("-stream_loop", "229", "-i", CLIP, *options, tmp_path / "hour.mov")
    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    tracemalloc.start()
    part = clip_reader.read_part(hour, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.duration > 3590
    assert len(part.samples) == 30 * 8_000
    assert peak < 60e6


def test_ffmpeg_ends_with_its_reader(tmp_path: Path, tiny_folder: Path) -> None:
    """The command is terminated while a clip is decoded: here one without an end."""
    noted = tmp_path / "pid"
    head = r".snd\0\0\0\030\377\377\377\377\0\0\0\003\0\0\037\100\0\0\0\001"
    fake_ffmpeg(tmp_path, f"printf '{head}'\necho $$ > '{noted}'\nexec cat /dev/zero")
    code = (
        "import sys; from mlx_audio_turbo.audio import decoders; from mlx_audio_turbo import tts;"
        "decoders._has_av = lambda: False; sys.exit(tts.main())"
    )
    command = [sys.executable, "-c", code, "Hi", "--model", "tiny"]
    child = subprocess.Popen(
        [*command, "--ref_audio", str(m4a(tmp_path)), "--output", str(tmp_path / "out.wav")],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not noted.exists() or not noted.read_text().strip():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    child.terminate()
    assert child.communicate()[1] == b"mlx_audio_turbo.tts: terminated\n"
    while runs(noted.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(pid: str) -> bool:
    """Whether the process is there and no zombie."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True)
    return done.stdout.strip()[:1] not in (b"", b"Z")


def test_a_good_clip_gives_no_warning(speech: np.ndarray) -> None:
    assert clip_quality.warnings(speech, RATE) == []
    assert clip_quality.warnings(speech, RATE, channels=np.tile(speech[:, None], 2)) == []


def spoilt(speech: np.ndarray) -> dict[str, np.ndarray]:
    t = np.arange(len(speech)) / RATE
    gap = np.zeros(4 * RATE, np.float32)
    chord = sum(np.sin(2 * np.pi * f * t) for f in (220, 277, 330)) / 8
    return {
        "clipped": np.clip(speech * 8, -1, 1),
        "noisy": speech + noise(len(speech) / RATE, scale=0.02),
        "music": (chord * (1 + 0.3 * np.sin(t))).astype(np.float32),
        "steady noise": noise(10),
        "4.0 s without speech": np.concatenate([speech[: 6 * RATE], gap, speech[6 * RATE :]]),
        "only 7.0 s long": speech[: 7 * RATE],
        "s of speech": np.concatenate([speech[: 3 * RATE], np.zeros(9 * RATE, np.float32)]),
    }


@pytest.mark.parametrize(
    "what",
    [
        "clipped",
        "noisy",
        "music",
        "steady noise",
        "4.0 s without speech",
        "only 7.0 s long",
        "s of speech",
    ],
)
def test_each_defect_of_a_clip_gives_a_warning(speech: np.ndarray, what: str) -> None:
    said = clip_quality.warnings(spoilt(speech)[what], RATE)
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
    assert {record.name.split(".")[0] for record in caplog.records} == {"mlx_audio_turbo"}
    assert str(path) in caplog.text
    assert capfd.readouterr() == ("", "")


def test_integers_are_those_of_the_file() -> None:
    samples = np.concatenate([noise(1, scale=0.5), np.array([1.0, -1.0, 0.99999, 2, -2])])
    samples = samples.astype(np.float32)
    wav = encode_audio(samples, RATE)
    np.testing.assert_array_equal(np.frombuffer(wav[44:], "<i2"), to_int16(samples))
