"""T3 in its two forms, for GPT-2 and Llama: the network's own, and NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_audio_turbo import ops
from mlx_audio_turbo.config import OriginalT3Config
from mlx_audio_turbo.loading.networks import make_t3
from mlx_audio_turbo.ops import blas
from mlx_audio_turbo.t3 import gpt2_numpy, original, turbo
from mlx_audio_turbo.t3.cache import GROWTH, KeyValueCache
from mlx_audio_turbo.t3.gpt2_numpy import gpt2_forward
from mlx_audio_turbo.t3.llama_cache import LlamaCache
from mlx_audio_turbo.t3.llama_numpy import llama_forward, rotary_frequencies
from mlx_audio_turbo.t3.transformer_numpy import FEW_ROWS, NumpyForward
from tests import test_t3, test_t3_original
from tests.helpers import relative

pytestmark = pytest.mark.skipif(ops.on_gpu(), reason="arrays of a GPU are not the host's")


@dataclass(frozen=True)
class Kind:
    """A model and its forms: how to make them, and the cache of each.

    rounding: how far apart two float32 forms may be.
    """

    model: Any
    numpy: Callable[[], NumpyForward]
    network: Callable[..., mx.array]
    network_cache: type
    rounding: float

    @property
    def width(self) -> int:
        return self.model.config.width

    def cache(self, form: str) -> Any:
        """An empty cache of a form."""
        made = KeyValueCache if form == "numpy" else self.network_cache
        return made(self.model.config.layers)


@pytest.fixture(scope="module")
def gpt2() -> Kind:
    model = make_t3(test_t3.CONFIG)
    test_t3.convert(test_t3.UPSTREAM, model)
    return Kind(
        model,
        lambda: gpt2_forward(model.tfmr, model.speech_head, model.config),
        partial(turbo.mlx_forward, model),
        KeyValueCache,
        rounding=2e-6,
    )


@pytest.fixture(scope="module")
def llama() -> Kind:
    model = make_t3(test_t3_original.CONFIG)
    weights = test_t3_original.weights(model)
    model.load_weights([(name, mx.array(x.astype(np.float32))) for name, x in weights.items()])
    return Kind(
        model,
        lambda: llama_forward(model.tfmr, model.speech_head, model.config),
        partial(original.mlx_forward, model),
        LlamaCache,
        rounding=1e-5,
    )


@pytest.fixture(params=["gpt2", "llama"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.getfixturevalue(request.param)


def rows_of(kind: Kind, batch: int, time: int, seed: int) -> mx.array:
    """Embeddings (B, T, C)."""
    return 0.5 * mx.random.normal((batch, time, kind.width), key=mx.random.key(seed))


def filled(kind: Kind, form: str, lengths: list[int]) -> Any:
    """A cache of rows of these lengths, padded on the left; the same values at every call."""
    step, rows = (kind.numpy() if form == "numpy" else kind.network), []
    for row, length in enumerate(lengths):
        cache = kind.cache(form)
        step(rows_of(kind, 1, length, 100 + row), cache, [0])
        rows.append((cache, 0, length))
    return type(rows[0][0]).gather(rows)


@pytest.mark.parametrize("time", [1, 6])
@pytest.mark.parametrize("lengths", [[5], [9, 9], [4, 7], [3, 12, 7], [2, 2, 6, 6, 4]])
def test_both_forms_give_the_same_scores(kind: Kind, lengths: list[int], time: int) -> None:
    """Catches a mask, a position, a bias, a norm or an activation that the two do not share."""
    forms = kind.numpy(), kind.network
    caches = [filled(kind, form, lengths) for form in ("numpy", "network")]
    held = list(lengths)
    for number in range(4):
        x = rows_of(kind, len(lengths), time, number)
        ours, theirs = (
            np.array(form(x, cache, held)) for form, cache in zip(forms, caches, strict=True)
        )
        held = [length + time for length in held]
        assert ours.dtype == np.float32
        assert relative(ours, theirs) < kind.rounding
    assert caches[0].offset == caches[1].offset == max(lengths) + 4 * time


def test_an_empty_cache_is_filled_like_the_network_fills_it(kind: Kind) -> None:
    x, caches = rows_of(kind, 2, 11, 1), [kind.cache(form) for form in ("numpy", "network")]
    ours, theirs = (
        np.array(form(x, cache, [0, 0]))
        for form, cache in zip((kind.numpy(), kind.network), caches, strict=True)
    )
    assert relative(ours, theirs) < kind.rounding
    for a, b in zip(caches[0].arrays, caches[1].arrays, strict=True):
        assert np.abs(np.array(a)[:, :, :11] - np.array(b)[:, :, :11]).max() < 1e-4


def test_the_cache_grows_and_keeps_what_it_held(kind: Kind) -> None:
    length = GROWTH - 3
    cache, twin = (filled(kind, form, [length]) for form in ("numpy", "network"))
    step = kind.numpy()
    for number in range(6):
        x = rows_of(kind, 1, 1, number)
        ours = np.array(step(x, cache, [length]))
        assert relative(ours, np.array(kind.network(x, twin, [length]))) < kind.rounding
        length += 1
    for a, b in zip(cache.arrays, twin.arrays, strict=True):
        ours, theirs = (np.array(x)[:, :, :length] for x in (a, b))
        assert np.abs(ours - theirs).max() < 1e-4 * max(1, np.abs(theirs).max())


def test_copies_of_a_cache_with_room_do_not_write_into_each_other(kind: Kind) -> None:
    """Nor into what they are copies of, which may be continued too."""
    form, prefix = kind.numpy(), kind.cache("numpy")
    form(rows_of(kind, 1, 5, 0), prefix, [0])
    assert prefix.arrays[0].shape[2] > 7
    seen = []
    for seed in (1, 2, 1):
        twin = prefix.copy()
        form(rows_of(kind, 1, 2, seed), twin, [5])
        seen.append(twin)
    form(rows_of(kind, 1, 2, 3), prefix, [5])
    first, other, again = (np.array(twin.arrays[0])[:, :, :7] for twin in seen)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other)[:, :, 5:].min() > 0
    np.testing.assert_array_equal(first[:, :, :5], other[:, :, :5])


def test_weights_of_gpt_2_are_not_held_twice(gpt2: Kind) -> None:
    layer, block = gpt2.numpy().layers[0], gpt2.model.tfmr.h[0]
    for share in layer.feed_forward:
        assert isinstance(share, gpt2_numpy.FeedForward)
        assert np.shares_memory(share.enter.weight, np.asarray(block.mlp.c_fc.weight))
        assert np.shares_memory(share.leave.weight, np.asarray(block.mlp.c_proj.weight))
    for share in layer.attention:
        together = np.asarray(block.attn.c_attn.weight)
        for part in (share.query, share.key, share.value):
            assert np.shares_memory(part.weight, together)
        assert np.shares_memory(share.out.weight, np.asarray(block.attn.c_proj.weight))


def test_weights_of_a_llama_are_not_held_twice(llama: Kind) -> None:
    layer, block = llama.numpy().layers[0], llama.model.tfmr.layers[0]
    for share in layer.feed_forward:
        for name in ("gate", "up", "down"):
            module = getattr(block.mlp, f"{name}_proj")
            assert np.shares_memory(getattr(share, name).weight, np.asarray(module.weight))
    for share in layer.attention:
        for name, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
            module = getattr(block.self_attn, f"{letter}_proj")
            assert np.shares_memory(getattr(share, name).weight, np.asarray(module.weight))


@pytest.mark.parametrize("cores", [1, 2, 3, 64])
def test_any_number_of_cores_may_share_the_work(
    kind: Kind, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "cores", lambda: cores)
    x, cache, twin = rows_of(kind, 2, 3, 1), kind.cache("numpy"), kind.cache("network")
    ours, theirs = kind.numpy()(x, cache, [0, 0]), kind.network(x, twin, [0, 0])
    assert relative(np.array(ours), np.array(theirs)) < kind.rounding


def test_numpy_takes_float32_alone(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(kind.model), "reads_stored", lambda self: False)
    half = make_t3(kind.model.config)
    half.update(tree_map(lambda x: x.astype(mx.float16), kind.model.parameters()))
    assert isinstance(kind.model.make_forward(), NumpyForward)
    assert isinstance(kind.model.make_cache(), KeyValueCache)
    assert not isinstance(half.make_forward(), NumpyForward)
    assert isinstance(half.make_cache(), kind.network_cache)


def test_a_product_of_few_rows_in_blocks_is_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a last block that is left out, and rows that get each other's results."""
    from mlx_audio_turbo.t3 import transformer_numpy as module

    monkeypatch.setattr(module, "BLOCK", 64)
    random = np.random.default_rng(0)
    weight, bias = random.standard_normal((21, 10)), random.standard_normal(21)
    for rows in range(1, FEW_ROWS + 2):
        x = random.standard_normal((1, rows, 10)).astype(np.float32)
        found = module.Linear(weight.astype(np.float32), bias.astype(np.float32))(x)
        assert relative(found, x @ weight.T + bias) < 1e-6


def test_the_rotary_frequencies_are_those_of_mlx_lm(llama: Kind) -> None:
    """At both ends of the scaling and between them, for the published head width."""
    config = llama.model.config
    assert isinstance(config, OriginalT3Config) and config.head_dim == 64
    theirs = llama.model.tfmr.layers[0].self_attn.rope._freqs
    np.testing.assert_allclose(rotary_frequencies(config), 1 / np.array(theirs), rtol=1e-6)
