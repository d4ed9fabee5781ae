"""T3 at a tiny size: against the formulas written out in float64, its cache, its loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_audio_turbo.config import START_SPEECH, STOP_SPEECH, T3Config, to_dict
from mlx_audio_turbo.errors import ModelFolderError, OptionError
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.t3 import choices
from mlx_audio_turbo.t3.cache import GROWTH, KeyValueCache, LayerCache
from mlx_audio_turbo.t3.interface import Condition, prefill_prefix
from mlx_audio_turbo.t3.sampling_numpy import Noise
from mlx_audio_turbo.t3.turbo import TurboT3
from mlx_audio_turbo_convert import rules as conversion
from mlx_audio_turbo_convert.mapping.t3 import RULES
from tests.decode import condition, generate
from tests.measure.parity import seeded

from .helpers import relative

CONFIG = T3Config(
    width=32,
    layers=2,
    heads=4,
    positions=400,
    text_vocabulary=50,
    speech_vocabulary=6563,
    speaker_embedding=16,
    prompt_tokens=6,
)
UPSTREAM = seeded.t3_weights(to_dict(CONFIG), seed=1)
GREEDY = SamplingOptions(temperature=0)


def convert(weights: dict[str, np.ndarray], model: TurboT3) -> None:
    named = cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))
    shapes = {f"t3.{name}": tuple(x.shape) for name, x in named}
    made = conversion.apply(conversion.plan(RULES, weights), weights.__getitem__, shapes)
    model.load_weights([(name.removeprefix("t3."), mx.array(x)) for name, x in made], strict=True)


@pytest.fixture(scope="module")
def model() -> TurboT3:
    model = TurboT3(CONFIG)
    convert(UPSTREAM, model)
    return model


@pytest.fixture(scope="module")
def voice() -> tuple[mx.array, mx.array]:
    """Speaker (16,) and prompt tokens (6,)."""
    return mx.random.normal((16,), key=mx.random.key(5)), mx.array([5, 900, 6560, 17, 4299, 0])


TEXT = mx.array([3, 1, 4, 1, 5, 9, 2, 6])


def gpt2(x: np.ndarray) -> np.ndarray:
    """GPT-2 from the upstream tensors, in float64 and by the book; x is (T, C)."""
    w = {name: value.astype(np.float64) for name, value in UPSTREAM.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + 1e-5) * w[name + ".weight"] + w[name + ".bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[name + ".weight"] + w[name + ".bias"]

    time = len(x)
    x = x.astype(np.float64) + w["tfmr.wpe.weight"][:time]
    future = np.triu(np.full((time, time), -np.inf), 1)
    for layer in range(CONFIG.layers):
        block = f"tfmr.h.{layer}."
        q, k, v = np.split(linear(norm(x, block + "ln_1"), block + "attn.c_attn"), 3, axis=-1)
        mixed = np.empty_like(x)
        for head in range(CONFIG.heads):
            at = slice(head * CONFIG.head_dim, (head + 1) * CONFIG.head_dim)
            raw = np.exp(q[:, at] @ k[:, at].T / math.sqrt(CONFIG.head_dim) + future)
            mixed[:, at] = raw / raw.sum(axis=-1, keepdims=True) @ v[:, at]
        x = x + linear(mixed, block + "attn.c_proj")
        h = linear(norm(x, block + "ln_2"), block + "mlp.c_fc")
        h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + linear(h, block + "mlp.c_proj")
    return norm(x, "tfmr.ln_f")


def embeddings(length: int, *, batch: int = 1, seed: int = 0) -> mx.array:
    return mx.random.normal((batch, length, CONFIG.width), key=mx.random.key(seed))


# --- the network ------------------------------------------------------------------------------


def test_hidden_states_are_gpt_2_s(model: TurboT3) -> None:
    """Catches the exact GELU in place of the tanh form, another eps, a missed bias or position."""
    x = embeddings(20)
    assert relative(model(x)[0], gpt2(np.array(x[0]))) < 1e-6


def test_the_sequence_is_speaker_prompt_text_start(
    model: TurboT3, voice: tuple[mx.array, mx.array]
) -> None:
    speaker, prompt = voice
    row = UPSTREAM["cond_enc.spkr_enc.weight"] @ np.array(speaker)
    x = np.concatenate(
        [
            (row + UPSTREAM["cond_enc.spkr_enc.bias"])[None],
            UPSTREAM["speech_emb.weight"][np.array(prompt)],
            UPSTREAM["text_emb.weight"][np.array(TEXT)],
            UPSTREAM["speech_emb.weight"][[START_SPEECH]],
        ]
    )
    expected: list[int] = []
    while len(expected) < 6:
        logits = UPSTREAM["speech_head.weight"] @ gpt2(x)[-1] + UPSTREAM["speech_head.bias"]
        logits[STOP_SPEECH] = -np.inf
        expected.append(int(np.argmax(logits)))
        x = np.concatenate([x, UPSTREAM["speech_emb.weight"][expected[-1:]]])
    found = generate(
        model, TEXT, *voice, key=mx.random.key(0), options=GREEDY, max_tokens=6, stop=False
    )
    assert list(found) == expected


def test_shapes(model: TurboT3, voice: tuple[mx.array, mx.array]) -> None:
    speaker, prompt = voice
    prefix = model.prefix(Condition(mx.stack([speaker] * 3), mx.stack([prompt] * 3)))
    assert prefix.shape == (3, 1 + prompt.size, CONFIG.width)
    hidden = model(prefix)
    assert hidden.shape == prefix.shape
    assert model.logits(hidden).shape == (3, 1 + prompt.size, CONFIG.speech_vocabulary)
    assert model.embed_input(TEXT).shape == (1, TEXT.size + 1, CONFIG.width)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_stays_half_and_its_logits_are_float32(
    model: TurboT3, voice: tuple[mx.array, mx.array], dtype: mx.Dtype
) -> None:
    half = TurboT3(CONFIG)
    half.update(tree_map(lambda x: x.astype(dtype), model.parameters()))
    cache = half.make_cache()
    hidden = half(half.prefix(condition(*voice)), cache=cache)
    assert hidden.dtype == dtype
    assert {x.dtype for x in cache.arrays} == {dtype}
    logits = half.logits(hidden)
    assert logits.dtype == mx.float32
    expected = model.logits(model(model.prefix(condition(*voice))))
    assert relative(logits, np.array(expected)) < 0.03
    found = generate(half, TEXT, *voice, key=mx.random.key(0), max_tokens=3)
    assert len(list(found)) <= 3


# --- the cache --------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[1] * 12, [7, 1, 1, 3], [GROWTH - 2, 1, 1, 1, 1, 40, 1]])
def test_in_parts_with_a_cache_is_as_in_one(model: TurboT3, parts: list[int]) -> None:
    """Catches a position that starts over, a mask that is off by the cache, a bad grown buffer."""
    x = embeddings(sum(parts))
    cache, at, found = model.make_cache(), 0, []
    for part in parts:
        found.append(model(x[:, at : at + part], cache=cache))
        at += part
        assert cache.offset == at
    assert relative(mx.concatenate(found, axis=1), np.array(model(x))) < 1e-6


def test_a_copied_cache_is_independent(model: TurboT3) -> None:
    """A voice's prefix serves two sentences; neither sees the other, and the prefix stays."""
    prefix, one, two = embeddings(5), embeddings(4, seed=1), embeddings(4, seed=2)
    shared = model.make_cache()
    model(prefix, cache=shared)
    before = [np.array(x) for x in shared.arrays]
    for _ in range(2):
        first, second = shared.copy(), shared.copy()
        halves = [(model(one[:, :2], cache=first), model(two[:, :2], cache=second))]
        halves.append((model(one[:, 2:], cache=first), model(two[:, 2:], cache=second)))
        for index, tail in ((0, one), (1, two)):
            found = mx.concatenate([half[index] for half in halves], axis=1)
            alone = model(mx.concatenate([prefix, tail], axis=1))[:, 5:]
            assert relative(found, np.array(alone)) < 1e-6
    assert shared.offset == 5
    for old, new in zip(before, shared.arrays, strict=True):
        np.testing.assert_array_equal(old, np.array(new))


