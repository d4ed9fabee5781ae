"""T3 beside the reference: logits, greedy tokens, the distribution of the samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from mlx_audio_turbo.config import START_SPEECH, T3Config, from_dict, to_dict
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.t3.interface import Forward
from mlx_audio_turbo.t3.sampling import filter_logits
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward
from mlx_audio_turbo_convert import rules as conversion
from mlx_audio_turbo_convert.mapping.t3 import RULES
from tests.decode import condition, generate

from .. import seeded
from ..inputs_t3 import SETTINGS, Sequence, logit_cases, nano_sizes, sequence, thin
from ..rows import Row, max_abs, relative
from .context import Context, load_network


def rows(context: Context) -> Iterator[Row]:
    """The rows of T3 and of sampling; see the issue's table for the bounds."""
    recorded, config = context.reference("t3"), context.config.t3
    assert isinstance(config, T3Config)
    model = TurboT3(config)
    load_network(model, RULES, context.checkpoint / context.t3_file, target_prefix="t3.")
    yield from _model_rows("T3 Turbo", model, _part(recorded, "turbo."), small=context.small)
    yield _half_row(model, small=context.small)
    del model
    if context.own:
        return
    nano = nano_sizes(small=context.small)
    model = TurboT3(from_dict(T3Config, nano))
    _load_arrays(model, seeded.t3_weights(nano, seed=2))
    yield from _model_rows("T3 Nano", model, _part(recorded, "nano."), small=context.small)
    yield from _sampling_rows(recorded, config.speech_vocabulary, small=context.small)


def _part(recorded: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in recorded.items() if k.startswith(prefix)}


def _load_arrays(model: TurboT3, weights: Mapping[str, np.ndarray]) -> None:
    named = cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))
    shapes = {"t3." + name: tuple(x.shape) for name, x in named}
    plan = conversion.plan(RULES, weights)
    made = conversion.apply(plan, weights.__getitem__, shapes)
    model.load_weights([(name.removeprefix("t3."), mx.array(x)) for name, x in made], strict=True)


def _model_rows(
    stage: str, model: TurboT3, reference: Mapping[str, np.ndarray], *, small: bool
) -> Iterator[Row]:
    inputs = sequence(to_dict(model.config), small=small)
    hidden, logits = _forced(model, inputs, model.make_forward())
    expected = reference["logits"]
    ours = thin(logits, small=small)
    yield Row(stage, "deviation of the reference's logits", float(reference["spread"]), 1.0, True)
    yield Row(stage, "deviation of our logits", float(logits.std(axis=1).mean()), 1.0, True)
    yield Row(
        stage, "hidden, prefill", relative(thin(hidden, small=small), reference["hidden"]), 1e-5
    )
    yield Row(stage, "logits, prefill", relative(ours[0], expected[0]), 1e-5)
    steps = [relative(a, b) for a, b in zip(ours[1:], expected[1:], strict=True)]
    yield Row(stage, f"logits, worst of {len(steps)} cached steps", max(steps), 1e-5)
    _, network = _forced(model, inputs, partial(mlx_forward, model))
    steps = [
        relative(a, b) for a, b in zip(thin(network, small=small)[1:], expected[1:], strict=True)
    ]
    yield Row(stage, "the same by MLX's own form", max(steps), 1e-5)
    other = float(np.sum(logits.argmax(axis=1) != reference["likeliest"]))
    yield Row(stage, "likeliest id, other at steps", other, 0)
    tokens = generate(
        model,
        mx.array(inputs.text),
        mx.array(inputs.speaker),
        mx.array(inputs.prompt),
        key=mx.random.key(0),
        options=SamplingOptions(top_k=1),
        max_tokens=inputs.greedy,
        stop=False,
    )
    greedy = np.array(list(tokens))
    differing = float(np.sum(greedy != reference["greedy"]))
    yield Row(stage, f"{inputs.greedy} greedy tokens, differing", differing, 0)


