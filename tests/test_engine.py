"""The thread that owns the device."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import cast

import mlx.core as mx
import pytest

from mlx_audio_turbo.ops import device
from mlx_audio_turbo.synthesis.engine import AHEAD, Engine, default_cache_limit


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def test_work_runs_on_one_other_thread(engine: Engine) -> None:
    threads = {engine.run(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_errors_reach_the_caller(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        engine.run(lambda: 1 // 0)
    assert engine.run(lambda: 3) == 3


def test_results_in_order_without_the_empty_steps(engine: Engine) -> None:
    def steps():
        for i in range(20):
            yield None
            yield i

    assert list(engine.stream(steps)) == list(range(20))


def test_an_error_comes_after_what_was_ready(engine: Engine) -> None:
    def steps():
        yield 1
        raise KeyError("late")

    results = engine.stream(steps)
    assert next(results) == 1
    with pytest.raises(KeyError):
        next(results)


def test_requests_take_turns(engine: Engine) -> None:
    order = []
    gate = threading.Event()

    def steps(name: str):
        gate.wait(5)
        for _ in range(3):
            order.append(name)
            yield name

    first, second = engine.stream(lambda: steps("a")), engine.stream(lambda: steps("b"))
    gate.set()
    assert list(first) == ["a"] * 3
    assert list(second) == ["b"] * 3
    assert order == ["a", "b"] * 3


def test_a_stream_that_is_not_read_stops_working_ahead(engine: Engine) -> None:
    made = []

    def steps():
        for i in range(100):
            made.append(i)
            yield i

    results = engine.stream(steps)
    assert next(results) == 0
    engine.run(lambda: None)
    time.sleep(0.1)
    assert len(made) <= AHEAD + 1
    assert list(results) == list(range(1, 100))


def test_abandoned_requests_are_closed_on_the_thread(engine: Engine) -> None:
    closed_on = []

    def steps():
        try:
            while True:
                yield 1
        finally:
            closed_on.append(threading.current_thread().name)

    results = engine.stream(steps)
    next(results)
    results.close()  # pyright: ignore[reportAttributeAccessIssue]
    deadline = time.monotonic() + 5
    while not closed_on and time.monotonic() < deadline:
        time.sleep(0.01)
    assert closed_on == ["mlx_audio_turbo"]


def test_the_thread_ends_with_its_engine() -> None:
    engine = Engine()
    thread = engine._thread
    engine.run(lambda: None)
    del engine
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_the_callers_cache_limit_is_restored() -> None:
    before = mx.set_cache_limit(123_456_789)
    try:
        engine = Engine(cache_limit=1_000_000)
        seen = engine.run(lambda: mx.set_cache_limit(1_000_000))
        assert seen == 1_000_000
        engine.close()
        assert mx.set_cache_limit(123_456_789) == 123_456_789
    finally:
        mx.set_cache_limit(before)


@pytest.mark.parametrize(
    ("info", "wanted"),
    [
        ({"memory_size": 8 << 30}, 1 << 30),
        ({"memory_size": 64 << 30}, 2 << 30),
        ({"total_memory": 2 << 30}, 512 << 20),
        ({}, 512 << 20),
    ],
)
def test_the_cache_limit_follows_the_gpus_memory(
    info: dict[str, int], wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_FORCED", "0")
    assert default_cache_limit() == 32 << 20
    monkeypatch.setattr(device, "_FORCED", "metal")
    monkeypatch.setattr(mx, "device_info", lambda *_: info)
    assert default_cache_limit() == wanted


def test_many_callers_get_their_own_results(engine: Engine) -> None:
    results: dict[int, list[int]] = {}

    def call(i: int) -> None:
        def steps():
            for j in range(20):
                yield cast(int, (mx.ones((8, 8), mx.int32) * (100 * i + j)).max().item())

        results[i] = list(engine.stream(steps))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert results == {i: [100 * i + j for j in range(20)] for i in range(8)}


def test_a_model_cannot_call_itself(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="own thread"):
        engine.run(lambda: engine.run(lambda: 1))
