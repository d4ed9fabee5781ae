"""The original's T3 at a tiny size: its formulas in float64, guidance, batches, prefixes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, TypeAlias, cast

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_audio_turbo import ops
from mlx_audio_turbo.config import START_SPEECH, STOP_SPEECH
from mlx_audio_turbo.errors import ModelFolderError, OptionError
from mlx_audio_turbo.loading.networks import make_t3
from mlx_audio_turbo.ops import compiled
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.presets import TINY_ORIGINAL_T3
from mlx_audio_turbo.t3.decoder import Decoder, Request
from mlx_audio_turbo.t3.guidance import guide
from mlx_audio_turbo.t3.interface import Condition, prefill_prefix
from mlx_audio_turbo.t3.llama_cache import LlamaCache
from mlx_audio_turbo.t3.original import OriginalT3
from mlx_audio_turbo.t3.prefix_cache import PrefixCache
from mlx_audio_turbo.t3.sampling import filter_logits, min_p
from tests.decode import decode

from .helpers import relative

CONFIG = TINY_ORIGINAL_T3
TEXT = np.array([5, 17, 300, 2, 44, 81])
SPOKEN = np.array([17, 6000, 17, 4299, 3])
EXAGGERATION, WEIGHT = 0.7, 0.5
Clip: TypeAlias = tuple[np.ndarray, np.ndarray]
"""A speaker (256,) and prompt tokens (P,)."""
OPTIONS = SamplingOptions(min_p=0.05, top_p=1.0, cfg_weight=WEIGHT)


def weights(model: OriginalT3) -> dict[str, np.ndarray]:
    """Random values in which every part of the model matters, by their names in a folder."""
    scales = {"attn.weight": 0.12, "mlp": 0.1, "emb": 0.5, "perceiver.attn.to": 0.2}
    random, values = np.random.default_rng(3), {}
    for name, array in cast(list[tuple[str, mx.array]], tree_flatten(model.parameters())):
        noise = random.standard_normal(array.shape)
        if name.endswith("norm.weight"):
            values[name] = 1 + 0.15 * noise
        elif len(array.shape) == 1:
            values[name] = 0.1 * noise
        else:
            scale = next((x for part, x in scales.items() if part in name), 0.15)
            values[name] = noise * (0.6 if name == "speech_head.weight" else scale)
    return values


@pytest.fixture(scope="module")
def model() -> OriginalT3:
    model = make_t3(CONFIG)
    named = [(name, mx.array(x.astype(np.float32))) for name, x in weights(model).items()]
    model.load_weights(named, strict=True)
    return model


@pytest.fixture(scope="module")
def voice() -> Clip:
    """Speaker (256,) and prompt tokens (9,)."""
    random = np.random.default_rng(5)
    return random.standard_normal(256).astype(np.float32), random.integers(0, 6561, 9)


@pytest.fixture(params=["compiled", "numpy", "device"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever device the tests run on, every form of the network keeps every promise."""
    if request.param == "device":
        monkeypatch.setattr(OriginalT3, "_host_form", lambda self: None)
    elif ops.on_gpu():
        pytest.skip("arrays of a GPU are not the host's")
    elif request.param == "numpy":
        monkeypatch.setattr(OriginalT3, "reads_stored", lambda self: False)
    elif not compiled.available():
        pytest.skip("there are no compiled kernels")


def condition(voice: Clip, exaggeration: float = EXAGGERATION) -> Condition:
    speaker, prompt = map(mx.array, voice)
    return Condition(speaker[None], prompt[None], exaggeration)


