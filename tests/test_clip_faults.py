"""Clips as they come: wrong headers, pipes, odd codecs, channels and offsets."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import AudioError
from mlx_audio_turbo.audio import clip_quality, decoders, headers, mp3_frames
from mlx_audio_turbo.audio.files import check_samples, load_audio

from .conftest import CLIP

RATE = 16_000
SECONDS = 8


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    assert rate == RATE
    return samples[: SECONDS * RATE]


@pytest.fixture
def wav(tmp_path: Path, speech: np.ndarray) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, speech, RATE)
    return path


def seconds(path: Path) -> float:
    return len(load_audio(path, sample_rate=RATE)) / RATE


@pytest.mark.parametrize("stated", [0, 1000, 0xFFFFFFFF, 10**9])
def test_a_wav_is_read_whole_whatever_length_its_header_states(
    wav: Path, stated: int, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(wav.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", stated)
    wav.write_bytes(content)
    assert seconds(wav) == SECONDS
    assert "has a header that does not fit its content" in caplog.text


FIELDS = {
    "RF64": (28, "<Q"),
    "AIFF": (b"SSND", ">I"),
    "AU": (8, ">I"),
    "CAF": (b"data", ">Q"),
    "WAV": (b"data", "<I"),
    "WAVEX": (b"data", "<I"),
}


@pytest.mark.parametrize("container", FIELDS)
@pytest.mark.parametrize("stated", [0, 1000, 10**9])
def test_every_container_is_read_whole_whatever_length_its_header_states(
    tmp_path: Path, speech: np.ndarray, container: str, stated: int
) -> None:
    path = tmp_path / "clip"
    soundfile.write(path, speech, RATE, format=container)
    content = bytearray(path.read_bytes())
    mark, field = FIELDS[container]
    at = mark if isinstance(mark, int) else content.index(mark) + 4
    struct.pack_into(field, content, at, stated)
    path.write_bytes(content)
    assert seconds(path) == SECONDS


def test_a_big_endian_wav_is_read_whole(tmp_path: Path, speech: np.ndarray) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, speech, RATE, endian="BIG")
    content = bytearray(path.read_bytes())
    assert content[:4] == b"RIFX"
    struct.pack_into(">I", content, 40, 0)
    path.write_bytes(content)
    assert seconds(path) == SECONDS


def flac(path: Path, samples: np.ndarray, stated: int | None = None) -> bytes:
    soundfile.write(path, samples, RATE, format="FLAC")
    content = bytearray(path.read_bytes())
    if stated is not None:
        fields = int.from_bytes(content[18:26], "big")
        content[18:26] = (fields & ~((1 << 36) - 1) | stated).to_bytes(8, "big")
        path.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize("stated", [0, 16_000, 10**8])
@pytest.mark.parametrize("samples", [SECONDS * RATE, 6 * RATE + 123])
def test_a_flac_is_read_whole_whatever_length_its_header_states(
    tmp_path: Path, speech: np.ndarray, stated: int, samples: int
) -> None:
    path = tmp_path / "clip.flac"
    flac(path, speech[:samples], stated)
    read = load_audio(path, sample_rate=RATE)
    np.testing.assert_allclose(read, speech[:samples], atol=1e-4)


@pytest.mark.parametrize("tag", [b"", b"TAG" + bytes(125)])
def test_a_tagged_flac_without_a_length_is_read_whole(
    tmp_path: Path, speech: np.ndarray, tag: bytes
) -> None:
    path = tmp_path / "clip.flac"
    path.write_bytes(b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + flac(path, speech, 0) + tag)
    assert seconds(path) == SECONDS


def test_a_flac_that_was_cut_off_gives_what_is_there(
    tmp_path: Path, speech: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "clip.flac"
    content = flac(path, speech)
    path.write_bytes(content[: len(content) * 3 // 4])
    read = load_audio(path, sample_rate=RATE)
    assert 5 * RATE < len(read) < 7 * RATE
    np.testing.assert_allclose(read, speech[: len(read)], atol=1e-4)
    assert "does not fit its content" in caplog.text


@pytest.mark.parametrize("kind", ["FLAC", "VORBIS", "OPUS"])
def test_joined_flac_and_ogg_files_are_read_to_the_end(
    tmp_path: Path, speech: np.ndarray, kind: str
) -> None:
    path = tmp_path / "clip"
    if kind == "FLAC":
        flac(path, speech)
    else:
        soundfile.write(path, speech, RATE, format="OGG", subtype=kind)
    path.write_bytes(path.read_bytes() * 3)
    assert abs(seconds(path) - 3 * SECONDS) < 0.1


@pytest.mark.parametrize("kind", ["FLAC", "MP3"])
def test_damage_inside_a_file_is_told(
    tmp_path: Path, speech: np.ndarray, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "clip"
    soundfile.write(path, speech, RATE, format=kind)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(content)
    try:
        load_audio(path, sample_rate=RATE)
        told = caplog.text
    except AudioError as error:
        told = str(error)
    assert "damaged" in told


def test_mp3s_of_two_kinds_in_a_file_are_told(
    tmp_path: Path, speech: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    mp3(tmp_path / "one.mp3", speech, "CONSTANT")
    soundfile.write(tmp_path / "two.mp3", speech, 44_100)
    path = tmp_path / "both.mp3"
    path.write_bytes((tmp_path / "one.mp3").read_bytes() + (tmp_path / "two.mp3").read_bytes())
    load_audio(path, sample_rate=RATE)
    assert "holds recordings of several kinds" in caplog.text


@pytest.mark.parametrize("decoder", ["PyAV", "ffmpeg"])
def test_no_decoder_follows_what_a_file_names(
    tmp_path: Path, speech: np.ndarray, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Playlists with a zero byte in them, which are no text, of a file that could be read."""
    if decoder == "PyAV":
        pytest.importorskip("av")
    elif shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    monkeypatch.setattr(decoders, "_has_av", lambda: decoder == "PyAV")
    other = tmp_path / "other.wav"
    soundfile.write(other, speech, RATE)
    lists = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other.name}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {other.name}\n",
    ]
    for text in lists:
        path = tmp_path / "list.wav"
        path.write_bytes(text.encode() + b"\0")
        with pytest.raises(AudioError, match="cannot be read as audio"):
            load_audio(path, sample_rate=RATE)


