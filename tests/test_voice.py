"""A voice and its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from mlx_audio_turbo import Voice, VoiceError
from mlx_audio_turbo.audio.files import load_audio
from mlx_audio_turbo.encoders.reference_clip import encode, encode_s3gen_prompt
from mlx_audio_turbo.loading.folder import load

from .conftest import CLIP
from .helpers import whole


def test_round_trip(voice: Voice, tmp_path: Path) -> None:
    path = voice.save(tmp_path / "anna.safetensors")
    loaded = Voice.load(path)
    assert loaded == voice
    assert hash(loaded) == hash(voice)
    for field in dataclasses.fields(Voice):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(voice, field.name))
    assert [p.name for p in tmp_path.iterdir()] == ["anna.safetensors"]


def test_names_are_those_of_converted_folders(voice: Voice, tmp_path: Path) -> None:
    with safe_open(voice.save(tmp_path / "v.safetensors"), "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes == {
        "t3.speaker_emb": (1, 256),
        "t3.cond_prompt_speech_tokens": (1, 375),
        "gen.prompt_token": (1, 250),
        "gen.prompt_feat": (1, 500, 80),
        "gen.embedding": (1, 192),
    }


def test_a_voice_cannot_be_changed(voice: Voice) -> None:
    with pytest.raises(ValueError, match="read-only"):
        voice.x_vector[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        voice.family = "x"  # pyright: ignore[reportAttributeAccessIssue]


def test_it_keeps_its_own_copy(voice: Voice) -> None:
    vector = np.ones(192, np.float32)
    copy = dataclasses.replace(voice, x_vector=vector)
    vector[:] = 5
    assert copy.x_vector[0] == 1
    assert copy != voice


def test_damage_is_named(voice: Voice, tmp_path: Path) -> None:
    path = voice.save(tmp_path / "v.safetensors")
    with pytest.raises(VoiceError, match="no voice file"):
        Voice.load(tmp_path / "absent.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VoiceError, match="damaged"):
        Voice.load(path)
    path.write_bytes(b"")
    with pytest.raises(VoiceError, match="damaged"):
        Voice.load(path)


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"x": np.ones(3)}, path)
    with pytest.raises(VoiceError, match="not a voice"):
        Voice.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("x_vector", np.full(192, np.nan, np.float32)),
        ("s3gen_prompt_mel", np.zeros((499, 80), np.float32)),
        ("speaker_embedding", np.zeros((1, 256), np.float32)),
        ("t3_prompt_tokens", np.zeros(0, np.int32)),
    ],
)
def test_impossible_voices_are_refused(voice: Voice, field: str, value: np.ndarray) -> None:
    with pytest.raises(VoiceError):
        dataclasses.replace(voice, **{field: value})


def test_a_failed_save_leaves_no_file(voice: Voice, tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="cannot write"):
        voice.save(tmp_path / "absent" / "v.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_s3gens_half_can_be_encoded_alone(tiny_folder: Path) -> None:
    """Voice conversion needs neither T3's prompt nor the voice encoder."""
    samples = load_audio(CLIP, sample_rate=24_000)
    loaded = load(tiny_folder)
    networks, config = whole(loaded), loaded.config.reference_clip
    listeners = {
        "s3_tokenizer": networks.s3tokenizer,
        "speaker_encoder": networks.s3gen.speaker_encoder,
    }
    voice = encode(
        samples,
        **listeners,
        voice_encoder=networks.ve,
        config=config,
        prompt_tokens=loaded.config.t3.prompt_tokens,
        normalize=False,
        family="x",
    )
    prompt = encode_s3gen_prompt(samples, **listeners, seconds=config.s3gen_prompt_seconds)
    np.testing.assert_array_equal(prompt.tokens, voice.s3gen_prompt_tokens)
    np.testing.assert_array_equal(prompt.mel, voice.s3gen_prompt_mel)
    np.testing.assert_array_equal(prompt.x_vector, voice.x_vector)


def test_tokens_are_whole_numbers_of_the_codebook(voice: Voice) -> None:
    """A cast would make tokens of any number."""
    for tokens in (np.array([1.5]), np.array([2**32 + 5]), np.array([-1]), np.array([6561])):
        with pytest.raises(VoiceError, match="no speech tokens"):
            dataclasses.replace(voice, t3_prompt_tokens=tokens)