class Formulas:
    """The model in float64 from its description, with ``fault`` put in."""

    def __init__(self, weights: dict[str, np.ndarray], fault: str = ""):
        self.w = {name: x.astype(np.float32).astype(np.float64) for name, x in weights.items()}
        self.fault = fault

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0)

    def perceiver(self, prompt: np.ndarray) -> np.ndarray:
        name = "cond_enc.perceiver."

        def norm(x: np.ndarray) -> np.ndarray:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            return x * self.w[name + "attn.norm.weight"] + self.w[name + "attn.norm.bias"]

        def block(x: np.ndarray, context: np.ndarray) -> np.ndarray:
            q = self.linear(norm(x), name + "attn.to_q")
            k = self.linear(norm(context), name + "attn.to_k")
            v = self.linear(norm(context), name + "attn.to_v")
            y, size = np.empty_like(q), CONFIG.width // CONFIG.perceiver_heads
            for head in range(CONFIG.perceiver_heads):
                at = slice(head * size, (head + 1) * size)
                y[:, at] = softmax(q[:, at] @ k[:, at].T / np.sqrt(size)) @ v[:, at]
            return x + self.linear(y, name + "attn.proj_out")

        x = block(self.w[name + "pre_attention_query"][0], prompt)
        return x if self.fault == "one perceiver pass" else block(x, x)

    def speech(self, ids: np.ndarray, first: int) -> np.ndarray:
        positions = self.w["speech_pos_emb.emb.weight"][first : first + len(ids)]
        return self.w["speech_emb.weight"][ids] + positions * (self.fault != "no speech positions")

    def sequence(self, voice: Clip, *, text: bool) -> np.ndarray:
        speaker, prompt = voice
        ids = np.array([255, *TEXT, 0])
        words, places = self.w["text_emb.weight"][ids], self.w["text_pos_emb.emb.weight"]
        places = places[: len(ids)] * (self.fault != "no text positions")
        if self.fault == "no text positions without text" and not text:
            places = places * 0
        if self.fault == "no start and stop id":
            words, places = words[1:-1], places[:-2]
        start = self.speech(np.array([START_SPEECH]), 0)
        row = self.linear(speaker.astype(np.float64)[None], "cond_enc.spkr_enc")
        exaggeration = 0.5 if self.fault == "fixed exaggeration" else EXAGGERATION
        middle = self.perceiver(self.speech(prompt, 0))
        conditions = [row, middle, exaggeration * self.w["cond_enc.emotion_adv_fc.weight"].T]
        if self.fault == "no conditioning without text" and not text:
            conditions = [x * 0 for x in conditions]
        starts = [start] if self.fault == "one start token" else [start, start]
        first = 0 if self.fault == "speech positions one early" else 1
        later = self.speech(SPOKEN, first)
        return np.concatenate([*conditions, words * text + places, *starts, later])

    def llama(self, x: np.ndarray) -> np.ndarray:
        def norm(x: np.ndarray, name: str) -> np.ndarray:
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * self.w[f"{name}.weight"]

        time, size = len(x), CONFIG.head_dim
        rates = CONFIG.rope_theta ** (-np.arange(0, size, 2) / size)
        if self.fault != "no rotary scaling":
            scaling, lengths = CONFIG.rope_scaling, 2 * np.pi / rates
            low = scaling.original_positions / scaling.low_frequency_factor
            high = scaling.original_positions / scaling.high_frequency_factor
            smooth = (scaling.original_positions / lengths - scaling.low_frequency_factor) / (
                scaling.high_frequency_factor - scaling.low_frequency_factor
            )
            blended = (1 - smooth) * rates / scaling.factor + smooth * rates
            slow = np.where(lengths > low, rates / scaling.factor, blended)
            rates = np.where(lengths < high, rates, slow)
        angles = np.arange(time)[:, None] * rates

        def rotate(x: np.ndarray) -> np.ndarray:
            a, b = np.split(x, 2, axis=-1)
            return np.concatenate(
                [a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)],
                -1,
            )

        future = np.triu(np.full((time, time), -np.inf), 1)
        for layer in range(CONFIG.layers):
            name = f"tfmr.layers.{layer}."
            h = norm(x, name + "input_layernorm")
            q, k, v = (self.linear(h, f"{name}self_attn.{each}_proj") for each in "qkv")
            y = np.empty_like(q)
            for head in range(CONFIG.heads):
                at = slice(head * size, (head + 1) * size)
                scores = rotate(q[:, at]) @ rotate(k[:, at]).T / np.sqrt(size)
                y[:, at] = softmax(scores + future) @ v[:, at]
            x = x + self.linear(y, name + "self_attn.o_proj")
            h = norm(x, name + "post_attention_layernorm")
            gate = self.linear(h, name + "mlp.gate_proj")
            up = self.linear(h, name + "mlp.up_proj")
            x = x + self.linear(gate / (1 + np.exp(-gate)) * up, name + "mlp.down_proj")
        return x if self.fault == "no last norm" else norm(x, "tfmr.norm")

    def logits(self, voice: Clip) -> np.ndarray:
        """Guided logits (V,) after :data:`SPOKEN`."""
        with_text, without = (
            self.linear(self.llama(self.sequence(voice, text=text))[-1], "speech_head")
            for text in (True, False)
        )
        if self.fault == "guidance from the other side":
            return without + WEIGHT * (with_text - without)
        return with_text + WEIGHT * (with_text - without)


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


