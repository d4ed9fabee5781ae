"""The whole path on the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo import AudioError, ChatterboxTurbo, OptionError, TextError, Voice, VoiceError
from mlx_audio_turbo.config import SAMPLE_RATE, SAMPLES_PER_TOKEN
from mlx_audio_turbo.synthesis.noise import NoiseSource, frame_normal

from .conftest import CLIP

TEXT = "Hello there. [laugh]"


def clip(seconds: float) -> np.ndarray:
    """The test clip's start at 24 kHz."""
    from mlx_audio_turbo.audio.files import load_audio

    return load_audio(CLIP, sample_rate=SAMPLE_RATE)[: int(seconds * SAMPLE_RATE)]


def test_same_seed_same_audio(model: ChatterboxTurbo, voice: Voice) -> None:
    first, second, other = (
        model.generate(TEXT, voice=voice, seed=seed, max_tokens=20) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first.audio, second.audio)
    assert not np.array_equal(first.tokens, other.tokens)
    assert first.audio.dtype == np.float32
    assert first.sample_rate == 24_000
    assert 0.01 < first.audio.std() < 0.5
    assert np.abs(first.audio).max() <= 0.99


def test_a_drawn_seed_is_reported(model: ChatterboxTurbo, voice: Voice) -> None:
    speech = model.generate(TEXT, voice=voice, max_tokens=10)
    again = model.generate(TEXT, voice=voice, max_tokens=10, seed=speech.seed)
    np.testing.assert_array_equal(speech.audio, again.audio)


def test_generation_leaves_the_global_generator_alone(model: ChatterboxTurbo, voice: Voice) -> None:
    mx.random.seed(5)
    expected = mx.random.uniform(shape=(4,)).tolist()
    mx.random.seed(5)
    model.generate(TEXT, voice=voice, max_tokens=4, seed=1)
    assert mx.random.uniform(shape=(4,)).tolist() == expected


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_length_is_exact(model: ChatterboxTurbo, voice: Voice, count: int) -> None:
    tokens = np.arange(count, dtype=np.int32)
    audio = model.render(tokens, voice=voice)
    assert audio.shape == (SAMPLES_PER_TOKEN * (count + 3),)


@pytest.mark.parametrize("seconds", [5.02, 5.5, 6.01, 9.99])
def test_odd_prompts_are_trimmed(model: ChatterboxTurbo, seconds: float) -> None:
    """The reference cuts the tokens and leaves an odd mel; its output is then 480 samples short."""
    voice = model.encode_voice(clip(seconds), sample_rate=SAMPLE_RATE)
    assert len(voice.s3gen_prompt_mel) == 2 * len(voice.s3gen_prompt_tokens)
    audio = model.render(np.arange(4), voice=voice)
    assert len(audio) == SAMPLES_PER_TOKEN * 7


def test_special_tokens_are_not_spoken(model: ChatterboxTurbo, voice: Voice) -> None:
    plain = model.render(np.array([5, 6]), voice=voice)
    special = model.render(np.array([5, 6561, 6, 6562]), voice=voice)
    np.testing.assert_array_equal(plain, special)


def test_the_speaker_embedding_uses_the_whole_clip(model: ChatterboxTurbo) -> None:
    """VoiceEncoder gets all of the clip; T3's prompt 15 s of it; S3Gen's prompt 10 s."""
    once, late = clip(15.5), int(15.4 * SAMPLE_RATE)
    whole, changed = np.tile(once, 2), np.tile(once, 2)
    changed[late:] = changed[late:][::-1]
    a, b = (
        model.encode_voice(x, sample_rate=SAMPLE_RATE, normalize_loudness=False)
        for x in (whole, changed)
    )
    assert not np.allclose(a.speaker_embedding, b.speaker_embedding, atol=1e-4)
    np.testing.assert_array_equal(a.t3_prompt_tokens, b.t3_prompt_tokens)
    np.testing.assert_array_equal(a.s3gen_prompt_mel, b.s3gen_prompt_mel)
    assert len(a.t3_prompt_tokens) == 375
    assert len(a.s3gen_prompt_tokens) == 250


def test_a_short_clip_gives_a_short_prompt(model: ChatterboxTurbo) -> None:
    assert len(model.encode_voice(clip(6), sample_rate=SAMPLE_RATE).t3_prompt_tokens) == 150


def test_file_and_array_agree(model: ChatterboxTurbo, voice: Voice) -> None:
    assert model.encode_voice(clip(60), sample_rate=SAMPLE_RATE) == voice


def test_voices_do_not_mix(model: ChatterboxTurbo, voice: Voice) -> None:
    """The voice is passed in; a call with another one in between changes nothing."""
    other = model.encode_voice(clip(7)[::-1].copy(), sample_rate=SAMPLE_RATE)
    before = model.generate(TEXT, voice=voice, seed=1, max_tokens=8)
    between = model.generate(TEXT, voice=other, seed=1, max_tokens=8)
    after = model.generate(TEXT, voice=voice, seed=1, max_tokens=8)
    np.testing.assert_array_equal(before.audio, after.audio)
    assert not np.array_equal(before.audio, between.audio)


