"""Options: defined once, checked by type and range, and unknown names answered with a remedy."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from mlx_audio_turbo import ChatterboxTurbo, OptionError, PauseOptions, TrimOptions, Voice
from mlx_audio_turbo.models.speaking import speaking_options
from mlx_audio_turbo.options import (
    RUN_OPTIONS,
    SamplingOptions,
    TurboBatchOptions,
    TurboOptions,
    TurboStreamOptions,
    definitions,
    resolve,
    resolve_seed,
)


def test_every_option_has_a_help_and_a_valid_default() -> None:
    for model, options in RUN_OPTIONS.items():
        for name, definition in definitions(options).items():
            assert definition.option.help, (model, name)
            if definition.default is not None:
                assert definition.check(definition.default) == definition.default, (model, name)


def test_a_default_stands_once() -> None:
    """The defaults of the sampling options and of the keywords are one definition."""
    keywords = definitions(TurboOptions)
    for each in fields(SamplingOptions):
        if each.name in keywords:
            assert each.default == keywords[each.name].default
            assert keywords[each.name].option is definitions(SamplingOptions)[each.name].option


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temprature": 1.0}, "did you mean temperature"),
        ({"exaggeration": 0.5}, "Chatterbox and ChatterboxMultilingual take it"),
        ({"colour": 1}, "choose from"),
        ({"temperature": -0.1}, "temperature is -0.1; give a number from 0 up"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "0.8"}, "temperature is '0.8'; give a number"),
        ({"top_p": 0}, "give a number above 0, at most 1"),
        ({"top_k": True}, "give a whole number from 0 up"),
        ({"max_tokens": 10.5}, "give a whole number from 1 to 1000"),
        ({"seed": 2**64}, r"from 0 to 2\*\*64 - 1"),
        ({"trim": True}, "trim is True; give a TrimOptions or None"),
        ({"pauses": 0.2}, "give a PauseOptions or None"),
        ({"retries": 101}, "from 0 to 100"),
        ({"segment_limit": 39}, "from 40 up"),
    ],
)
def test_a_wrong_option_is_told_with_its_remedy(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        resolve(TurboOptions, given)


def test_given_before_the_models_default_before_ours() -> None:
    values = resolve(TurboOptions, {"top_k": 5}, defaults={"top_k": 7, "temperature": 0.3})
    assert (values["top_k"], values["temperature"], values["top_p"]) == (5, 0.3, 0.95)
    assert "batch_size" not in values
    assert resolve(TurboBatchOptions, {})["batch_size"] == 4
    assert resolve(TurboStreamOptions, {})["chunks"].sizes[0] == 10


def test_options_reach_the_scheduler() -> None:
    given = {"top_k": 5, "max_tokens": 12, "trim": TrimOptions(margin=0.1), "pauses": None}
    options = speaking_options(resolve(TurboBatchOptions, given))
    assert options.sampling.top_k == 5
    assert (options.max_tokens, options.batch_size) == (12, 4)
    assert options.trim == TrimOptions(margin=0.1)
    assert options.pauses == PauseOptions()


def test_a_seed_is_drawn_where_none_is_given() -> None:
    assert resolve_seed(7) == 7
    assert len({resolve_seed(None) for _ in range(8)}) > 1


def test_a_call_takes_the_models_generation_defaults(model: ChatterboxTurbo, voice: Voice) -> None:
    config = replace(model.config, generation={"max_tokens": 7, "temperature": 0.0})
    object.__setattr__(model._loaded, "config", config)
    try:
        limited = model.generate("Hello there.", voice=voice, seed=1)
        chosen = model.generate("Hello there.", voice=voice, seed=1, max_tokens=9)
    finally:
        object.__setattr__(model._loaded, "config", replace(config, generation={}))
    assert len(limited.tokens) == 7
    assert len(chosen.tokens) == 9
