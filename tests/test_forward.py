"""T3 in its two forms: the network's own, and NumPy's."""

from __future__ import annotations

from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_audio_turbo import ops
from mlx_audio_turbo.ops import blas
from mlx_audio_turbo.t3.cache import GROWTH, KeyValueCache
from mlx_audio_turbo.t3.gpt2_numpy import NumpyForward
from mlx_audio_turbo.t3.interface import Condition
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward
from tests.test_t3 import CONFIG, UPSTREAM, convert

pytestmark = pytest.mark.skipif(ops.on_gpu(), reason="arrays of a GPU are not the host's")


@pytest.fixture(scope="module")
def model() -> TurboT3:
    model = TurboT3(CONFIG)
    convert(UPSTREAM, model)
    return model


def cache_of(model: TurboT3, lengths: list[int]) -> KeyValueCache:
    """Rows of these lengths, padded on the left; the same values at every call."""
    rows = []
    for row, length in enumerate(lengths):
        speaker = mx.random.normal((1, CONFIG.speaker_embedding), key=mx.random.key(row))
        prompt = mx.random.randint(0, 6561, (1, length - 1), key=mx.random.key(row))
        cache = model.make_cache()
        numpy_forward(model)(model.prefix(Condition(speaker, prompt)), cache, [0])
        rows.append((cache, 0, length))
    return KeyValueCache.gather(rows)


def numpy_forward(model: TurboT3) -> NumpyForward:
    return NumpyForward(model.tfmr, model.speech_head, model.config)


def rows_of(model: TurboT3, batch: int, time: int, seed: int) -> mx.array:
    """Embeddings (B, T, C)."""
    return model.embed_speech(mx.random.randint(0, 6561, (batch, time), key=mx.random.key(seed)))


@pytest.mark.parametrize("time", [1, 6])
@pytest.mark.parametrize("lengths", [[5], [9, 9], [3, 12, 7]])
def test_both_forms_give_the_same_scores(model: TurboT3, lengths: list[int], time: int) -> None:
    """Catches a mask, a position, a bias, a norm or an activation that the two do not share."""
    caches = cache_of(model, lengths), cache_of(model, lengths)
    forms = numpy_forward(model), partial(mlx_forward, model)
    held = list(lengths)
    for number in range(4):
        x = rows_of(model, len(lengths), time, number)
        ours, theirs = (
            np.array(form(x, cache, held)) for form, cache in zip(forms, caches, strict=True)
        )
        held = [length + time for length in held]
        assert ours.dtype == np.float32
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 2e-6
    assert caches[0].offset == caches[1].offset == max(lengths) + 4 * time


def test_an_empty_cache_is_filled_like_the_network_fills_it(model: TurboT3) -> None:
    x, caches = rows_of(model, 2, 11, 1), (model.make_cache(), model.make_cache())
    ours, theirs = (
        numpy_forward(model)(x, caches[0], [0, 0]),
        mlx_forward(model, x, caches[1], [0, 0]),
    )
    assert np.linalg.norm(np.array(ours - theirs)) / np.linalg.norm(np.array(theirs)) < 2e-6
    for a, b in zip(caches[0].arrays, caches[1].arrays, strict=True):
        assert np.abs(np.array(a) - np.array(b))[:, :, :11].max() < 1e-4


def test_the_cache_grows_and_keeps_what_it_held(model: TurboT3) -> None:
    length = GROWTH - 3
    cache, twin = cache_of(model, [length]), cache_of(model, [length])
    for number in range(6):
        x = rows_of(model, 1, 1, number)
        ours = np.array(numpy_forward(model)(x, cache, [length]))
        theirs = np.array(mlx_forward(model, x, twin, [length]))
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 2e-6
        length += 1
    for a, b in zip(cache.arrays, twin.arrays, strict=True):
        assert np.abs(np.array(a) - np.array(b))[:, :, :length].max() < 1e-4


def test_copies_of_a_cache_with_room_do_not_write_into_each_other(model: TurboT3) -> None:
    """Nor into what they are copies of, which may be continued too."""
    form, prefix = numpy_forward(model), model.make_cache()
    form(rows_of(model, 1, 5, 0), prefix, [0])
    assert prefix.arrays[0].shape[2] > 7
    seen = []
    for seed in (1, 2, 1):
        twin = prefix.copy()
        form(rows_of(model, 1, 2, seed), twin, [5])
        seen.append(twin)
    form(rows_of(model, 1, 2, 3), prefix, [5])
    first, other, again = (np.array(twin.arrays[0])[:, :, :7] for twin in seen)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other)[:, :, 5:].min() > 0
    np.testing.assert_array_equal(first[:, :, :5], other[:, :, :5])


def test_weights_are_not_held_twice(model: TurboT3) -> None:
    layer, block = numpy_forward(model)._layers[0], model.tfmr.h[0]
    for share in layer._feed_forward:
        assert np.shares_memory(share._weight1, np.asarray(block.mlp.c_fc.weight))
        assert np.shares_memory(share._weight2, np.asarray(block.mlp.c_proj.weight))
    for share in layer._attention:
        assert all(np.shares_memory(w, np.asarray(block.attn.c_attn.weight)) for w, _ in share._qkv)
        assert np.shares_memory(share._out, np.asarray(block.attn.c_proj.weight))


@pytest.mark.parametrize("cores", [1, 2, 3, 64])
def test_any_number_of_cores_may_share_the_work(
    model: TurboT3, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "cores", lambda: cores)
    x, cache, twin = rows_of(model, 2, 3, 1), model.make_cache(), model.make_cache()
    ours, theirs = numpy_forward(model)(x, cache, [0, 0]), mlx_forward(model, x, twin, [0, 0])
    assert np.linalg.norm(np.array(ours - theirs)) / np.linalg.norm(np.array(theirs)) < 2e-6


def test_numpy_takes_float32_alone(model: TurboT3) -> None:
    half = TurboT3(CONFIG)
    half.update(tree_map(lambda x: x.astype(mx.float16), model.parameters()))
    assert isinstance(model.make_forward(), NumpyForward)
    assert not isinstance(half.make_forward(), NumpyForward)
