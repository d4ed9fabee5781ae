"""Llama by compiled kernels: equal to mlx-lm's and to NumPy's on the same stored weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_audio_turbo import ops
from mlx_audio_turbo.config import OriginalT3Config
from mlx_audio_turbo.ops import compiled
from mlx_audio_turbo.ops.compiled import transformer as kernels
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.presets import ORIGINAL_T3, TINY_ORIGINAL_T3
from mlx_audio_turbo.t3.cache import GROWTH, KeyValueCache
from mlx_audio_turbo.t3.decoder import Request
from mlx_audio_turbo.t3.interface import prefill_prefix
from mlx_audio_turbo.t3.llama_cache import LlamaCache
from mlx_audio_turbo.t3.llama_numpy import llama_forward
from mlx_audio_turbo.t3.original import OriginalT3, mlx_forward
from tests.decode import condition, decode
from tests.helpers import relative
from tests.test_gpt2_compiled import STORED, Stored, quantise_like, store, widened

pytestmark = pytest.mark.skipif(
    ops.on_gpu() or not compiled.available(), reason="there are no compiled kernels"
)
CONFIG = replace(TINY_ORIGINAL_T3, feed_forward=320)
"""Units of which the last piece is longer than the others."""
GREEDY = SamplingOptions(temperature=0, cfg_weight=0.5)
SAMPLED = SamplingOptions(temperature=1.0, top_p=1.0, repetition_penalty=1.0, cfg_weight=0.5)


def made(config: OriginalT3Config, stored: Stored) -> OriginalT3:
    model = OriginalT3(config)
    store(model, stored, model.tfmr)
    return model


def plain(model: OriginalT3) -> OriginalT3:
    """The same with every float in float32: MLX's own arithmetic on what is stored."""
    twin = OriginalT3(model.config)
    for block, other in zip(model.tfmr.layers, twin.tfmr.layers, strict=True):
        for part in ("self_attn", "mlp"):
            quantise_like(getattr(block, part), getattr(other, part))
    twin.update(widened(model))
    return twin


@pytest.fixture(scope="module", params=STORED, ids=str)
def model(request: pytest.FixtureRequest) -> OriginalT3:
    return made(CONFIG, request.param)


def rows_of(batch: int, time: int, seed: int) -> mx.array:
    return 0.5 * mx.random.normal((batch, time, CONFIG.width), key=mx.random.key(seed))


def filled(form: Any, lengths: list[int], kind: Any = KeyValueCache) -> Any:
    """A cache of rows of these lengths, padded on the left."""
    rows = []
    for row, length in enumerate(lengths):
        cache = kind(CONFIG.layers)
        form(rows_of(1, length, 100 + row), cache, [0])
        rows.append((cache, 0, length))
    return kind.gather(rows)


@pytest.mark.parametrize("lengths", [[5], [9, 9], [4, 7, 7], [3, 3, 12, 12, 5, 5], [GROWTH - 2]])
def test_a_step_is_the_network_s(model: OriginalT3, lengths: list[int]) -> None:
    """Catches a wrong angle, gate, norm or mask, a cache that moved; each row alone is the same."""
    ours, theirs = model.make_forward(), partial(mlx_forward, plain(model))
    assert type(ours).__module__.endswith("llama_compiled")
    caches = filled(ours, lengths), filled(theirs, lengths, LlamaCache)
    lonely = [filled(ours, lengths[: row + 1]) for row in range(len(lengths))]
    lonely = [KeyValueCache.gather([(each, i, lengths[i])]) for i, each in enumerate(lonely)]
    held = list(lengths)
    for number in range(4):
        x = rows_of(len(lengths), 1, number)
        found = np.array(ours(x, caches[0], held))
        assert found.dtype == np.float32
        assert relative(found, np.array(theirs(x, caches[1], held))) < 3e-6
        for row, cache in enumerate(lonely):
            alone = np.array(ours(x[row : row + 1], cache, held[row : row + 1]))
            np.testing.assert_array_equal(alone[0], found[row])
        held = [length + 1 for length in held]
    x = rows_of(len(lengths), 6, 9)
    assert relative(ours(x, caches[0], held), np.array(theirs(x, caches[1], held))) < 3e-6


