"""Many utterances in one loop: each gets what it would get alone, whoever comes and goes."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_audio_turbo import ops
from mlx_audio_turbo.config import STOP_SPEECH
from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.t3 import interface
from mlx_audio_turbo.t3.cache import GROWTH, WHOLE
from mlx_audio_turbo.t3.decoder import Decoder, Request
from mlx_audio_turbo.t3.gpt2_numpy import gpt2_forward
from mlx_audio_turbo.t3.prefix_cache import PrefixCache
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward
from tests.decode import condition, decode, generate
from tests.test_t3 import CONFIG, GREEDY, UPSTREAM, convert

CHANCE = SamplingOptions()
# (prompt tokens, text ids, most tokens): of every length, the longest neither first nor last.
SIZES = [(3, 5, 12), (0, 1, 30), (6, 14, 7), (6, 2, 1), (1, 9, 22), (4, 4, 17), (2, 30, 9)]


def model_that_stops(share: float) -> TurboT3:
    """At each step the stop token is sampled with a probability of about ``share``."""
    model, bias = TurboT3(CONFIG), UPSTREAM["speech_head.bias"].copy()
    weight = UPSTREAM["speech_head.weight"].copy()
    weight[STOP_SPEECH] = 0
    convert(UPSTREAM | {"speech_head.weight": weight, "speech_head.bias": bias}, model)
    scores = model.logits(mx.random.normal((64, CONFIG.width), key=mx.random.key(3)))
    others = mx.logsumexp(scores[:, :STOP_SPEECH] / CHANCE.temperature, axis=-1).mean().item()
    assert isinstance(others, float)
    bias[STOP_SPEECH] = CHANCE.temperature * (others + np.log(share / (1 - share)))
    convert(UPSTREAM | {"speech_head.weight": weight, "speech_head.bias": bias}, model)
    return model


@pytest.fixture(scope="module")
def model() -> TurboT3:
    model = TurboT3(CONFIG)
    convert(UPSTREAM, model)
    return model


@pytest.fixture(params=["host", "device"], autouse=True)
def step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whichever device the tests run on, both forms of the network keep every promise."""
    if request.param == "host" and ops.on_gpu():
        pytest.skip("arrays of a GPU are not the host's")

    def form(self: TurboT3) -> Any:
        if request.param == "host":
            return gpt2_forward(self.tfmr, self.speech_head, self.config)
        return partial(mlx_forward, self)

    monkeypatch.setattr(TurboT3, "make_forward", form)
    return request.param


def voice(prompt: int) -> tuple[mx.array, mx.array]:
    """Speaker (16,) and prompt tokens (prompt,)."""
    speaker = mx.random.normal((CONFIG.speaker_embedding,), key=mx.random.key(50 + prompt))
    return speaker, mx.random.randint(0, 6561, (prompt,), key=mx.random.key(60 + prompt))


def request(model: TurboT3, number: int) -> Request:
    prompt, text, most = SIZES[number % len(SIZES)]
    speaker, tokens = voice(prompt)
    return Request(
        id=number,
        text_ids=mx.random.randint(0, CONFIG.text_vocabulary, (text,), key=mx.random.key(number)),
        prefix=interface.prefill_prefix(model, condition(speaker, tokens)),
        key=mx.random.key(100 + number),
        max_tokens=most,
    )


def alone(model: TurboT3, number: int, **options: Any) -> list[int]:
    one = request(model, number)
    prompt = SIZES[number % len(SIZES)][0]
    found = generate(
        model, one.text_ids, *voice(prompt), key=one.key, max_tokens=one.max_tokens, **options
    )
    return list(found)


def by_id(sampled: Iterable[tuple[int, int | None]]) -> dict[int, list[int | None]]:
    found = defaultdict(list)
    for id, token in sampled:
        found[id].append(token)
    return dict(found)


# --- what a row gets --------------------------------------------------------------------------


@pytest.mark.parametrize("options", [GREEDY, CHANCE], ids=["greedy", "by chance"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 20])
def test_every_row_gets_what_it_gets_alone(
    model: TurboT3, batch_size: int, options: SamplingOptions
) -> None:
    """Rows of different prefixes and texts; with fewer places than rows, most enter late.

    Catches padding that is seen, positions that count it, keys and histories that are shared or
    stay behind when rows move up.
    """
    requests = [request(model, number) for number in range(len(SIZES))]
    found = by_id(decode(model, requests, options=options, batch_size=batch_size, stop=False))
    for number, (_, _, most) in enumerate(SIZES):
        expected = alone(model, number, options=options, stop=False)
        assert len(expected) == most
        assert found[number] == [*expected, None]


def test_rows_that_stop_by_themselves(model: TurboT3) -> None:
    """A row's end is known one step late; the token sampled for it by then is discarded."""
    stopping = model_that_stops(0.1)
    requests = [request(stopping, number) for number in range(14)]
    found = by_id(decode(stopping, requests, batch_size=4))
    early = 0
    for number in range(14):
        expected = alone(stopping, number)
        assert found[number] == [*expected, None]
        early += len(expected) < SIZES[number % len(SIZES)][2]
    assert early >= 5