def test_chunks_after_the_samples_are_no_samples(wav: Path) -> None:
    wav.write_bytes(wav.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"abcd")
    assert seconds(wav) == SECONDS
    assert headers.recordings(wav) == []


def test_recordings_one_after_another_in_a_file_are_all_read(wav: Path, tmp_path: Path) -> None:
    wav.write_bytes(wav.read_bytes() * 3)
    assert seconds(wav) == 3 * SECONDS


def mp3(path: Path, samples: np.ndarray, bitrate_mode: str) -> None:
    with soundfile.SoundFile(
        path, "w", RATE, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=bitrate_mode
    ) as file:
        file.write(samples)


def without_frame_count(content: bytes) -> bytes:
    """An mp3 as a stream recorder writes it: without the frame that states the length."""
    at = max(content.find(b"Xing"), content.find(b"Info"))
    start = content.rfind(b"\xff", 0, at - 4)
    header = int.from_bytes(content[start : start + 4], "big")
    return content[start + mp3_frames._frame_length(header) :]


def test_an_mp3_without_a_length_is_read_to_its_end(tmp_path: Path, speech: np.ndarray) -> None:
    quiet_then_loud = np.concatenate([np.zeros(4 * RATE, np.float32), speech])
    path = tmp_path / "clip.mp3"
    mp3(path, quiet_then_loud, "VARIABLE")
    whole = seconds(path)
    path.write_bytes(without_frame_count(path.read_bytes()))
    assert abs(soundfile.info(path).duration - whole) > 0.5, "the library guesses right by itself"
    assert abs(seconds(path) - whole) < 0.15


