"""The original's T3 against the reference: conditioning, hidden states, guidance, sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mlx_audio_turbo.config import OriginalT3Config, from_dict
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.presets import MULTILINGUAL_T3, ORIGINAL_T3
from mlx_audio_turbo.t3.decoder import Request
from mlx_audio_turbo.t3.guidance import guide
from mlx_audio_turbo.t3.interface import Condition, prefill_prefix
from mlx_audio_turbo.t3.original import OriginalT3
from mlx_audio_turbo.t3.sampling import filter_logits
from mlx_audio_turbo_convert import rules as conversion
from mlx_audio_turbo_convert.mapping.t3_original import RULES
from tests.decode import decode

from .. import seeded
from ..inputs_t3 import (
    EXAGGERATION,
    GUIDANCE,
    ORIGINAL_SETTINGS,
    Sequence,
    logit_cases,
    original_sequence,
    original_sizes,
    thin,
)
from ..rows import Row, max_abs, relative
from .context import Context


def rows(context: Context) -> Iterator[Row]:
    """The rows of both text tables, and of the filters."""
    recorded, small = context.reference("t3_original"), context.small
    for name, multilingual, preset in (
        ("english", False, ORIGINAL_T3),
        ("multilingual", True, MULTILINGUAL_T3),
    ):
        config = from_dict(OriginalT3Config, original_sizes(small=small, multilingual=multilingual))
        if not small:
            assert config == preset or multilingual, "the sizes of parity are the preset's"
            assert config.text_vocabulary == preset.text_vocabulary
        part = {
            key.removeprefix(f"{name}."): array
            for key, array in recorded.items()
            if key.startswith(f"{name}.")
        }
        model = _load(config)
        yield from _model_rows(f"T3 {name}", model, part, small=small)
        del model
    yield from _sampling_rows(recorded, ORIGINAL_T3.speech_vocabulary, small=small)


def _load(config: OriginalT3Config) -> OriginalT3:
    model = OriginalT3(config)
    named = cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))
    shapes = {f"t3.{name}": tuple(x.shape) for name, x in named}
    sizes = {**_plain(config)}
    weights = seeded.original_t3_weights(sizes, seed=3)
    made = conversion.apply(conversion.plan(RULES, weights), weights.__getitem__, shapes)
    model.load_weights([(name.removeprefix("t3."), mx.array(x)) for name, x in made], strict=True)
    return model


def _plain(config: OriginalT3Config) -> dict[str, int]:
    return {name: value for name, value in vars(config).items() if isinstance(value, int)}


def _condition(inputs: Sequence) -> Condition:
    return Condition(
        speaker=mx.array(inputs.speaker)[None],
        prompt_tokens=mx.array(inputs.prompt)[None],
        exaggeration=EXAGGERATION,
    )


def _model_rows(
    stage: str, model: OriginalT3, reference: Mapping[str, np.ndarray], *, small: bool
) -> Iterator[Row]:
    inputs = original_sequence(_plain(model.config), small=small)
    conditioning = np.array(model.prefix(_condition(inputs))[0])
    middle = conditioning[1:-1]
    yield Row(stage, "deviation of our conditioning's Perceiver rows", middle.std(), 0.3, True)
    figure = relative(conditioning, reference["conditioning"])
    yield Row(stage, "conditioning", figure, 1e-5)

    hidden, logits = _forced(model, inputs, small=small)
    positions = hidden.shape[1]
    figure = relative(hidden[:, :: 1 if small else 8], reference["hidden"])
    yield Row(stage, f"hidden, {positions} positions of two rows", figure, 1e-5)
    guided = np.array(guide(mx.array(logits.reshape(-1, logits.shape[-1])), GUIDANCE))
    spread = float(reference["spread"])
    yield Row(stage, "deviation of the reference's logits", spread, 1.0, True)
    named = {"conditional": logits[:, 0], "unconditional": logits[:, 1], "guided": guided}
    for name, ours in named.items():
        pairs = zip(thin(ours, small=small), reference[name], strict=True)
        worst = max(relative(a, b) for a, b in pairs)
        yield Row(stage, f"logits, {name}, worst of {len(ours)} cached steps", worst, 1e-5)
    other = float(np.sum(guided.argmax(axis=-1) != reference["likeliest"]))
    yield Row(stage, "likeliest id of the guided logits, other at steps", other, 0)
    if "greedy" in reference:
        options = SamplingOptions(
            temperature=0.8, min_p=1.0, top_p=1.0, repetition_penalty=1.2, cfg_weight=GUIDANCE
        )
        request = Request(
            id=0,
            text_ids=mx.array(inputs.text),
            prefix=prefill_prefix(model, _condition(inputs)),
            key=mx.random.key(0),
            max_tokens=inputs.greedy,
            options=options,
        )
        sampled = decode(model, [request], options=options, stop=False)
        tokens = [token for _, token in sampled if token is not None]
        differing = float(np.sum(np.array(tokens) != reference["greedy"]))
        yield Row(stage, f"{inputs.greedy} greedy tokens, differing", differing, 0)
        yield Row(stage, "distinct greedy tokens", len(set(tokens)), 10, True)


def _forced(model: OriginalT3, inputs: Sequence, *, small: bool) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states (2, T, C) of the whole; logits (n, 2, V) of the last steps, with the cache."""
    steps = 12 if small else 200
    tokens, places = mx.array(inputs.forced)[None], mx.arange(1, len(inputs.forced) + 1)
    speech = model.embed_speech(tokens, places)
    embeddings = mx.concatenate(
        [
            mx.repeat(model.prefix(_condition(inputs)), 2, axis=0),
            model.embed_input(mx.array(inputs.text), 2),
            mx.repeat(speech, 2, axis=0),
        ],
        axis=1,
    )
    forward, cache, logits = model.make_forward(), model.make_cache(), []
    start = embeddings.shape[1] - steps
    for stop in range(start + 1, embeddings.shape[1] + 1):
        begin = 0 if stop == start + 1 else stop - 1
        logits.append(np.array(forward(embeddings[:, begin:stop], cache, [begin, begin])))
    return np.array(model(embeddings)), np.stack(logits)


