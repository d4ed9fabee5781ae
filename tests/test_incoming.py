"""Text that comes in pieces: whole sentences at once, and never anything else for another split."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_audio_turbo import AudioChunk, ChatterboxTurbo, PauseOptions, TextError, Voice
from mlx_audio_turbo.synthesis.scheduler import Scheduler
from mlx_audio_turbo.text.incoming import Incoming
from mlx_audio_turbo.text.segments import Segment, normalize_spaces

OPTIONS: dict[str, Any] = {"seed": 5, "max_tokens": 20}
PARAGRAPHS = "Hello there, my dear friend.\n\nHow are you today? I am fine.\n\n"
MIXED = st.text(
    st.sampled_from(
        list("aZ é.!?…,;: \n\r\t\u2028\u2029\u00ad\u200b5“”\"'()[]-—。！？」你好か한😀*")
    ),
    max_size=400,
)


def segments(*pieces: str, limit: int = 300) -> list[Segment]:
    incoming = Incoming(limit)
    found = [segment for piece in pieces for segment in incoming.push(piece)]
    return found + list(incoming.finish())


def texts(*pieces: str) -> list[str]:
    return [segment.text for segment in segments(*pieces) if segment.text]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It is late now, Dr. Smith. Go home.", ["It is late now, Dr. Smith.", "Go home."]),
        ("Yes. No. I cannot tell you. Ask.", ["Yes. No. I cannot tell you.", "Ask."]),
        ("She said: “Go home now! Do.” He left.", ["She said: “Go home now!", "Do.” He left."]),
        ("It costs 3.50 euros in all. [laugh] No?", ["It costs 3.50 euros in all.", "[laugh] No?"]),
        ("Oh!\n\nWell.", ["Oh!", "Well."]),
        ("你好。再见我们去公园玩吧。好的。", ["你好。再见我们去公园玩吧。", "好的。"]),
        ("A soft hy\u00ad\nphen is dropped here. Yes.", ["A soft hyphen is dropped here.", "Yes."]),
    ],
)
def test_sentences(text: str, wanted: list[str]) -> None:
    assert texts(text) == wanted


def test_a_sentence_comes_with_the_word_after_it() -> None:
    incoming = Incoming(300)
    assert not list(incoming.push("I met him there at noon. He"))
    assert [each.text for each in incoming.push(" was")] == ["I met him there at noon."]
    assert [each.text for each in incoming.push(" gone.\n\n")] == ["He was gone."]
    assert [each.pause for each in incoming.finish()] == ["end"]


@settings(max_examples=300, deadline=None)
@given(
    text=MIXED, cuts=st.lists(st.integers(0, 400), max_size=12), limit=st.sampled_from([40, 300])
)
def test_the_split_never_matters_and_no_text_is_lost(
    text: str, cuts: list[int], limit: int
) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    if not any(character.isalnum() for character in text):
        with pytest.raises(TextError):
            segments(*pieces)
        return
    found = segments(text, limit=limit)
    assert segments(*pieces, limit=limit) == segments(*text, limit=limit) == found
    joined = "".join(segment.text + segment.glue for segment in found)
    kept = text.replace("\u200b", "")
    if "\u00ad" not in text:
        assert joined.strip() == normalize_spaces(kept)
    assert [segment.pause for segment in found].count("end") == 1 and found[-1].pause == "end"
    assert max(len(segment.text) for segment in found) <= limit


def test_long_texts_take_linear_time() -> None:
    started = time.process_time()
    segments("word " * 10_000)
    segments("x" * 10_000)
    segments("\n" * 200_000 + "x")
    assert time.process_time() - started < 5


# --- the stream -----------------------------------------------------------------------------


def heard(chunks: Iterator[AudioChunk]) -> np.ndarray:
    return np.concatenate([chunk.audio for chunk in chunks])


def test_the_audio_is_that_of_the_joined_text(model: ChatterboxTurbo, voice: Voice) -> None:
    wanted = list(model.stream([PARAGRAPHS], voice=voice, **OPTIONS))
    for pieces in (list(PARAGRAPHS), [PARAGRAPHS[:7], PARAGRAPHS[7:33], "", PARAGRAPHS[33:]]):
        chunks = list(model.stream(iter(pieces), voice=voice, **OPTIONS))
        np.testing.assert_array_equal(heard(iter(chunks)), heard(iter(wanted)))
        assert [chunk.text for chunk in chunks] == [chunk.text for chunk in wanted]
        assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))


def test_a_text_of_one_sentence_a_paragraph_sounds_like_that_given_whole(
    model: ChatterboxTurbo, voice: Voice
) -> None:
    text = "Hello there.\n\nHow are you today?"
    options = {"pauses": PauseOptions(paragraph=0.3), **OPTIONS}
    whole = heard(model.stream(text, voice=voice, **options))
    np.testing.assert_array_equal(whole, heard(model.stream(list(text), voice=voice, **options)))


def test_a_sentence_is_heard_while_the_text_is_written(
    model: ChatterboxTurbo, voice: Voice
) -> None:
    more = threading.Event()

    def written() -> Iterator[str]:
        yield "This is the first sentence.\n\n"
        assert more.wait(20)
        yield "And this is the other one."

    chunks = model.stream(written(), voice=voice, **OPTIONS)
    first = next(chunks)
    assert first.text == "This is the first sentence." and not more.is_set()
    more.set()
    rest = list(chunks)
    assert rest[-1].is_last and rest[-1].text == "And this is the other one."


def test_a_stream_that_waits_for_text_does_no_work(
    model: ChatterboxTurbo, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, steps = threading.Event(), [0]
    plain = Scheduler.step

    def step(self: Scheduler) -> None:
        steps[0] += 1
        plain(self)

    monkeypatch.setattr(Scheduler, "step", step)

    def written() -> Iterator[str]:
        yield "This is the first sentence.\n\n"
        assert more.wait(20)
        yield "The end."

    chunks = model.stream(written(), voice=voice, **OPTIONS)
    while not next(chunks).tokens.size:
        pass
    time.sleep(0.2)
    before = steps[0]
    # Others are served meanwhile.
    assert len(model.generate("Hello.", voice=voice, **OPTIONS).tokens)
    assert steps[0] > before
    before = steps[0]
    time.sleep(0.3)
    assert steps[0] == before
    more.set()
    assert list(chunks)[-1].is_last


@pytest.mark.parametrize("dropped", [False, True])
def test_closing_the_stream_closes_the_iterator(
    model: ChatterboxTurbo, voice: Voice, dropped: bool
) -> None:
    closed = threading.Event()

    def written() -> Iterator[str]:
        try:
            while True:
                yield "This is one more sentence of many.\n\n"
        finally:
            closed.set()

    chunks: Any = model.stream(written(), voice=voice, **OPTIONS)
    next(chunks)
    if dropped:
        del chunks
        gc.collect()
    else:
        chunks.close()
    assert closed.wait(10)
    scheduler, deadline = model._speaking._scheduler, time.monotonic() + 10
    while (_readers() or scheduler._sessions) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _readers() and not scheduler._sessions


def _readers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "mlx_audio_turbo_text"]


def test_no_more_text_is_taken_than_is_spoken(model: ChatterboxTurbo, voice: Voice) -> None:
    taken = [0]

    def written() -> Iterator[str]:
        while True:
            taken[0] += 1
            yield "This is one more sentence of many.\n\n"

    chunks: Any = model.stream(written(), voice=voice, **OPTIONS)
    next(chunks)
    time.sleep(0.3)
    assert taken[0] < 40
    chunks.close()


def test_what_the_iterator_raises_comes_after_the_audio_before_it(
    model: ChatterboxTurbo, voice: Voice
) -> None:
    def written() -> Iterator[str]:
        yield "This is the first sentence.\n\nAnd the next"
        raise ConnectionError("the language model is gone")

    found = []
    with pytest.raises(ConnectionError, match="gone"):
        for chunk in model.stream(written(), voice=voice, **OPTIONS):
            found.append(chunk)
    assert {chunk.text for chunk in found} == {"This is the first sentence."}


@pytest.mark.parametrize(
    "pieces", [[], [""], ["... ", "\n\n", "***"], ["Hello.", None], [b"Hello."]]
)
def test_nothing_to_say_and_pieces_that_are_no_text(
    model: ChatterboxTurbo, voice: Voice, pieces: Any
) -> None:
    with pytest.raises(TextError):
        list(model.stream(pieces, voice=voice, **OPTIONS))


@pytest.mark.parametrize("text", [b"Hello.", 7, None])
def test_a_text_that_is_no_text_is_refused_by_the_call(
    model: ChatterboxTurbo, voice: Voice, text: Any
) -> None:
    with pytest.raises(TextError, match="give a str"):
        model.stream(text, voice=voice)