def test_left_padded_rows_are_what_they_are_alone(model: TurboT3) -> None:
    """Positions and mask of one's own per row, then one more step for both rows at once."""
    long, short, step = embeddings(9), embeddings(6, seed=1), embeddings(1, batch=2, seed=2)
    pads = mx.array([0, 3])
    cache = model.make_cache()

    def run(x: mx.array) -> mx.array:
        columns = mx.arange(cache.offset + x.shape[1])
        rows = columns[cache.offset :]
        mask = (columns >= pads[:, None, None]) & (columns <= rows[:, None])
        positions = mx.maximum(rows - pads[:, None], 0)
        return model(x, cache=cache, positions=positions, mask=mask[:, None])

    padded = mx.concatenate([mx.ones((1, 3, CONFIG.width)) * 9, short], axis=1)
    first = run(mx.concatenate([long, padded]))
    second = run(step)
    for row, (alone, pad) in enumerate(((long, 0), (short, 3))):
        expected = np.array(model(mx.concatenate([alone, step[row : row + 1]], axis=1)))[0]
        found = mx.concatenate([first[row, pad:], second[row]])
        assert relative(found, expected) < 1e-6


def test_the_cache_is_written_in_place() -> None:
    """Where a step copied the buffers, their size would show in the peak."""
    layer, rows = LayerCache(), mx.ones((1, 16, 1, 64))
    mx.eval(layer.update_and_fetch(*[mx.ones((1, 16, 2 * GROWTH - 50, 64))] * 2))
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for _ in range(20):
        mx.eval([x.sum() for x in layer.update_and_fetch(rows, rows)])
    assert mx.get_peak_memory() - before < 16 * GROWTH * 64 * 4


