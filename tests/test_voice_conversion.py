"""Voice conversion: the source's length and tokens, streams, long sources to their end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import AudioError, OptionError, Voice, VoiceConverter, VoiceError
from mlx_audio_turbo.encoders.speech_tokens import EDGE_TOKENS, WINDOW, windows

from .conftest import CLIP
from .helpers import snr

RATE = 16_000


@pytest.fixture(scope="module")
def converter(tiny_folder: Path) -> VoiceConverter:
    return VoiceConverter.from_pretrained(tiny_folder)


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    assert rate == RATE
    return samples[: 3 * RATE]


def test_it_needs_no_language_model(converter: VoiceConverter) -> None:
    assert not hasattr(converter._loaded.networks, "t3")


@pytest.mark.parametrize("seconds", [0.04, 0.5, 1.013, 3.0])
def test_the_length_is_the_sources_rounded_up_to_a_token(
    converter: VoiceConverter, voice: Voice, source: np.ndarray, seconds: float
) -> None:
    samples = source[: round(seconds * RATE)]
    speech = converter.convert(samples, sample_rate=RATE, voice=voice, seed=1)
    frames = len(samples) // 160
    assert len(speech.tokens) == -(-frames // 4)
    assert len(speech.audio) == 960 * len(speech.tokens)
    assert np.isfinite(speech.audio).all()


def test_a_seed_gives_the_same_audio(
    converter: VoiceConverter, voice: Voice, source: np.ndarray
) -> None:
    one, two, other = (
        converter.convert(source, sample_rate=RATE, voice=voice, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.audio, two.audio)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    assert not np.array_equal(one.audio, other.audio)


def test_a_stream_has_the_length_and_the_tokens_of_the_whole(
    converter: VoiceConverter, voice: Voice, source: np.ndarray
) -> None:
    whole = converter.convert(source, sample_rate=RATE, voice=voice, seed=1)
    chunks = list(converter.stream(source, sample_rate=RATE, voice=voice, seed=1))
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len(chunks) > 1
    assert sum(len(chunk.audio) for chunk in chunks) == len(whole.audio)
    np.testing.assert_array_equal(chunks[-1].tokens, whole.tokens)


def test_the_voice_decides_who_speaks(
    converter: VoiceConverter, voice: Voice, source: np.ndarray
) -> None:
    samples, _ = soundfile.read(CLIP, dtype="float32")
    other = converter.encode_voice(samples[4 * RATE : 11 * RATE] * 0.5, sample_rate=RATE)
    one = converter.convert(source, sample_rate=RATE, voice=voice, seed=1)
    two = converter.convert(source, sample_rate=RATE, voice=other, seed=1)
    assert snr(one.audio, two.audio) < 20


@pytest.mark.parametrize("frames", [1, 100, 2999, 3000, 3001, 5201, 5599, 5600, 5601, 8201, 20_000])
def test_windows_cover_a_source_once(frames: int) -> None:
    covered: list[int] = []
    for start, stop in windows(frames):
        assert stop - start <= WINDOW
        tokens = list(range(start // 4, -(-stop // 4)))
        first = EDGE_TOKENS if start else 0
        covered += tokens[first : len(tokens) - (EDGE_TOKENS if stop < frames else 0)]
    assert covered == list(range(-(-frames // 4)))


@pytest.mark.parametrize("seconds", [31, 53])
def test_a_long_source_keeps_its_end(
    converter: VoiceConverter, voice: Voice, source: np.ndarray, seconds: int
) -> None:
    long = np.tile(source, 18)[: seconds * RATE]
    speech = converter.convert(long, sample_rate=RATE, voice=voice, seed=1)
    assert len(speech.tokens) == 25 * seconds
    assert len(speech.audio) == 24_000 * seconds
    assert np.abs(speech.audio[-24_000:]).max() > 0


def test_a_file_is_converted_whole(
    converter: VoiceConverter, voice: Voice, source: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "me.wav"
    soundfile.write(path, np.tile(source, 22), RATE)
    speech = converter.convert(path, voice=voice, seed=1)
    assert len(speech.tokens) == 25 * 66
    assert speech.save(tmp_path / "out.wav").exists()


def test_mistakes_are_told_with_a_remedy(
    converter: VoiceConverter, voice: Voice, source: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(VoiceError, match="give a voice"):
        converter.convert(source, sample_rate=RATE)
    with pytest.raises(VoiceError, match="the voice is a str"):
        converter.convert(source, sample_rate=RATE, voice="anna")  # pyright: ignore
    with pytest.raises(OptionError, match="sample_rate"):
        converter.convert(source, voice=voice)
    with pytest.raises(AudioError, match="silent"):
        converter.convert(np.zeros(RATE, np.float32), sample_rate=RATE, voice=voice)
    with pytest.raises(AudioError, match="shorter than 40 ms"):
        converter.convert(source[:600], sample_rate=RATE, voice=voice)
    with pytest.raises(AudioError, match="does not exist"):
        converter.convert(tmp_path / "no.wav", voice=voice)
    with pytest.raises(OptionError, match="seed is -1"):
        converter.convert(source, sample_rate=RATE, voice=voice, seed=-1)