def test_joined_mp3_files_are_read_to_the_end(tmp_path: Path, speech: np.ndarray) -> None:
    path = tmp_path / "clip.mp3"
    mp3(path, speech, "CONSTANT")
    path.write_bytes(path.read_bytes() + b"ID3\x04\0\0\0\0\0\x05abcde" + path.read_bytes())
    assert abs(seconds(path) - 2 * SECONDS) < 0.5


@pytest.mark.parametrize(
    ("subtype", "container"),
    [
        ("GSM610", "WAV"),
        ("ULAW", "WAV"),
        ("IMA_ADPCM", "WAV"),
        ("PCM_24", "AIFF"),
        ("DOUBLE", "WAV"),
        ("PCM_U8", "WAV"),
        ("PCM_16", "CAF"),
        ("PCM_16", "RF64"),
        ("OPUS", "OGG"),
    ],
)
@pytest.mark.parametrize("start", [None, 2.0])
def test_codecs_that_cannot_seek_are_read_like_others(
    tmp_path: Path, speech: np.ndarray, subtype: str, container: str, start: float | None
) -> None:
    path = tmp_path / "clip.sound"
    soundfile.write(path, speech, RATE, subtype=subtype, format=container)
    read = load_audio(path, sample_rate=RATE, start=start)
    assert abs(len(read) / RATE - (SECONDS - (start or 0))) < 0.1


def test_a_long_clip_that_cannot_seek_gives_its_best_part(
    tmp_path: Path, speech: np.ndarray
) -> None:
    path = tmp_path / "mail.wav"
    soundfile.write(path, np.tile(speech, 9), RATE, subtype="GSM610")
    assert len(load_audio(path, sample_rate=RATE)) == 30 * RATE


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_a_pipe_is_read_like_a_file(tmp_path: Path, speech: np.ndarray, kind: str) -> None:
    soundfile.write(tmp_path / "clip", speech, RATE, format=kind)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = (tmp_path / "clip").read_bytes()
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    read = load_audio(pipe, sample_rate=RATE)
    writer.join()
    assert abs(len(read) / RATE - SECONDS) < 0.1


@pytest.mark.parametrize("suffix", [".raw", ".pcm", ".txt", ".mp3", ""])
def test_the_name_of_a_clip_decides_nothing(wav: Path, suffix: str) -> None:
    other = wav.with_name(f"take1{suffix}")
    shutil.copy(wav, other)
    assert seconds(other) == SECONDS


