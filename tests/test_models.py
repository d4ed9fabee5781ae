"""What every model does alike: seeds, batches, streams, options, its own kind of folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_audio_turbo import (
    Chatterbox,
    ChatterboxMultilingual,
    ChatterboxTurbo,
    ModelFolderError,
    OptionError,
    Voice,
    VoiceConverter,
    VoiceError,
    load_model,
    speak,
)
from mlx_audio_turbo_convert.door import ensure

from .conftest import CLIP

TEXT = "Hello there, how are you?"
KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "tiny": (ChatterboxTurbo, {}),
    "tiny-original": (Chatterbox, {}),
    "tiny-multilingual": (ChatterboxMultilingual, {"language": "fr"}),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, cache: Path) -> tuple[Any, Voice, dict[str, Any]]:
    """A model, a voice of it, and the options that it needs."""
    owner, options = KINDS[request.param]
    model = owner.from_pretrained(ensure(request.param, cache))
    return model, model.encode_voice(CLIP), {"seed": 1, "max_tokens": 25, **options}


def test_a_seed_gives_the_same_audio(kind: tuple[Any, Voice, dict[str, Any]]) -> None:
    model, voice, options = kind
    one, two = (model.generate(TEXT, voice=voice, **options) for _ in range(2))
    np.testing.assert_array_equal(one.audio, two.audio)
    other = model.generate(TEXT, voice=voice, **{**options, "seed": 2})
    assert not np.array_equal(one.tokens, other.tokens)
    assert np.isfinite(one.audio).all() and one.audio.std() > 0


def test_a_batch_gives_each_text_what_it_gets_alone(
    kind: tuple[Any, Voice, dict[str, Any]],
) -> None:
    model, voice, options = kind
    texts = [TEXT, "Oh.", "What a long and winding sentence this is."]
    for speech in model.generate_batch(texts, voice=voice, **options):
        alone = model.generate(speech.text, voice=voice, **options)
        np.testing.assert_array_equal(speech.tokens, alone.tokens)
        assert len(speech.audio) == len(alone.audio)


def test_a_stream_has_the_tokens_and_the_length_of_the_whole(
    kind: tuple[Any, Voice, dict[str, Any]],
) -> None:
    model, voice, options = kind
    whole = model.generate(TEXT, voice=voice, **options)
    chunks = list(model.stream(TEXT, voice=voice, **options))
    assert sum(len(chunk.audio) for chunk in chunks) == len(whole.audio)
    np.testing.assert_array_equal(chunks[-1].tokens, whole.tokens)


def test_a_text_in_pieces_sounds_like_that_given_whole(
    kind: tuple[Any, Voice, dict[str, Any]],
) -> None:
    model, voice, options = kind
    whole = [chunk.audio for chunk in model.stream(TEXT, voice=voice, **options)]
    pieces = [chunk.audio for chunk in model.stream(iter(TEXT), voice=voice, **options)]
    np.testing.assert_array_equal(np.concatenate(pieces), np.concatenate(whole))


def test_parts_are_the_segments_of_a_text(kind: tuple[Any, Voice, dict[str, Any]]) -> None:
    model, voice, options = kind
    text = "First paragraph.\n\nSecond paragraph."
    whole = model.generate(text, voice=voice, **options)
    parts = list(model.generate_parts(text, voice=voice, **options))
    assert [part.text for part in parts] == text.split("\n\n")
    np.testing.assert_array_equal(np.concatenate([p.tokens for p in parts]), whole.tokens)


def test_an_unknown_option_is_told(kind: tuple[Any, Voice, dict[str, Any]]) -> None:
    model, voice, options = kind
    with pytest.raises(OptionError, match="did you mean temperature"):
        model.generate(TEXT, voice=voice, temprature=1, **options)
    foreign = "cfg_weight" if type(model) is ChatterboxTurbo else "top_k"
    with pytest.raises(OptionError, match=rf"{foreign} is not an option here"):
        speak_with: Any = model.generate
        speak_with(TEXT, voice=voice, **{**options, foreign: 1})


def test_each_class_loads_its_own_kind_only(cache: Path) -> None:
    for name, (owner, _) in KINDS.items():
        folder = ensure(name, cache)
        assert type(load_model(folder)) is owner
        for other, _ in KINDS.values():
            if other is not owner:
                with pytest.raises(ModelFolderError, match="load it with the class"):
                    other.from_pretrained(folder)


def test_a_voice_of_another_family_is_refused(cache: Path, voice: Voice) -> None:
    model = Chatterbox.from_pretrained(ensure("tiny-original", cache))
    with pytest.raises(VoiceError, match="make the voice again"):
        model.generate(TEXT, voice=voice)


def test_a_voice_is_converted_by_every_kind_of_folder(cache: Path, voice: Voice) -> None:
    samples = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    results = {}
    for name in KINDS:
        converter = VoiceConverter.from_pretrained(ensure(name, cache))
        results[name] = converter.convert(samples, sample_rate=16_000, voice=voice, seed=1)
        assert len(results[name].audio) == 24_000
    assert not np.array_equal(results["tiny"].audio, results["tiny-original"].audio)


def test_exaggeration_and_guidance_change_the_speech(cache: Path) -> None:
    model = Chatterbox.from_pretrained(ensure("tiny-original", cache))
    voice = model.encode_voice(CLIP)
    plain = model.generate(TEXT, voice=voice, seed=1, max_tokens=25)
    for change in ({"exaggeration": 1.5}, {"cfg_weight": 0.0}, {"min_p": 0.5}):
        other = model.generate(TEXT, voice=voice, seed=1, max_tokens=25, **change)  # pyright: ignore
        assert not np.array_equal(plain.tokens, other.tokens), change
    assert np.array_equal(
        plain.tokens, model.generate(TEXT, voice=voice, seed=1, max_tokens=25).tokens
    ), "an option of a call stayed in the model"


def test_a_short_quiet_clip_is_enough_for_the_original(cache: Path) -> None:
    """It has no least length and no loudness normalisation."""
    from mlx_audio_turbo.audio.files import load_audio

    model = Chatterbox.from_pretrained(ensure("tiny-original", cache))
    clip = load_audio(CLIP, sample_rate=24_000)[: 3 * 24_000]
    loud, quiet = (model.encode_voice(clip * gain, sample_rate=24_000) for gain in (1.0, 0.1))
    assert len(loud.t3_prompt_tokens) == 75
    assert loud != quiet


def test_languages_are_checked_before_work(cache: Path) -> None:
    model = ChatterboxMultilingual.from_pretrained(ensure("tiny-multilingual", cache))
    voice = model.encode_voice(CLIP)
    with pytest.raises(OptionError, match=r"language|fr"):
        model.generate(TEXT, voice=voice, language="frr")


def test_the_one_liner(tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "hello.wav"
    speech = speak(
        "Hello.", ref_audio=CLIP, output=out, model=ensure("tiny", cache), seed=1, max_tokens=5
    )
    assert out.stat().st_size == 44 + 2 * len(speech.audio)


def test_turbo_imports_neither_mlx_lm_nor_transformers(tiny_folder: Path) -> None:
    code = (
        "import sys\n"
        "from mlx_audio_turbo import ChatterboxTurbo\n"
        f"model = ChatterboxTurbo.from_pretrained({str(tiny_folder)!r})\n"
        f"model.generate('Hi.', ref_audio={str(CLIP)!r}, seed=1, max_tokens=3)\n"
        "print(sorted({'mlx_lm', 'transformers', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