# --- the loop ---------------------------------------------------------------------------------


def tokens(model: TurboT3, voice: tuple[mx.array, mx.array], **options: Any) -> list[int]:
    options = {"key": mx.random.key(7), "max_tokens": 30} | options
    return list(generate(model, TEXT, *voice, **options))


def test_equal_keys_give_equal_tokens_whatever_the_limit(
    model: TurboT3, voice: tuple[mx.array, mx.array]
) -> None:
    first = tokens(model, voice)
    assert first == tokens(model, voice)
    assert first[:11] == tokens(model, voice, max_tokens=11)
    assert first != tokens(model, voice, key=mx.random.key(8))


def test_a_prefix_s_cache_changes_nothing(model: TurboT3, voice: tuple[mx.array, mx.array]) -> None:
    cache = prefill_prefix(model, condition(*voice))
    for _ in range(2):
        assert tokens(model, voice, prefix=cache) == tokens(model, voice)


def chosen_by(monkeypatch: pytest.MonkeyPatch, scripted: Callable[..., mx.array]) -> None:
    """Let ``scripted`` choose on the device and in NumPy: it gets rows and gives each an id."""

    def on_host(scores: np.ndarray, history: np.ndarray, *others: Any) -> int:
        return int(scripted(mx.array(scores[None]), mx.array(history[None]), *others)[0])

    monkeypatch.setattr(choices, "sample", scripted)
    monkeypatch.setattr(choices, "choose", on_host)


@pytest.fixture
def rigged(monkeypatch: pytest.MonkeyPatch, model: TurboT3) -> list[list[int]]:
    """Samples come from a script, and each call's penalised ids are noted."""
    noted: list[list[int]] = []
    script = [11, 12, 11, 6561, STOP_SPEECH, 13]

    def scripted(logits: mx.array, history: mx.array, *_: Any) -> mx.array:
        noted.append(np.flatnonzero(np.array(history[0])).tolist())
        return mx.array([script[len(noted) - 1]])

    chosen_by(monkeypatch, scripted)
    return noted


def test_the_history_is_the_start_token_once_and_then_what_was_sampled(
    model: TurboT3, voice: tuple[mx.array, mx.array], rigged: list[list[int]]
) -> None:
    """Catches the start token staying in the history. Ids above speech are kept in it."""
    assert tokens(model, voice, max_tokens=6) == [11, 12, 11, 6561]
    assert rigged[:5] == [[START_SPEECH], [11], [11, 12], [11, 12], [11, 12, 6561]]


