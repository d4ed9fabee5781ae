"""GPT-2 by compiled kernels: equal to the network on the same stored weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_audio_turbo import ops
from mlx_audio_turbo.config import T3Config
from mlx_audio_turbo.ops import compiled
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo.t3.cache import GROWTH, KeyValueCache
from mlx_audio_turbo.t3.lanes import EVERY, Lanes
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward
from tests.decode import condition, generate
from tests.helpers import relative

pytestmark = pytest.mark.skipif(
    ops.on_gpu() or not compiled.available(), reason="there are no compiled kernels"
)
CONFIG = T3Config(
    width=128,
    layers=2,
    heads=2,
    positions=600,
    text_vocabulary=50,
    speech_vocabulary=6563,
    speaker_embedding=16,
    prompt_tokens=6,
)


@dataclass(frozen=True)
class Stored:
    """How T3's weights are stored: bits and group of the blocks, and the type of the floats."""

    bits: int
    group: int
    floats: mx.Dtype

    def __str__(self) -> str:
        return f"{self.bits}-{self.group}-{self.floats}"


STORED = [
    Stored(0, 0, mx.float32),
    Stored(0, 0, mx.bfloat16),
    Stored(8, 64, mx.float16),
    Stored(4, 32, mx.float16),
]


def store(model: nn.Module, stored: Stored, components: nn.Module, seed: int = 3) -> None:
    """Give ``model`` random weights, as a folder of that kind is loaded on the CPU."""
    flat: Any = tree_flatten(model.parameters())
    rng = np.random.default_rng(seed)
    weights = []
    for name, array in flat:
        values = rng.standard_normal(array.shape, np.float32)
        values *= 0.1 if array.ndim < 2 else array.shape[1] ** -0.5
        weights.append((name, mx.array(values + (array.ndim < 2 and name.endswith("weight")))))
    model.load_weights(weights, strict=True)
    if stored.bits:
        nn.quantize(
            components,
            stored.group,
            stored.bits,
            class_predicate=lambda _, module: isinstance(module, nn.Linear),
        )
    half = tree_map(
        lambda x: x.astype(stored.floats) if x.ndim > 1 and x.dtype == mx.float32 else x,
        model.parameters(),
    )
    half["cond_enc"] = model["cond_enc"].parameters()
    model.update(half)
    mx.eval(model.parameters())


def made(config: T3Config, stored: Stored) -> TurboT3:
    """A model with random weights, as a folder of that kind is loaded on the CPU."""
    model = TurboT3(config)
    store(model, stored, model.tfmr)
    return model


def plain(model: TurboT3) -> TurboT3:
    """The same with every float in float32: MLX's own arithmetic on what is stored."""
    twin = TurboT3(model.config)
    for block, other in zip(model.tfmr.h, twin.tfmr.h, strict=True):
        for part in ("attn", "mlp"):
            quantise_like(getattr(block, part), getattr(other, part))
    twin.update(widened(model))
    return twin


def quantise_like(module: nn.Module, other: nn.Module) -> None:
    """Make the layers of ``other`` quantised that are so in ``module``; any weights will do."""
    layers = module.children().items()
    other.update_modules(
        {
            name: nn.QuantizedLinear(1024, 8, "bias" in each, each.group_size, each.bits)
            for name, each in layers
            if isinstance(each, nn.QuantizedLinear)
        }
    )


def widened(model: nn.Module) -> Any:
    """The parameters with every float in float32."""
    return tree_map(
        lambda x: x if x.dtype == mx.uint32 else x.astype(mx.float32), model.parameters()
    )


@pytest.fixture(scope="module", params=STORED, ids=str)
def model(request: pytest.FixtureRequest) -> TurboT3:
    return made(CONFIG, request.param)


def rows_of(batch: int, time: int, seed: int) -> mx.array:
    return 0.5 * mx.random.normal((batch, time, CONFIG.width), key=mx.random.key(seed))


def filled(form: Any, lengths: list[int]) -> KeyValueCache:
    """A cache of rows of these lengths, padded on the left."""
    rows = []
    for row, length in enumerate(lengths):
        cache = KeyValueCache(CONFIG.layers)
        form(rows_of(1, length, 100 + row), cache, [0])
        rows.append((cache, 0, length))
    return KeyValueCache.gather(rows)


@pytest.mark.parametrize("lengths", [[5], [4, 7], [3, 12, 7, 1, 5], [GROWTH - 2]])
def test_a_step_is_the_network_s(model: TurboT3, lengths: list[int]) -> None:
    """Catches a bias, a mask, an order of codes, a cache that moved; each row alone is the same."""
    ours, theirs = model.make_forward(), partial(mlx_forward, plain(model))
    assert type(ours).__name__ == "CompiledForward"
    caches = filled(ours, lengths), filled(theirs, lengths)
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