@pytest.fixture
def logits(model: OriginalT3, voice: Clip) -> np.ndarray:
    """Guided logits (V,) after :data:`SPOKEN`, token by token through the caches."""
    prefix, forward = prefill_prefix(model, condition(voice)), model.make_forward()
    cache = prefix.gather([(prefix.copy(), 0, prefix.offset) for _ in range(2)])
    found = forward(model.embed_input(mx.array(TEXT), 2), cache, [cache.offset] * 2)
    for index, token in enumerate(SPOKEN.tolist()):
        x = model.embed_speech(mx.array([[token]]), mx.array([[index + 1]]))
        found = forward(mx.repeat(x, 2, axis=0), cache, [cache.offset] * 2)
    return np.array(guide(found, WEIGHT)[0])


# --- the network ------------------------------------------------------------------------------


def test_guided_logits_are_the_formulas(model: OriginalT3, voice: Clip, logits: np.ndarray) -> None:
    assert relative(logits, Formulas(weights(model)).logits(voice)) < 5e-6


@pytest.mark.parametrize(
    "fault",
    [
        "one perceiver pass",
        "no speech positions",
        "speech positions one early",
        "no text positions",
        "no text positions without text",
        "no conditioning without text",
        "no start and stop id",
        "one start token",
        "fixed exaggeration",
        "no rotary scaling",
        "no last norm",
        "guidance from the other side",
    ],
)
def test_a_known_mistake_of_other_ports_would_show(
    model: OriginalT3, voice: Clip, logits: np.ndarray, fault: str
) -> None:
    """The comparison above fails, by far, for each mistake."""
    assert relative(logits, Formulas(weights(model), fault).logits(voice)) > 1e-4


def test_shapes(model: OriginalT3, voice: Clip) -> None:
    prefix = model.prefix(condition(voice))
    assert prefix.shape == (1, 2 + CONFIG.perceiver_queries, CONFIG.width)
    both = model.embed_input(mx.array(TEXT), 2)
    assert both.shape == (2, TEXT.size + 4, CONFIG.width)
    assert model.embed_input(mx.array(TEXT), 1).shape == (1, TEXT.size + 4, CONFIG.width)
    hidden = model(both)
    assert hidden.shape == both.shape
    assert model.logits(hidden).shape == (2, TEXT.size + 4, CONFIG.speech_vocabulary)


def test_half_precision_stays_half_and_its_logits_are_float32(
    model: OriginalT3, voice: Clip
) -> None:
    """Catches a scalar array, such as the exaggeration, that turns all into float32."""
    half = OriginalT3(CONFIG)
    half.update(tree_map(lambda x: x.astype(mx.float16), model.parameters()))
    cache = half.make_cache()
    assert isinstance(cache, LlamaCache)
    hidden = half(half.prefix(condition(voice)), cache=cache)
    assert hidden.dtype == mx.float16
    assert half.embed_input(mx.array(TEXT), 2).dtype == mx.float16
    assert {x.dtype for x in cache.arrays} == {mx.float16}
    assert half.logits(hidden).dtype == mx.float32


def test_the_table_of_unread_embeddings_is_no_parameter(model: OriginalT3) -> None:
    names = [name for name, _ in cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))]
    assert not [name for name in names if "embed_tokens" in name or "rope" in name]
    assert len(names) == 9 * CONFIG.layers + 20


# --- sampling ---------------------------------------------------------------------------------


