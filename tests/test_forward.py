"""A step of decoding in its two forms: the network's own, and NumPy's."""

from __future__ import annotations

from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_audio_turbo import ops
from mlx_audio_turbo.t3.cache import BLOCK, KeyValueCache, gather
from mlx_audio_turbo.t3.decoding import prefill_prefix
from mlx_audio_turbo.t3.model import T3
from mlx_audio_turbo.t3.stepping import HostStep, device_step, step_of
from tests.test_t3 import CONFIG, UPSTREAM, convert

pytestmark = pytest.mark.skipif(ops.on_gpu(), reason="arrays of a GPU are not the host's")


@pytest.fixture(scope="module")
def model() -> T3:
    model = T3(CONFIG)
    convert(UPSTREAM, model)
    return model


def cache_of(model: T3, lengths: list[int]) -> KeyValueCache:
    """Rows of these lengths, padded on the left; the same values at every call."""
    rows = []
    for row, length in enumerate(lengths):
        speaker = mx.random.normal((1, CONFIG.speaker_embedding), key=mx.random.key(row))
        prompt = mx.random.randint(0, 6561, (1, length - 1), key=mx.random.key(row))
        rows.append((prefill_prefix(model, speaker, prompt), 0, length))
    return gather(rows)


@pytest.mark.parametrize("lengths", [[5], [9, 9], [3, 12, 7]])
def test_both_forms_give_the_same_scores(model: T3, lengths: list[int]) -> None:
    """Catches a mask, a position, a bias, a norm or an activation that the two do not share."""
    caches = cache_of(model, lengths), cache_of(model, lengths)
    steps = HostStep(model), partial(device_step, model)
    held = list(lengths)
    for number in range(4):
        ids = mx.random.randint(0, 6561, (len(lengths),), key=mx.random.key(number))
        ours, theirs = (
            np.array(step(ids, cache, held)) for step, cache in zip(steps, caches, strict=True)
        )
        held = [length + 1 for length in held]
        assert ours.dtype == np.float32
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 2e-6
    assert caches[0].offset == caches[1].offset == max(lengths) + 4


def test_the_cache_grows_and_keeps_what_it_held(model: T3) -> None:
    cache, twin = cache_of(model, [BLOCK - 3]), cache_of(model, [BLOCK - 3])
    length = BLOCK - 3
    for number in range(6):
        ids = mx.array([number])
        ours = np.array(HostStep(model)(ids, cache, [length]))
        theirs = np.array(device_step(model, ids, twin, [length]))
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 2e-6
        length += 1
    for a, b in zip(cache.arrays, twin.arrays, strict=True):
        assert np.abs(np.array(a) - np.array(b))[:, :, :length].max() < 1e-4


def test_weights_are_not_held_twice(model: T3) -> None:
    step = HostStep(model)
    assert np.shares_memory(step._embeddings, np.asarray(model.speech_emb.weight))
    assert np.shares_memory(
        step._layers[0]._linear1._weight, np.asarray(model.tfmr.h[0].mlp.c_fc.weight)
    )


def test_numpy_takes_the_step_of_float32_alone(model: T3) -> None:
    half = T3(CONFIG)
    half.update(tree_map(lambda x: x.astype(mx.float16), model.parameters()))
    assert isinstance(step_of(model), HostStep)
    assert not isinstance(step_of(half), HostStep)
