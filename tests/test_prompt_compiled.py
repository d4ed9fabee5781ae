"""Prompts and texts by compiled kernels: equal to the network, and to its positions one by one."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from mlx_audio_turbo import ops
from mlx_audio_turbo.ops import compiled
from mlx_audio_turbo.t3 import original, turbo
from mlx_audio_turbo.t3.cache import GROWTH, KeyValueCache
from mlx_audio_turbo.t3.llama_cache import LlamaCache
from tests import test_gpt2_compiled, test_llama_compiled
from tests.helpers import relative
from tests.test_gpt2_compiled import STORED, Stored

pytestmark = pytest.mark.skipif(
    ops.on_gpu() or not compiled.available(), reason="there are no compiled kernels"
)
FAMILIES = [(test_gpt2_compiled, turbo, KeyValueCache), (test_llama_compiled, original, LlamaCache)]


def held(cache: Any, lengths: list[int]) -> np.ndarray:
    """Keys and values of all rows' own positions."""
    found = []
    for array in cache.arrays:
        for row, length in zip(np.array(array)[:, :, : cache.offset], lengths, strict=True):
            found.append(row[:, cache.offset - length :].reshape(-1))
    return np.concatenate(found)


@pytest.mark.parametrize("family", FAMILIES, ids=["gpt2", "llama"])
@pytest.mark.parametrize("stored", STORED, ids=str)
def test_a_prompt_is_the_network_s(family: Any, stored: Stored) -> None:
    """Catches a wrong mask, an empty column that counts, another row's panel, a bias added twice.

    Lengths end within, at and behind the last column of a panel.
    """
    tests, module, kind = family
    model = tests.made(tests.CONFIG, stored)
    ours, theirs = model.make_forward(), partial(module.mlx_forward, tests.plain(model))
    kinds = () if kind is KeyValueCache else (kind,)
    for lengths in ([5], [4, 7, 7], [GROWTH - 2]):
        caches = tests.filled(ours, lengths), tests.filled(theirs, lengths, *kinds)
        taken = list(lengths)
        for number, count in enumerate((2, 47, 48, 49, 150)):
            x = tests.rows_of(len(lengths), count, number)
            found = ours(x, caches[0], taken)
            assert relative(found, np.array(theirs(x, caches[1], taken))) < 3e-6
            taken = [length + count for length in taken]
        if not kinds:
            assert relative(held(caches[0], taken), held(caches[1], taken)) < 3e-6


@pytest.mark.parametrize("family", FAMILIES, ids=["gpt2", "llama"])
def test_any_number_of_threads_gives_the_same_bits(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = family[0]
    model, found = tests.made(tests.CONFIG, STORED[2]), []
    for most in (1, 2, 5):
        name = type(model.make_forward()).__module__
        monkeypatch.setattr(f"{name}.threads", lambda heads, most=most: most)
        form, cache = model.make_forward(), KeyValueCache(tests.CONFIG.layers)
        logits = form(tests.rows_of(2, 60, 1), cache, [0, 0])
        found.append([np.array(logits), held(cache, [60, 60])])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_shared_prefix_stays_as_it_is() -> None:
    """Catches keys and values that are written into the buffer of another cache."""
    tests = test_gpt2_compiled
    form = tests.made(tests.CONFIG, STORED[0]).make_forward()
    prefix = KeyValueCache(tests.CONFIG.layers)
    form(tests.rows_of(1, 20, 1), prefix, [0])
    prefix.release_spare()
    before, found = held(prefix, [20]), []
    for _ in range(2):
        found.append(np.array(form(tests.rows_of(1, 30, 2), prefix.copy(), [20])))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(held(prefix, [20]), before)
