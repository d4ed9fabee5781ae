"""Arguments of another type are refused by the call, in one line that says what to give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_audio_turbo import ChatterboxTurbo, OptionError, TextError, TurboError, Voice

from .conftest import CLIP

SHORT: Any = {"seed": 1, "max_tokens": 3}


def line(error: TurboError) -> str:
    """The message, which must be one line with a fact and a remedy."""
    message = str(error)
    assert "\n" not in message
    assert "give" in message
    return message


@pytest.mark.parametrize("texts", ["Hello", b"Hello", Path("a.txt"), None, 5, True])
def test_one_thing_in_place_of_a_list_of_texts(
    model: ChatterboxTurbo, voice: Voice, texts: Any
) -> None:
    with pytest.raises(TextError) as caught:
        model.generate_batch(texts, voice=voice, **SHORT)
    assert f"one {type(texts).__name__}; give a list of texts" in line(caught.value)


@pytest.mark.parametrize("texts", [["Hi.", 5], [b"Hi."], [None], [["Hi."]]])
def test_something_else_among_the_texts(model: ChatterboxTurbo, voice: Voice, texts: Any) -> None:
    with pytest.raises(TextError) as caught:
        model.generate_batch(texts, voice=voice, **SHORT)
    assert "give a str" in line(caught.value)


def test_any_iterable_of_texts_is_taken(model: ChatterboxTurbo, voice: Voice) -> None:
    for texts in (("Hi.", "Ho."), iter(["Hi.", "Ho."]), np.array(["Hi.", "Ho."])):
        speeches = list(model.generate_batch(texts, voice=voice, **SHORT))  # type: ignore[arg-type]
        assert [speech.text for speech in speeches] == ["Hi.", "Ho."]


@pytest.mark.parametrize("text", [None, 5, b"Hi.", ["Hi."], Path("a.txt")])
@pytest.mark.parametrize("call", ["generate", "stream", "generate_parts"])
def test_a_text_of_another_type(model: ChatterboxTurbo, voice: Voice, call: str, text: Any) -> None:
    if call == "stream" and isinstance(text, list):
        text = [5]  # it takes a text in pieces, which are strings
    with pytest.raises(TextError) as caught:
        list(getattr(model, call)(text, voice=voice, **SHORT))
    assert re.search("give (a )?str", line(caught.value))


@pytest.mark.parametrize(
    ("call", "name", "value", "remedy"),
    [
        ("generate", "trim", True, "give a TrimOptions or None"),
        ("generate", "trim", -35.0, "give a TrimOptions or None"),
        ("generate", "pauses", 0.5, "give a PauseOptions or None"),
        ("generate", "pauses", {"sentence": 1}, "give a PauseOptions or None"),
        ("generate", "watchdog", False, "give a WatchdogOptions or None"),
        ("stream", "chunks", [10, 20], "give a ChunkOptions or None"),
        ("generate", "watermark", "no", "give True or False"),
        ("generate", "watermark", 1, "give True or False"),
        ("generate", "temperature", "0.8", "give a number"),
        ("generate", "retries", True, "give a whole number"),
        ("generate", "batch_size", 1.5, "give a whole number"),
        ("generate_parts", "first", "1", "give a whole number"),
    ],
)
def test_an_option_of_another_type(
    model: ChatterboxTurbo, voice: Voice, call: str, name: str, value: Any, remedy: str
) -> None:
    with pytest.raises(OptionError) as caught:
        getattr(model, call)("Hi.", voice=voice, **{**SHORT, name: value})
    assert f"{name} is {value!r}; {remedy}" in line(caught.value)


@pytest.mark.parametrize("value", ["anna", Path("anna.safetensors"), True, {}])
def test_a_voice_of_another_type(model: ChatterboxTurbo, value: Any) -> None:
    for call in (
        lambda: model.generate("Hi.", voice=value, **SHORT),
        lambda: model.generate_batch(["Hi."], voices=[value], **SHORT),
        lambda: model.render(np.array([1]), voice=value),
    ):
        with pytest.raises(TurboError) as caught:
            call()
        assert f"a {type(value).__name__}; give" in line(caught.value)


@pytest.mark.parametrize("tokens", ["abc", [1.5, 2.0], [[1, 2]], 7, [-1], None])
def test_tokens_that_are_no_ids(model: ChatterboxTurbo, voice: Voice, tokens: Any) -> None:
    with pytest.raises(OptionError) as caught:
        model.render(tokens, voice=voice)
    assert "give whole numbers" in line(caught.value)


def test_a_list_of_tokens_is_taken(model: ChatterboxTurbo, voice: Voice) -> None:
    whole = model.render(np.array([1, 2]), voice=voice)
    np.testing.assert_array_equal(model.render([1, 2], voice=voice), whole)  # type: ignore[arg-type]


def test_a_loudness_in_place_of_the_flag(model: ChatterboxTurbo) -> None:
    with pytest.raises(OptionError) as caught:
        model.encode_voice(CLIP, normalize_loudness=-20)  # type: ignore[arg-type]
    assert "normalize_loudness is -20; give True or False" in line(caught.value)


def test_a_language_for_turbo_is_refused_by_the_call(model: ChatterboxTurbo, voice: Voice) -> None:
    with pytest.raises(OptionError, match="ChatterboxMultilingual"):
        model.generate("Salut.", voice=voice, language="fr", **SHORT)  # type: ignore[call-arg]