def _forced(model: TurboT3, inputs: Sequence, forward: Forward) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states of the prefill (T, C); logits after it and after each forced token (n, V)."""
    embeddings = mx.concatenate(
        [
            model.prefix(condition(mx.array(inputs.speaker), mx.array(inputs.prompt))),
            model.embed_input(mx.array(inputs.text)),
        ],
        axis=1,
    )
    cache = model.make_cache()
    logits = [np.array(forward(embeddings, cache, [0])[0])]
    for token in inputs.forced.tolist():
        x = model.embed_speech(mx.array([[token]]))
        logits.append(np.array(forward(x, cache, [cache.offset])[0]))
    return np.array(model(embeddings)[0]), np.stack(logits)


def _half_row(model: TurboT3, *, small: bool) -> Row:
    """How often weights rounded to float16 leave the likeliest token as it is."""
    sizes = to_dict(model.config)
    inputs = sequence(sizes, small=small)
    room = sizes["positions"] - 1 - inputs.prompt.size - inputs.text.size
    forced = np.random.default_rng(12).integers(0, START_SPEECH, min(room, 1000))

    def likeliest() -> np.ndarray:
        embeddings = mx.concatenate(
            [
                model.prefix(condition(mx.array(inputs.speaker), mx.array(inputs.prompt))),
                model.embed_input(mx.array(inputs.text)),
                model.embed_speech(mx.array(forced[1:])[None]),
            ],
            axis=1,
        )
        return np.array(mx.argmax(model.logits(model(embeddings)[0, -forced.size :]), axis=-1))

    exact = likeliest()
    whole = model.parameters()
    model.update(tree_map(lambda x: x.astype(mx.float16).astype(mx.float32), whole))
    agreement = float(np.mean(likeliest() == exact))
    model.update(whole)
    what = f"float16 weights, top-1 of {forced.size}"
    return Row("T3 Turbo", what, agreement, 0.99, True)


def _sampling_rows(
    recorded: Mapping[str, np.ndarray], vocabulary: int, *, small: bool
) -> Iterator[Row]:
    for number, setting in enumerate(SETTINGS):
        options = SamplingOptions(
            temperature=setting.temperature,
            top_k=setting.top_k,
            top_p=setting.top_p,
            repetition_penalty=setting.penalty,
        )
        wanted = np.unpackbits(recorded[f"kept{number}"], axis=1, count=vocabulary).astype(bool)
        expected, at = recorded[f"probabilities{number}"], 0
        # Which of equal logits lies below top-p's border hangs on the order that torch's unstable
        # sort leaves them in; how many of each value are kept does not.
        by_value = setting.tied and setting.top_p < 1
        others, worst = 0, 0.0
        cases = logit_cases(vocabulary, number, small=small)
        for (logits, history), theirs in zip(cases, wanted, strict=True):
            history_mask = np.zeros((1, vocabulary), bool)
            history_mask[0, history] = True
            scores = filter_logits(
                mx.array(logits)[None], mx.array(history_mask), options, TurboT3.filters
            )
            found = np.array(scores[0], np.float64)
            kept = np.isfinite(found)
            if by_value:
                others += not np.array_equal(np.sort(logits[kept]), np.sort(logits[theirs]))
                continue
            others += not np.array_equal(kept, theirs)
            probabilities = np.zeros(vocabulary)
            probabilities[theirs] = expected[at : at + theirs.sum()]
            at += int(theirs.sum())
            worst = max(worst, max_abs(_softmax(found), probabilities))
        how = (setting.temperature, setting.top_k, setting.top_p, setting.penalty)
        name = f"{len(wanted)}x {'/'.join(map(str, how))}{' ties' if setting.tied else ''}"
        yield Row("sampling", f"{name}, {'values' if by_value else 'other sets'}", others, 0)
        if not by_value:
            yield Row("sampling", f"{name}, prob.", worst, 1e-6)


def _softmax(scores: np.ndarray) -> np.ndarray:
    """The distribution of a sample from ``scores``, by definition."""
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()
