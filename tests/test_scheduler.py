"""One loop for all calls: they are decoded together, and each gets what it would get alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mlx_audio_turbo import AudioChunk, ChatterboxTurbo, TextError, TrimOptions, Voice
from mlx_audio_turbo.t3.decoder import Decoder

TEXTS = ("Hello there.", "What a long and winding sentence this one is.", "Oh!", "One. Two. Three.")
OPTIONS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.8},
    {"temperature": 0.5, "top_k": 20},
    {"temperature": 0.0},
    {"repetition_penalty": 1.0, "trim": TrimOptions()},
)


def joined(chunks: Iterator[AudioChunk]) -> np.ndarray:
    return np.concatenate([chunk.audio for chunk in chunks])


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many utterances each decoding step had."""
    sizes: list[int] = []
    plain = Decoder.step

    def step(self: Decoder) -> list[tuple[int, int | None]]:
        sizes.append(len(self))
        return plain(self)

    monkeypatch.setattr(Decoder, "step", step)
    return sizes


def at_once(calls: list[Callable[[], np.ndarray]]) -> list[np.ndarray]:
    """The results of all calls, each made by a thread of its own at the same moment."""
    results: list[np.ndarray] = [np.zeros(0)] * len(calls)
    start = threading.Barrier(len(calls))

    def run(index: int) -> None:
        start.wait()
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_calls_of_several_threads_share_a_batch_and_hear_themselves_alone(
    model: ChatterboxTurbo, voice: Voice, batches: list[int]
) -> None:
    def call(index: int, stream: bool) -> Callable[[], np.ndarray]:
        options = {"voice": voice, "seed": index, "max_tokens": 60, **OPTIONS[index]}
        if stream:
            return lambda: joined(model.stream(TEXTS[index], **options))
        return lambda: model.generate(TEXTS[index], **options).audio

    calls = [call(index, stream) for index in range(4) for stream in (False, True)]
    alone = [each() for each in calls]
    assert max(batches) == 1
    batches.clear()
    together = at_once(calls)
    assert max(batches) >= 4, "the calls were decoded one after another"
    for index, (one, other) in enumerate(zip(alone, together, strict=True)):
        assert len(one) == len(other), index
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_failing_call_leaves_the_others_alone(model: ChatterboxTurbo, voice: Voice) -> None:
    wanted = model.generate(TEXTS[1], voice=voice, seed=1, max_tokens=40).audio
    errors: list[BaseException] = []

    def fails() -> np.ndarray:
        try:
            model.generate("x " * 600, voice=voice, seed=1, max_tokens=5, segment_limit=2000)
        except TextError as error:
            errors.append(error)
        return np.zeros(0)

    def speaks() -> np.ndarray:
        return model.generate(TEXTS[1], voice=voice, seed=1, max_tokens=40).audio

    results = at_once([fails, speaks, fails, speaks])
    assert len(errors) == 2
    for result in (results[1], results[3]):
        np.testing.assert_allclose(result, wanted, atol=2e-3)


def test_a_closed_stream_frees_its_place_while_others_speak(
    model: ChatterboxTurbo, voice: Voice
) -> None:
    scheduler = model._speaking._scheduler
    book = model.generate_parts("One sentence. " * 600, voice=voice, seed=1, max_tokens=30)
    next(book)
    stream = model.stream(TEXTS[1], voice=voice, seed=2, watchdog=None)
    next(stream)
    before = len(scheduler._sessions)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    next(book)
    next(book)
    assert before == 2
    assert len(scheduler._sessions) == 1
    book.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_short_request_does_not_wait_for_a_book(
    model: ChatterboxTurbo, voice: Voice, batches: list[int]
) -> None:
    book = model.generate_parts(
        "One sentence here. " * 100, voice=voice, seed=1, max_tokens=200, batch_size=2
    )
    next(book)
    steps = len(batches)
    speech = model.generate("Hi.", voice=voice, seed=2, max_tokens=15)
    waited = len(batches) - steps
    book.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(speech.tokens) <= 15
    assert waited < 60, "the short request waited for the segments of the book"


def test_a_session_that_nobody_starts_leaves_nothing(model: ChatterboxTurbo, voice: Voice) -> None:
    chunks = model.stream("Never read.", voice=voice, seed=1)
    chunks.close()  # pyright: ignore[reportAttributeAccessIssue]
    model.generate("Hi.", voice=voice, seed=1, max_tokens=5)
    assert not model._speaking._scheduler._sessions