def test_rows_share_the_prefix_of_their_voice(model: TurboT3) -> None:
    """Catches another row's prefix, one that is copied or written, and a mask beside a prefix.

    More positions than a vector are in each part of a row, and fewer.
    """
    forms = model.make_forward(), partial(mlx_forward, plain(model))
    rows = [(0, 5), (1, 21), (0, 3), (1, 40)]
    batches, alone, prefixes = [], [], []
    for form in forms:
        held = [filled(form, [length]) for length in (37, 12)]
        for each in held:
            each.release_spare()
        caches: list[Any] = []
        for lonely in (False, True):
            for row, (voice, count) in enumerate(rows):
                cache = held[voice].copy()
                form(rows_of(1, count, row), cache, [held[voice].offset])
                (alone if lonely else caches).append(cache)
        total = [held[voice].offset + count for voice, count in rows]
        batches.append(
            KeyValueCache.gather(
                [(cache, 0, length) for cache, length in zip(caches, total, strict=True)]
            )
        )
        prefixes.append(held)
    places = batches[0].places_before(len(rows))
    for row, (voice, _) in enumerate(rows):
        assert tuple(places[1, row]) == prefixes[0][voice].layers[1].places
    kept = [np.array(each) for prefix in prefixes[0] for each in prefix.arrays]
    lengths = [prefixes[0][voice].offset + count for voice, count in rows]
    for number in range(4):
        x = rows_of(len(rows), 1, 10 + number)
        found = np.array(forms[0](x, batches[0], lengths))
        assert relative(found, np.array(forms[1](x, batches[1], lengths))) < 3e-6
        for row, length in enumerate(lengths):
            one = forms[0](x[row : row + 1], alone[row], [length])
            np.testing.assert_array_equal(np.array(one)[0], found[row])
        lengths = [length + 1 for length in lengths]
    x = rows_of(len(rows), 50, 20)
    found = forms[0](x, batches[0], lengths)
    assert relative(found, np.array(forms[1](x, batches[1], lengths))) < 3e-6
    for before, after in zip(kept, (y for each in prefixes[0] for y in each.arrays), strict=True):
        np.testing.assert_array_equal(before, np.array(after))


def test_weights_that_lie_column_by_column() -> None:
    """As those made of a transposed array of NumPy, whose order MLX keeps."""
    network = made(CONFIG, STORED[0])
    expected = np.array(
        network.make_forward()(rows_of(1, 1, 3), filled(network.make_forward(), [5]), [5])
    )

    def turned(array: mx.array) -> mx.array:
        return mx.array(np.asfortranarray(np.array(array)))

    network.update(tree_map(turned, network.parameters()))
    assert not np.asarray(network.tfmr.h[0].mlp.c_fc.weight).flags.c_contiguous
    form = network.make_forward()
    found = np.array(form(rows_of(1, 1, 3), filled(form, [5]), [5]))
    assert type(form).__name__ == "CompiledForward"
    assert relative(found, expected) < 3e-6


def test_any_number_of_threads_gives_the_same_bits(
    model: TurboT3, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most in (1, 2, 5):
        monkeypatch.setattr(
            "mlx_audio_turbo.t3.gpt2_compiled.threads", lambda heads, most=most: most
        )
        form = model.make_forward()
        cache = filled(form, [9])
        found.append([np.array(form(rows_of(1, 1, i), cache, [9 + i])) for i in range(30)])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def tokens(
    model: TurboT3,
    form: Any,
    count: int,
    options: SamplingOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> list[int]:
    with monkeypatch.context() as patch:
        patch.setattr(TurboT3, "make_forward", lambda self: form)
        speaker = mx.random.normal((model.config.speaker_embedding,), key=mx.random.key(1))
        prompt = mx.random.randint(0, 6561, (20,), key=mx.random.key(2))
        text = mx.arange(12)
        key = mx.random.key(0)
        return list(
            generate(
                model, text, speaker, prompt, key=key, options=options, max_tokens=count, stop=False
            )
        )


@pytest.mark.parametrize(
    ("config", "count"),
    [(CONFIG, 60), pytest.param(TURBO.t3, 200, marks=pytest.mark.slow)],
    ids=["small", "turbo"],
)
@pytest.mark.parametrize("stored", STORED[2:], ids=str)
def test_tokens_are_those_of_mlx_s_quantised_arithmetic(
    stored: Stored, config: T3Config, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(config, stored)
    twin = plain(model)
    forms = (model, model.make_forward()), (twin, partial(mlx_forward, twin))
    greedy = SamplingOptions(temperature=0)
    ours, theirs = (tokens(*form, count, greedy, monkeypatch) for form in forms)
    assert ours == theirs
    # Random weights repeat a few ids when greedy, and sampled ones differ.
    sampled = SamplingOptions(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
    ours, theirs = (tokens(*form, count, sampled, monkeypatch) for form in forms)
    assert ours == theirs and len(set(ours)) > count // 2


def test_sizes_that_the_kernels_lack_take_another_form() -> None:
    assert TurboT3(CONFIG).reads_stored()
    narrow = TurboT3(replace(CONFIG, heads=4))
    assert not narrow.reads_stored()
    assert type(narrow.make_forward()).__name__ == "NumpyForward"


def test_half_arithmetic_stays_the_network_s() -> None:
    model = made(CONFIG, STORED[0])
    model.update(tree_map(lambda x: x.astype(mx.float16), model.parameters()))
    assert type(model.make_forward()).__name__ == "partial"


def test_the_faster_number_of_threads_is_taken() -> None:
    lanes, seconds = Lanes(4), {1: 1.0, 4: 0.4}
    taken = []
    for step in range(20 * EVERY):
        if step == 10 * EVERY:
            seconds = {1: 1.0, 4: 1.5}
        taken.append(lanes.count())
        lanes.took(taken[-1], seconds[taken[-1]])
    assert taken[5 * EVERY : 10 * EVERY].count(4) > 0.9 * 5 * EVERY
    assert taken[15 * EVERY :].count(1) > 0.9 * 5 * EVERY


def test_prompts_and_text_are_float32(model: TurboT3) -> None:
    speaker = mx.zeros((CONFIG.speaker_embedding,))
    assert model.prefix(condition(speaker, mx.arange(6))).dtype == mx.float32
    assert model.embed_input(mx.arange(3)).dtype == mx.float32