def test_any_number_of_threads_gives_the_same_bits(
    model: OriginalT3, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most in (1, 2, 5):
        monkeypatch.setattr(
            "mlx_audio_turbo.t3.llama_compiled.threads", lambda heads, most=most: most
        )
        form = model.make_forward()
        cache = filled(form, [9, 4])
        steps = [form(rows_of(2, 1, i), cache, [9 + i, 4 + i]) for i in range(20)]
        found.append([np.array(each) for each in steps])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def tokens(
    model: OriginalT3,
    form: Any,
    count: int,
    options: SamplingOptions,
    monkeypatch: pytest.MonkeyPatch,
    texts: tuple[int, ...] = (12,),
) -> dict[int, list[int | None]]:
    """Of texts of these lengths, by the form; those of several texts together."""
    kind = LlamaCache if isinstance(form, partial) else KeyValueCache
    with monkeypatch.context() as patch:
        patch.setattr(OriginalT3, "make_forward", lambda self: form)
        patch.setattr(OriginalT3, "make_cache", lambda self: kind(self.config.layers))
        speaker = mx.random.normal((model.config.speaker_embedding,), key=mx.random.key(1))
        prompt = mx.random.randint(0, 6561, (20,), key=mx.random.key(2))
        prefix = prefill_prefix(model, condition(speaker, prompt))
        requests = [
            Request(number, mx.arange(length), prefix, mx.random.key(number), count - 7 * number)
            for number, length in enumerate(texts)
        ]
        found: dict[int, list[int | None]] = {}
        decoding = decode(model, requests, options=options, batch_size=len(texts), stop=False)
        for id, token in decoding:
            found.setdefault(id, []).append(token)
        return found


@pytest.mark.parametrize("weight", [0.5, 0.0], ids=["guided", "unguided"])
def test_200_tokens_are_those_of_numpy(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guided and not, greedy, on float32; of two texts together as of each alone."""
    model = made(CONFIG, STORED[0])
    forms = model.make_forward(), llama_forward(model.tfmr, model.speech_head, CONFIG)
    options = replace(GREEDY, cfg_weight=weight)
    ours, theirs = (tokens(model, form, 200, options, monkeypatch) for form in forms)
    assert ours == theirs and len(ours[0]) == 201
    both = tokens(model, forms[0], 60, options, monkeypatch, texts=(12, 5))
    assert both[0][:60] == ours[0][:60]
    assert both == tokens(model, forms[1], 60, options, monkeypatch, texts=(12, 5))


@pytest.mark.parametrize(
    ("config", "count"),
    [(CONFIG, 60), pytest.param(ORIGINAL_T3, 60, marks=pytest.mark.slow)],
    ids=["small", "original"],
)
@pytest.mark.parametrize("stored", STORED[1:], ids=str)
@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_tokens_are_those_of_mlx_s_quantised_arithmetic(
    stored: Stored,
    options: SamplingOptions,
    config: OriginalT3Config,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = made(config, stored)
    twin = plain(model)
    ours = tokens(model, model.make_forward(), count, options, monkeypatch)
    theirs = tokens(twin, partial(mlx_forward, twin), count, options, monkeypatch)
    assert ours == theirs
    assert options is GREEDY or len(set(ours[0])) > count // 2


def test_what_the_kernels_do_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow heads, half arithmetic, and a numba that refuses: NumPy's form, or mlx-lm's."""
    narrow = OriginalT3(replace(CONFIG, heads=4))
    assert not narrow.reads_stored() and OriginalT3(CONFIG).reads_stored()
    assert type(narrow.make_forward()).__name__ == "NumpyForward"
    half = made(CONFIG, STORED[0])
    half.update(tree_map(lambda x: x.astype(mx.float16), half.parameters()))
    assert isinstance(half.make_forward(), partial) and isinstance(half.make_cache(), LlamaCache)

    def refused(*types: Any) -> None:
        raise compiled.CannotCompileError("no")

    monkeypatch.setattr(kernels.step, "compile", refused)
    for stored, forward, cache in (
        (STORED[0], "NumpyForward", KeyValueCache),
        (STORED[2], "partial", LlamaCache),
    ):
        model = made(CONFIG, stored)
        assert type(model.make_forward()).__name__ == forward
        assert isinstance(model.make_cache(), cache)
        prefill_prefix(model, condition(mx.zeros(256), mx.arange(6)))


def test_prompts_and_text_are_float32(model: OriginalT3) -> None:
    speaker = mx.zeros((CONFIG.speaker_embedding,))
    assert model.prefix(condition(speaker, mx.arange(6))).dtype == mx.float32
    assert model.embed_input(mx.arange(3), 2).dtype == mx.float32
    ids = mx.array([[3]])
    assert model.embed_speech(ids, ids).dtype == mx.float32