def test_many_steps_pass_the_end_of_the_cache_s_block(model: TurboT3) -> None:
    long = [request(model, 0), request(model, 4)]
    for one in long:
        object.__setattr__(one, "max_tokens", GROWTH + 20)
    found = by_id(decode(model, long, options=GREEDY, batch_size=2, stop=False))
    for one in long:
        prompt = SIZES[one.id][0]
        expected = generate(
            model,
            one.text_ids,
            *voice(prompt),
            key=one.key,
            options=GREEDY,
            max_tokens=one.max_tokens,
            stop=False,
        )
        assert found[one.id] == [*expected, None]


def test_half_precision_stays_half_in_a_padded_batch(model: TurboT3, step: str) -> None:
    if step == "host":
        pytest.skip("half precision is the device's")
    half = TurboT3(CONFIG)
    half.update(tree_map(lambda x: x.astype(mx.float16), model.parameters()))
    decoder = Decoder(half, options=GREEDY, stop=False)
    for number in (1, 2, 4):
        decoder.add(request(half, number))
    for _ in range(3):
        decoder.step()
    (batch,) = decoder._batches
    assert len(batch.rows) == 3
    assert {x.dtype for x in batch.cache.arrays} == {mx.float16}


# --- coming and going -------------------------------------------------------------------------


def test_requests_are_taken_when_a_place_is_free(model: TurboT3) -> None:
    taken: list[int] = []

    def requests() -> Iterator[Request]:
        for number in range(5):
            taken.append(number)
            yield request(model, number)

    loop = decode(model, requests(), options=GREEDY, batch_size=2, stop=False)
    assert taken == []
    ended = 0
    for _, token in loop:
        assert len(taken) <= ended + 2
        ended += token is None
    assert taken == [0, 1, 2, 3, 4]


def test_a_row_given_up_leaves_the_others_alone(model: TurboT3) -> None:
    decoder = Decoder(model, options=CHANCE, stop=False)
    for number in (0, 1, 2, 4):
        decoder.add(request(model, number))
    found = defaultdict(list)
    for step in range(40):
        if step == 3:
            decoder.remove(2)
        if step == 5:
            decoder.remove(0)
        for id, token in decoder.step():
            found[id].append(token)
    assert len(decoder) == 0
    for number, got in ((1, 31), (4, 23), (2, 3), (0, 5)):
        expected = [*alone(model, number, options=CHANCE, stop=False), None]
        assert found[number] == expected[:got]
        assert len(found[number]) == got