def _sampling_rows(
    recorded: Mapping[str, np.ndarray], vocabulary: int, *, small: bool
) -> Iterator[Row]:
    for number, setting in enumerate(ORIGINAL_SETTINGS):
        options = SamplingOptions(
            temperature=setting.temperature,
            min_p=setting.min_p,
            top_p=setting.top_p,
            repetition_penalty=setting.penalty,
        )
        wanted = np.unpackbits(recorded[f"kept{number}"], axis=1, count=vocabulary).astype(bool)
        expected, at = recorded[f"probabilities{number}"], 0
        others, worst = 0, 0.0
        cases = logit_cases(vocabulary, number, small=small, cases=setting.cases)
        for (logits, history), theirs in zip(cases, wanted, strict=True):
            mask = np.zeros((1, vocabulary), bool)
            mask[0, history] = True
            scores = filter_logits(
                mx.array(logits)[None], mx.array(mask), options, OriginalT3.filters
            )
            found = np.array(scores[0], np.float64)
            others += not np.array_equal(np.isfinite(found), theirs)
            weights = np.exp(found - found.max())
            probabilities = np.zeros(vocabulary)
            probabilities[theirs] = expected[at : at + theirs.sum()]
            at += int(theirs.sum())
            worst = max(worst, max_abs(weights / weights.sum(), probabilities))
        how = (setting.temperature, setting.min_p, setting.top_p, setting.penalty)
        name = f"{len(wanted)}x {'/'.join(map(str, how))}"
        yield Row("sampling, original", f"{name}, other sets", others, 0)
        yield Row("sampling, original", f"{name}, prob.", worst, 1e-6)