@pytest.mark.parametrize("suffix", [".raw", ".pcm", ".wav"])
def test_samples_without_a_header_are_refused(
    tmp_path: Path, speech: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes((speech * 30_000).astype("<i2").tobytes())
    with pytest.raises(AudioError, match=r"cannot be read as audio|needs a decoder|no sound in it"):
        load_audio(path, sample_rate=RATE)


@pytest.mark.parametrize(
    "text", ["#EXTM3U\nhttp://example.org/a.ts\n", "hello " * 99, "[playlist]"]
)
def test_text_is_not_handed_to_other_decoders(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text(text)
    with pytest.raises(AudioError, match="Format not recognised"):
        load_audio(path, sample_rate=RATE)


CHANNELS: dict[str, tuple[Callable[[np.ndarray], list[np.ndarray]], str]] = {
    "inverted": (lambda x: [x, -x], "cancel each other"),
    "nearly inverted": (lambda x: [x, -0.98 * x], "cancel each other"),
    "inverted of four": (lambda x: [x, -x, x, -x], "cancel each other"),
    "one empty": (lambda x: [x, 0 * x], "2 is empty"),
    "centre only": (lambda x: [0 * x, 0 * x, x, 0 * x, 0 * x, 0 * x], "empty and left out"),
}


@pytest.mark.parametrize("kind", CHANNELS)
def test_the_useful_channel_is_taken(
    speech: np.ndarray, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, message = CHANNELS[kind]
    mono = check_samples(np.stack(make(speech), axis=1), "clip")
    np.testing.assert_allclose(mono, speech, atol=1e-6)
    assert message in caplog.text


def test_ordinary_stereo_is_the_mean_of_its_channels(
    speech: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    right = 0.5 * np.roll(speech, 40)
    mono = check_samples(np.stack([speech, right], axis=1), "clip")
    np.testing.assert_allclose(mono, (speech + right) / 2, atol=1e-6)
    assert not caplog.text


@pytest.mark.parametrize("offset", [0.01, -0.05, 0.2])
def test_a_dc_offset_is_removed_and_told(
    speech: np.ndarray, offset: float, caplog: pytest.LogCaptureFixture
) -> None:
    mono = check_samples(speech + np.float32(offset), "clip")
    np.testing.assert_allclose(mono, speech - speech.mean(), atol=1e-5)
    assert "has a DC offset" in caplog.text


def test_a_clip_without_an_offset_stays_bit_equal(speech: np.ndarray) -> None:
    np.testing.assert_array_equal(check_samples(speech, "clip"), speech)


@pytest.mark.parametrize("level", [-70, -50, -42])
def test_room_noise_before_the_speech_is_told(speech: np.ndarray, level: float) -> None:
    noise = np.random.default_rng(0).standard_normal(9 * RATE).astype(np.float32)
    clip = np.concatenate([10 ** (level / 20) * noise, speech])
    assert any("begins with 9." in each for each in clip_quality.warnings(clip, RATE))


@pytest.mark.parametrize("below", [16, 21, 26, 35])
@pytest.mark.parametrize("pauses", ["noisy", "digital silence"])
@pytest.mark.parametrize("colour", ["white", "brown"])
def test_steady_noise_before_the_speech_is_told_however_loud(
    speech: np.ndarray, below: float, pauses: str, colour: str
) -> None:
    """The level of the pauses between words says nothing about the room before them."""
    noise = np.random.default_rng(0).standard_normal(9 * RATE)
    if colour == "brown":
        spectrum = np.fft.rfft(noise)
        frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
        spectrum[frequency < 60] = 0
        spectrum[1:] /= frequency[1:]
        noise = np.fft.irfft(spectrum, len(noise))
    loud = np.sqrt(np.mean(speech**2)) * 10 ** (-below / 20)
    noise = (noise * loud / np.std(noise)).astype(np.float32)
    voice = speech if pauses == "noisy" else np.where(np.abs(speech) < 0.003, 0, speech)
    clip = np.concatenate([noise, voice])
    assert any("begins with" in each for each in clip_quality.warnings(clip, RATE))
    late = np.concatenate([voice, noise, voice])
    assert any("without speech at a stretch" in each for each in clip_quality.warnings(late, RATE))


def test_a_hum_is_told(speech: np.ndarray) -> None:
    hum = 0.3 * np.sin(2 * np.pi * 50 * np.arange(len(speech)) / RATE).astype(np.float32)
    assert any("hum or rumble" in each for each in clip_quality.warnings(speech + hum, RATE))


def test_a_film_is_read(tmp_path: Path, wav: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "talk.avi"
    with av.open(str(path), "w", format="avi") as out, av.open(str(wav)) as source:
        sound = out.add_stream("mp3", rate=RATE)
        for frame in source.decode(audio=0):
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    assert abs(seconds(path) - SECONDS) < 0.2


def test_no_file_stays_open(wav: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(wav.read_bytes()[:30])
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("the number of open files is not known here")
    before = len(list(folder.iterdir()))
    for _ in range(5):
        seconds(wav)
        with pytest.raises(AudioError):
            seconds(broken)
    assert len(list(folder.iterdir())) <= before


def test_warnings_are_logged_with_the_path(wav: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        seconds(wav)
    assert str(wav) in caplog.text  # 8 s are short