def test_one_row_has_neither_mask_nor_padding(
    model: TurboT3, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor have rows of one length. When the longest row leaves, its share of padding goes too."""
    if step == "host":
        pytest.skip("tells of the network's own form")
    calls: list[tuple[int, int, bool]] = []
    inner = TurboT3.__call__

    def noted(
        self: TurboT3, x: mx.array, *, cache: Any, mask: Any = None, positions: Any = None
    ) -> Any:
        y = inner(self, x, cache=cache, mask=mask, positions=positions)
        if x.shape[1] == 1:
            assert (mask is None) == (positions is None)
            calls.append((x.shape[0], cache.offset, mask is not None))
        return y

    # 1 position of voice, 1 of text, and start; 7, 14, and start.
    requests = [request(model, number) for number in (1, 2)]
    monkeypatch.setattr(TurboT3, "__call__", noted)
    decoder = Decoder(model, options=GREEDY, stop=False)
    for one in requests:
        decoder.add(one)
    while len(decoder):
        decoder.step()
    assert calls[:6] == [(2, 22 + step, True) for step in range(1, 7)]
    assert calls[6:] == [(1, 3 + step, False) for step in range(7, 30)]


def test_no_step_is_run_beyond_the_last_token(
    model: TurboT3, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    inner = Decoder._advance

    def noted(self: Decoder, batch: Any) -> None:
        runs.append(len(batch.rows))
        inner(self, batch)

    monkeypatch.setattr(Decoder, "_advance", noted)
    list(decode(model, [request(model, n) for n in (2, 3, 4)], batch_size=3, stop=False))
    # 7, 1 and 22 tokens, the first of each by the prefill.
    assert runs == [2] * 6 + [1] * 15


def test_the_next_step_is_under_way_before_a_token_is_read_on_a_device(
    model: TurboT3, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory a token is told as soon as it is chosen."""
    log: list[str] = []
    inner = Decoder._sample

    def noted(self: Decoder, *args: Any, **options: Any) -> None:
        number = sum(line.startswith("run") for line in log)
        log.append(f"run {number}")
        inner(self, *args, **options)
        rows, read = self._sampled[-1]

        def noted_read() -> list[int]:
            log.append(f"read {number}")
            return read()

        self._sampled[-1] = (rows, noted_read)

    monkeypatch.setattr(Decoder, "_sample", noted)
    one = request(model, 0)
    object.__setattr__(one, "max_tokens", 3)
    assert len(list(decode(model, [one], stop=False))) == 4
    if step == "host":
        assert log == ["run 0", "read 0", "run 1", "read 1", "run 2", "read 2"]
    else:
        assert log == ["run 0", "run 1", "read 0", "run 2", "read 1", "read 2"]


def test_both_ways_to_choose_give_the_same_ids(model: TurboT3, step: str) -> None:
    """The host's, in NumPy, and the device's, on the same logits, with options of their own."""
    if step == "device":
        pytest.skip("without logits in memory there is one way")
    mixed = [CHANCE, GREEDY, SamplingOptions(top_k=7, top_p=0.5), SamplingOptions(top_p=1.0)]

    def found(at_once: bool) -> dict[int, list[int | None]]:
        decoder = Decoder(model, options=CHANCE)
        decoder._at_once = at_once
        for number, options in enumerate(mixed):
            one = request(model, number)
            object.__setattr__(one, "options", options)
            decoder.add(one)
        told: dict[int, list[int | None]] = defaultdict(list)
        while len(decoder):
            for id, token in decoder.step():
                told[id].append(token)
        return told

    assert found(True) == found(False)


def test_memory_comes_back_when_rows_end_or_are_given_up(model: TurboT3) -> None:
    requests = [request(model, number) for number in range(len(SIZES))]
    mx.eval([one.prefix.arrays for one in requests])

    def run(steps: int) -> None:
        loop = decode(model, requests, options=GREEDY, batch_size=3, stop=False)
        for _ in range(steps):
            next(loop, None)
        loop.close()  # pyright: ignore[reportAttributeAccessIssue]
        decoder = Decoder(model, options=GREEDY, stop=False)
        for one in requests[:3]:
            decoder.add(one)
        for _ in range(4):
            decoder.step()
        for one in requests[:3]:
            decoder.remove(one.id)
        mx.synchronize()

    run(3)
    before = mx.get_active_memory()
    for steps in (1, 5, 40, 1000):
        run(steps)
        assert mx.get_active_memory() - before < 4096


def test_impossible_requests_are_refused(model: TurboT3) -> None:
    decoder, one = Decoder(model), request(model, 0)
    decoder.add(one)
    with pytest.raises(ValueError, match="two requests of id 0"):
        decoder.add(one)
    with pytest.raises(KeyError):
        decoder.remove(1)
    object.__setattr__(one, "max_tokens", 0)
    object.__setattr__(one, "id", 2)
    with pytest.raises(OptionError, match="max_tokens is 0"):
        decoder.add(one)
    assert len(decoder) == 1


# --- the voice's prefix -----------------------------------------------------------------------


def test_a_voice_s_prefix_is_computed_once(model: TurboT3, monkeypatch: pytest.MonkeyPatch) -> None:
    count = Counter[str]()
    inner = interface.prefill_prefix

    def noted(*args: Any) -> Any:
        count["run"] += 1
        return inner(*args)

    monkeypatch.setattr("mlx_audio_turbo.t3.prefix_cache.prefill_prefix", noted)
    prefixes = PrefixCache(model, voices=2)
    a, b, c = [condition(*voice(n)) for n in (2, 4, 6)]
    first = prefixes.get("a", a)
    assert prefixes.get("a", a) is first
    prefixes.get("b", b)
    assert prefixes.get("a", a) is first
    assert count["run"] == 2
    prefixes.get("c", c)  # b was used longest ago
    assert prefixes.get("a", a) is first
    assert count["run"] == 3
    prefixes.get("b", b)
    assert count["run"] == 4
    prefixes.clear()
    assert prefixes.get("a", a) is not first


def test_a_held_prefix_has_no_spare_room_and_stays_as_it_is(model: TurboT3) -> None:
    prefixes = PrefixCache(model)
    speaker, prompt = voice(5)
    held = prefixes.get("a", condition(speaker, prompt))
    before = [np.array(x) for x in held.arrays]
    assert held.offset == 6 and {x.shape[2] for x in held.arrays} == {WHOLE}
    text, key = mx.array([1, 2, 3]), mx.random.key(0)
    requests = [Request(id=n, text_ids=text, prefix=held, key=key, max_tokens=9) for n in (0, 1)]
    found = by_id(decode(model, requests, batch_size=2, stop=False))
    assert found[0] == found[1]
    assert found[0][:-1] == list(
        generate(model, text, speaker, prompt, key=key, max_tokens=9, stop=False)
    )
    for old, new in zip(before, held.arrays, strict=True):
        np.testing.assert_array_equal(old, np.array(new))


def test_prefixes_given_up_free_their_memory(model: TurboT3) -> None:
    prefixes = PrefixCache(model, voices=3)
    prefixes.get("first", condition(*voice(6)))  # makes what is kept for all calls
    prefixes.clear()
    gc.collect()
    before = mx.get_active_memory()
    for number in range(6):
        prefixes.get(str(number), condition(*voice(6)))
    one = CONFIG.layers * 2 * WHOLE * CONFIG.width * 4
    assert mx.get_active_memory() - before < 5 * one  # older versions of MLX take a little more
    prefixes.clear()
    assert mx.get_active_memory() - before < 1024