def scores(logits: list[float], history: tuple[int, ...] = (), **options: Any) -> np.ndarray:
    marks = np.zeros((1, len(logits)), bool)
    marks[0, list(history)] = True
    off: dict[str, Any] = {
        "temperature": 1.0,
        "min_p": 0.0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
    }
    chosen = SamplingOptions(**(off | options))
    return np.array(filter_logits(mx.array([logits]), mx.array(marks), chosen, OriginalT3.filters))[
        0
    ]


def test_min_p_removes_what_is_unlikely_beside_the_likeliest() -> None:
    logits = np.log([0.5, 0.3, 0.15, 0.05]).tolist()
    assert np.isfinite(scores(logits, min_p=0.11)).tolist() == [True, True, True, False]
    assert np.isfinite(scores(logits, min_p=0.31)).tolist() == [True, True, False, False]
    assert np.isfinite(scores(logits, min_p=1.0)).tolist() == [True, False, False, False]
    assert np.isfinite(scores(logits, min_p=0.0)).all()


def test_min_p_decides_exactly_where_a_share_is_within_rounding_of_the_limit() -> None:
    rng = np.random.default_rng(5)
    largest = rng.uniform(1, 20, 4000).astype(np.float32)
    near = (largest + np.log(0.05)).astype(np.float32)
    steps = rng.integers(-3, 4, near.size).astype(np.float32)
    near += steps * np.spacing(near)
    rows = np.stack([largest, near, np.full_like(near, -np.inf)], axis=1)
    exact = near.astype(np.float64) - largest >= np.log(0.05)
    assert 0.3 < exact.mean() < 0.7
    filtered = min_p(mx.array(rows), mx.zeros(rows.shape, mx.bool_), SamplingOptions(min_p=0.05))
    kept = np.isfinite(np.array(filtered))
    assert kept[:, 0].all() and not kept[:, 2].any()
    np.testing.assert_array_equal(kept[:, 1], exact)


def test_the_temperature_comes_before_min_p() -> None:
    """0.1 of the likeliest at temperature 1 is 0.01 at 0.5."""
    logits = np.log([0.9, 0.09]).tolist()
    assert np.isfinite(scores(logits, min_p=0.05)).all()
    assert np.isfinite(scores(logits, min_p=0.05, temperature=0.5)).tolist() == [True, False]


def test_the_penalty_comes_before_min_p() -> None:
    """Turbo penalises what its filters kept; the original filters what it penalised."""
    logits = [3.0, 1.0, 0.2]
    assert np.isfinite(scores(logits, min_p=0.1)).tolist() == [True, True, False]
    assert np.isfinite(scores(logits, (0,), min_p=0.1, repetition_penalty=3.0)).all()


def test_top_p_sums_probabilities_that_min_p_left() -> None:
    """Catches probabilities that are not renewed after min-p: 0.18 of all, 0.209 of the rest."""
    logits = np.log([0.5, 0.18, 0.18, 0.04, 0.04, 0.03, 0.03]).tolist()
    kept = np.isfinite(scores(logits, min_p=0.1, top_p=0.8)).tolist()
    assert kept == [True, True, True, False, False, False, False]
    assert np.isfinite(scores(logits, top_p=0.8)).tolist()[3:] == [False] * 4
    kept = np.isfinite(scores(np.log([0.5, 0.2, 0.1, 0.1, 0.1]).tolist(), min_p=0.3, top_p=0.7))
    assert kept.tolist() == [True, False, False, False, False]


def scripted_samples(monkeypatch: pytest.MonkeyPatch, script: list[int]) -> list[Any]:
    """Let a decoder sample a script; returns the arguments of each sampling."""
    calls: list[Any] = []

    def scripted(*arguments: Any) -> mx.array:
        calls.append(arguments)
        return mx.array([script[len(calls) - 1]])

    def on_host(scores: np.ndarray, history: np.ndarray, *others: Any) -> int:
        return int(scripted(scores[None], mx.array(history[None]), *others)[0])

    monkeypatch.setattr("mlx_audio_turbo.t3.choices.sample", scripted)
    monkeypatch.setattr("mlx_audio_turbo.t3.choices.choose", on_host)
    return calls