def test_noise_belongs_to_its_frame() -> None:
    key = mx.random.key(3)
    whole = np.array(frame_normal(key, 0, 300, 4))
    for start, frames in ((0, 10), (63, 2), (64, 64), (100, 200), (299, 1)):
        window = np.array(frame_normal(key, start, frames, 4))
        np.testing.assert_array_equal(window, whole[start : start + frames])
    assert abs(whole.mean()) < 0.1
    assert abs(whole.std() - 1) < 0.1
    assert not np.array_equal(whole[:64], whole[64:128])


def test_noise_that_windows_share_is_drawn_once_and_is_the_same() -> None:
    whole = np.array(NoiseSource(mx.random.key(2)).source(0, 200, 8))
    draws, drawn = NoiseSource(mx.random.key(2)), []
    with mock.patch.object(mx.random, "normal", side_effect=mx.random.normal) as normal:
        for start, frames in ((0, 40), (30, 50), (70, 130)):
            window = np.array(draws.source(start, frames, 8))
            first, last = 480 * start, 480 * (start + frames)
            np.testing.assert_array_equal(window, whole[:, first:last])
            drawn.append(normal.call_count)
    assert drawn == [1, 2, 4]  # blocks of 64 frames
    assert draws.source(190, 10, 4).shape == (1, 4_800, 5)


def test_streams_of_one_seed_differ() -> None:
    draws = NoiseSource(mx.random.key(0))
    flow, source = np.array(draws.flow(0, 9, 80)), np.array(draws.source(0, 9, 8))
    assert flow.shape == (1, 9, 80)
    assert source.shape == (1, 9 * 480, 9)
    assert not np.array_equal(flow.ravel()[:80], source.ravel()[:80])
    phases = np.array(draws.phases(8))
    assert phases[0, 0] == 0
    assert np.abs(phases).max() <= np.pi
    assert len(np.unique(phases)) == 9


@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_short_clips_are_refused(model: ChatterboxTurbo, seconds: float) -> None:
    with pytest.raises(AudioError, match=f"{seconds:.2f} s"):
        model.encode_voice(clip(seconds), sample_rate=SAMPLE_RATE)


def test_bad_samples_are_refused(model: ChatterboxTurbo) -> None:
    noise = clip(6)
    with pytest.raises(OptionError, match="sample_rate"):
        model.encode_voice(noise)
    noise[100] = np.nan
    with pytest.raises(AudioError, match="NaN"):
        model.encode_voice(noise, sample_rate=SAMPLE_RATE)
    with pytest.raises(AudioError, match="silent"):
        model.encode_voice(np.zeros(200_000, np.float32), sample_rate=SAMPLE_RATE)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"temperature": -1.0}, OptionError),
        ({"top_p": 1.5}, OptionError),
        ({"top_k": -1}, OptionError),
        ({"repetition_penalty": 0.0}, OptionError),
        ({"max_tokens": 0}, OptionError),
        ({"max_tokens": 1001}, OptionError),
        ({"seed": -1}, OptionError),
        ({"voice": None}, VoiceError),
        ({"ref_audio": CLIP}, VoiceError),
    ],
)
def test_bad_options_are_refused(
    model: ChatterboxTurbo, voice: Voice, options: dict[str, Any], error: type[Exception]
) -> None:
    given: dict[str, Any] = {"voice": voice, **options}
    with pytest.raises(error):
        model.generate(TEXT, **given)


def test_empty_text_is_refused(model: ChatterboxTurbo, voice: Voice) -> None:
    for text in ("", "   \n"):
        with pytest.raises(TextError):
            model.generate(text, voice=voice)


def test_a_voice_of_another_family_is_refused(model: ChatterboxTurbo, voice: Voice) -> None:
    import dataclasses

    with pytest.raises(VoiceError, match="other"):
        model.generate(TEXT, voice=dataclasses.replace(voice, family="other"))


def test_tags(model: ChatterboxTurbo) -> None:
    assert len(model.tags) == 19
    assert {"[laugh]", "[clear throat]", "[angry]"} <= set(model.tags)
    assert not model.trained


def test_save(model: ChatterboxTurbo, voice: Voice, tmp_path: Path) -> None:
    import soundfile

    speech = model.generate(TEXT, voice=voice, seed=2, max_tokens=6)
    path = speech.save(tmp_path / "out.wav")
    read, rate = soundfile.read(path, dtype="float32")
    assert rate == 24_000
    assert len(read) == len(speech.audio) == round(speech.duration * 24_000)
    np.testing.assert_allclose(read, speech.audio, atol=1 / 32_000)
    assert [p.name for p in tmp_path.iterdir()] == ["out.wav"]