def test_the_limit_is_exact_and_no_step_is_run_beyond_it(
    model: TurboT3, voice: tuple[mx.array, mx.array], rigged: list[list[int]]
) -> None:
    """The reference's loop gives one token more than its limit."""
    assert tokens(model, voice, max_tokens=3) == [11, 12, 11]
    assert len(rigged) == 3


def test_every_draw_has_a_key_of_its_own(
    model: TurboT3, voice: tuple[mx.array, mx.array], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[bytes] = []

    def noted(*arguments: Any) -> mx.array:
        random = arguments[-1]  # the keys of the rows, or in NumPy the numbers that they give
        drawn = random.next() if isinstance(random, Noise) else np.array(random[0])
        draws.append(drawn.tobytes())
        return mx.array([len(draws)])

    chosen_by(monkeypatch, noted)
    assert len(tokens(model, voice, max_tokens=8)) == 8
    assert len(set(draws)) == 8


def test_a_first_draw_of_stop_is_silence(
    model: TurboT3, voice: tuple[mx.array, mx.array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference never tests its first sample."""
    chosen_by(monkeypatch, lambda *_: mx.array([STOP_SPEECH]))
    assert tokens(model, voice) == []


def test_without_stop_its_token_is_never_sampled(
    voice: tuple[mx.array, mx.array],
) -> None:
    eager = TurboT3(CONFIG)
    bias = UPSTREAM["speech_head.bias"].copy()
    bias[STOP_SPEECH] = 1000
    convert(UPSTREAM | {"speech_head.bias": bias}, eager)
    assert tokens(eager, voice) == []
    assert len(tokens(eager, voice, stop=False)) == 30


def test_the_position_table_ends_an_utterance(
    model: TurboT3, voice: tuple[mx.array, mx.array]
) -> None:
    """Rows beyond the table would be read from foreign memory."""
    room = CONFIG.positions - 1 - voice[1].size - TEXT.size
    assert len(tokens(model, voice, max_tokens=1000, stop=False, options=GREEDY)) == room


def test_bad_arguments_are_errors(model: TurboT3, voice: tuple[mx.array, mx.array]) -> None:
    key = mx.random.key(0)
    with pytest.raises(OptionError, match="max_tokens is 0"):
        list(generate(model, TEXT, *voice, key=key, max_tokens=0))
    with pytest.raises(OptionError, match="shorten the text"):
        list(generate(model, mx.zeros((400,), mx.int32), *voice, key=key))


def test_closing_gives_the_memory_back_and_none_piles_up(
    model: TurboT3, voice: tuple[mx.array, mx.array]
) -> None:
    def run(count: int) -> None:
        loop = generate(model, TEXT, *voice, key=mx.random.key(1), stop=False)
        for _ in range(count):
            next(loop)
        loop.close()  # pyright: ignore[reportAttributeAccessIssue]
        mx.synchronize()

    run(3)
    before = mx.get_active_memory()
    for _ in range(3):
        run(20)
    assert mx.get_active_memory() - before < 4096


# --- the mapping ------------------------------------------------------------------------------


def test_the_two_unread_tables_are_dropped_with_a_reason() -> None:
    names = [*UPSTREAM, "text_head.weight", "tfmr.wte.weight"]
    plan = conversion.plan(RULES, names)
    assert set(plan.dropped) == {"text_head.weight", "tfmr.wte.weight"}
    assert len(plan.steps) == len(UPSTREAM)


def test_a_lost_tensor_is_an_error(model: TurboT3) -> None:
    weights = {k: v for k, v in UPSTREAM.items() if k != "tfmr.h.1.mlp.c_fc.bias"}
    with pytest.raises(ModelFolderError, match=r"lacks 't3\.tfmr\.h\.1\.mlp\.c_fc\.bias'"):
        convert(weights, TurboT3(CONFIG))


def test_an_empty_cache_stands_at_0() -> None:
    assert KeyValueCache(2).offset == 0