def request(model: OriginalT3, voice: Clip, number: int = 0, **changes: Any) -> Request:
    """A request whose text, key and exaggeration depend on ``number``."""
    values: dict[str, Any] = {
        "id": number,
        "text_ids": mx.array(np.resize(TEXT, 3 + 4 * (number % 3)) + number),
        "prefix": prefill_prefix(model, condition(voice, 0.5 + number)),
        "key": mx.random.key(number),
        "max_tokens": 8 + 3 * number,
        "options": OPTIONS,
    }
    return Request(**(values | changes))


def test_the_history_holds_each_id_once(
    model: OriginalT3, voice: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that occurred twice is penalised once."""
    calls = scripted_samples(monkeypatch, [11, 12, 11, STOP_SPEECH, 0])
    list(decode(model, [request(model, voice)], options=OPTIONS))
    logits = mx.ones((1, CONFIG.speech_vocabulary))
    history, options, filters = calls[3][1:4]
    assert np.flatnonzero(np.array(history[0])).tolist() == [11, 12]
    found = np.array(filter_logits(logits, history, options, filters)[0])
    np.testing.assert_allclose(found[[11, 12]], 1 / 1.2 / 0.8, rtol=1e-6)


def test_ids_that_s3gen_does_not_know_are_never_sampled(model: OriginalT3, voice: Clip) -> None:
    """Even where they are by far the likeliest; at temperature 0 too."""
    head = model.speech_head.weight
    loud = np.array(head)
    loud[START_SPEECH] *= 50
    loud[STOP_SPEECH + 1 :] *= 50
    model.speech_head.weight = mx.array(loud)
    try:
        for temperature in (0.8, 0.0):
            options = SamplingOptions(
                temperature=temperature, min_p=0.05, top_p=1.0, cfg_weight=WEIGHT
            )
            found = decode(
                model, [request(model, voice, options=options)], options=options, stop=False
            )
            tokens = [token for _, token in found if token is not None]
            assert len(tokens) == 8
            assert max(tokens) < START_SPEECH
    finally:
        model.speech_head.weight = head


# --- guidance and the loop ---------------------------------------------------------------------


def test_without_guidance_there_is_one_row(
    model: OriginalT3, voice: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    make = OriginalT3.make_forward

    def noting(self: OriginalT3) -> Any:
        inner = make(self)

        def noted(x: mx.array, cache: Any, lengths: list[int]) -> mx.array:
            rows.append(len(x))
            return inner(x, cache, lengths)

        return noted

    plain = SamplingOptions(min_p=0.05, top_p=1.0, cfg_weight=0)
    requests = [request(model, voice, options=options) for options in (OPTIONS, plain)]
    monkeypatch.setattr(OriginalT3, "make_forward", noting)
    for one, options, count in zip(requests, (OPTIONS, plain), (2, 1), strict=True):
        rows.clear()
        list(decode(model, [one], options=options, stop=False))
        assert set(rows) == {count}


def test_no_weight_is_the_conditional_row() -> None:
    logits = mx.random.normal((4, 7), key=mx.random.key(0))
    np.testing.assert_array_equal(guide(logits, 0), logits[0::2])
    np.testing.assert_allclose(guide(logits, -1), logits[1::2], rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_batched_equals_alone(
    model: OriginalT3, voice: Clip, batch_size: int, weight: float
) -> None:
    """Requests of different lengths and exaggerations, which join late and leave early.

    Catches padding that is attended, rotary positions that count it, rows of guidance that part.
    """
    options = SamplingOptions(min_p=0.05, top_p=1.0, cfg_weight=weight)
    requests = [request(model, voice, number, options=options) for number in range(5)]
    together: dict[int, list[int | None]] = {}
    found = decode(model, requests, options=options, batch_size=batch_size, stop=False)
    for id, token in found:
        together.setdefault(id, []).append(token)
    for one in requests:
        alone = decode(model, [one], options=options, stop=False)
        assert together[one.id] == [token for _, token in alone]
        assert len(together[one.id]) == one.max_tokens + 1


def test_each_request_has_its_own_weight_of_guidance(model: OriginalT3, voice: Clip) -> None:
    options = [SamplingOptions(min_p=0.05, top_p=1.0, cfg_weight=w) for w in (0.5, 2.0, 0.5)]
    requests = [request(model, voice, n, options=each) for n, each in enumerate(options)]
    together: dict[int, list[int | None]] = {}
    for id, token in decode(model, requests, options=OPTIONS, batch_size=3, stop=False):
        together.setdefault(id, []).append(token)
    for one in requests:
        alone = [token for _, token in decode(model, [one], options=OPTIONS, stop=False)]
        assert together[one.id] == alone
    with pytest.raises(ValueError, match="a decoder each"):
        Decoder(model, options=OPTIONS).add(
            request(model, voice, options=SamplingOptions(cfg_weight=0))
        )


def test_equal_keys_give_equal_tokens(model: OriginalT3, voice: Clip) -> None:
    first, again, other = (
        [
            token
            for _, token in decode(
                model, [request(model, voice, key=mx.random.key(key))], options=OPTIONS, stop=False
            )
        ]
        for key in (1, 1, 2)
    )
    assert first == again != other


def test_a_text_longer_than_its_table_is_refused(model: OriginalT3, voice: Clip) -> None:
    """An MLX embedding reads beyond its table without an error."""
    decoder = Decoder(model, options=OPTIONS)
    fits = CONFIG.text_positions - 2
    decoder.add(request(model, voice, text_ids=mx.zeros((fits,), mx.int32)))
    with pytest.raises(OptionError, match=f"{fits + 3} ids .* shorten the text"):
        decoder.add(request(model, voice, 1, text_ids=mx.zeros((fits + 1,), mx.int32)))


def test_an_id_outside_of_the_text_table_is_refused(model: OriginalT3, voice: Clip) -> None:
    """As from the multilingual tokenizer with the English table."""
    with pytest.raises(ModelFolderError, match="id 704 and the text table has 704"):
        Decoder(model, options=OPTIONS).add(request(model, voice, text_ids=mx.array([704])))


def test_a_prefix_belongs_to_a_voice_and_an_exaggeration(model: OriginalT3, voice: Clip) -> None:
    prefixes = PrefixCache(model)
    calm, excited = (prefixes.get("anna", condition(voice, x)) for x in (0.5, 1.0))
    assert calm is not excited
    assert prefixes.get("anna", condition(voice, 0.5)) is calm
    held = 2 + CONFIG.perceiver_queries
    assert calm.offset == held
    # Buffers may have room behind what they hold.
    a, b = (np.array(prefix.arrays[0])[:, :, :held] for prefix in (calm, excited))
    np.testing.assert_array_equal(a[:, :, :-1], b[:, :, :-1])
    assert np.abs(a - b)[:, :, -1].max() > 1e-3


def test_a_prefix_is_unchanged_by_what_continues_it(model: OriginalT3, voice: Clip) -> None:
    held = PrefixCache(model).get("anna", condition(voice))
    before = [np.array(x) for x in held.arrays]
    for weight in (0.5, 0.0):
        options = SamplingOptions(cfg_weight=weight)
        requests = [request(model, voice, n, prefix=held, options=options) for n in range(2)]
        list(decode(model, requests, options=options, batch_size=2, stop=False))
    for old, new in zip(before, held.arrays, strict=True):
        np.testing.assert_array_equal(old, np.array(new))


# --- mlx-lm -----------------------------------------------------------------------------------


def test_turbo_never_imports_mlx_lm(tmp_path: Any) -> None:
    """Nor transformers: importing the package, loading Turbo and speaking with it."""
    program = """
import sys
import numpy as np
from mlx_audio_turbo import ChatterboxTurbo
model = ChatterboxTurbo.from_pretrained("tiny")
clip = np.random.default_rng(0).standard_normal(6 * 24_000).astype(np.float32) * 0.1
voice = model.encode_voice(clip, sample_rate=24_000)
assert len(model.generate("Hi.", voice=voice, seed=1, max_tokens=3).audio)
found = {name.partition(".")[0] for name in sys.modules} & {"mlx_lm", "transformers"}
assert not found, found
from mlx_audio_turbo.loading.networks import make_t3
from mlx_audio_turbo.ops import compiled
from mlx_audio_turbo.presets import TINY_ORIGINAL_T3
make_t3(TINY_ORIGINAL_T3)
assert "mlx_lm" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
