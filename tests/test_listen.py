"""What ``make listen`` counts, without a recogniser."""

from __future__ import annotations

from itertools import pairwise

from .measure.listen.rows import Row
from .measure.listen.texts import long_text, paragraph, sentences
from .measure.listen.words import Errors, Heard, by_sentence, compare, spoken

SAID = [spoken(text) for text in ("The cat sat down.", "Nobody said a word.", "It was late.")]


def words(*sentences: list[str]) -> list[str]:
    return [word for each in sentences for word in each]


def test_errors_are_words_to_insert_delete_or_replace() -> None:
    wanted = spoken("The cat sat down.")
    assert compare(wanted, wanted) == Errors(0, 4)
    assert compare(wanted, spoken("a cat sat")) == Errors(2, 4)
    assert compare(wanted, ["well", *wanted]) == Errors(1, 4)
    assert compare(wanted, []) == Errors(4, 4)
    assert (Errors(1, 4) + Errors(0, 6)).rate == 10


def test_marks_and_capitals_are_no_words() -> None:
    assert spoken("Well-known: “Don’t!”") == ["well", "known", "don't"]


def test_every_sentence_is_found_in_a_whole() -> None:
    heard = by_sentence(SAID, words(*SAID))
    assert heard == [Heard(4, 4, 4), Heard(4, 4, 4), Heard(3, 3, 3)]
    assert not any(each.lost or each.doubled for each in heard)


def test_a_lost_sentence_is_named() -> None:
    heard = by_sentence(SAID, words(SAID[0], SAID[2]))
    assert [each.lost for each in heard] == [False, True, False]
    assert not any(
        each.lost
        for each in by_sentence(SAID, spoken("The hat sat down. Nobody said a bird. It was"))
    )


def test_a_doubled_sentence_is_named() -> None:
    heard = by_sentence(SAID, words(SAID[0], SAID[1], SAID[1], SAID[2]))
    assert [each.doubled for each in heard].count(True) == 1
    assert heard[1].doubled or heard[0].doubled


def test_the_texts_are_as_long_as_they_should() -> None:
    texts = sentences()
    assert len(texts) == 40
    chosen = paragraph(texts, 1_000)
    assert 940 < len(" ".join(chosen)) <= 1_000
    long = long_text(texts, 2_000)
    assert 2_000 <= len(spoken(" ".join(long))) < 2_020
    assert all(one != other for one, other in pairwise(long))
    assert {long.count(text) for text in texts} <= {5, 6}


def test_a_row_says_whether_it_is_good_enough() -> None:
    assert str(Row("size", 11.9, 22, 12, "MB")) == "| size | 11.9 MB | ≤ 22 MB | ≤ 12 MB | aim |"
    assert "| ok |" in str(Row("size", 13, 22, 12, "MB"))
    assert "**missed**" in str(Row("size", 23, 22, 12, "MB"))
