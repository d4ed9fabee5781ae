"""Segments: hand-made examples, and properties that hold for any text at all."""

from __future__ import annotations

import random
import re
import time

import pytest

from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.options import MIN_SEGMENT_LIMIT, PauseOptions
from mlx_audio_turbo.text.segments import (
    Segment,
    normalize_spaces,
    pause_after,
    resplit,
    split_text,
)
from mlx_audio_turbo.text.sentences import find_breaks

FILLER = "The quick brown fox jumps over the lazy dog and runs away again"
"""63 characters without a mark."""


def texts(text: str, limit: int = 300) -> list[str]:
    return [segment.text for segment in split_text(text, limit=limit)]


# --- sentences ------------------------------------------------------------------------------


def sentence_ends(text: str) -> list[str]:
    """The last words of the sentences that packing knows, but for the last one's."""
    return [text[:end].split(" ")[-1] for end in find_breaks(text, 300)["sentence"]]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?"]),
        ("Mr. Smith met Mrs. Jones and Dr. Who. They left.", ["Who."]),
        ("MR. SMITH LEFT. DR. WHO CAME.", ["LEFT."]),
        ("Use tools, e.g. Saws, i.e. The sharp ones, vs. Blunt ones. Then go.", ["ones."]),
        ("He left at 5 p.m. The train was late.", ["p.m."]),
        ("He left at 5 a.m. on Monday. We slept.", ["Monday."]),
        ("The U.S. Army came. It stayed.", ["came."]),
        ("He lives in the U.S. She does not.", ["U.S."]),
        ("We met on Main St. The shop in St. Louis was shut.", ["St."]),
        ("J. R. R. Tolkien wrote it. C. S. Lewis read it.", ["it."]),
        ("Bring pens, paper, etc. and go. Now.", ["go."]),
        ("See No. 5 and Fig. 3 there. No. I will not.", ["there.", "No."]),
        ("Mary has a Ph.D. in law. Ph.D. students came.", ["law."]),
        (
            "It costs $5.99 or 1,000. Version v1.2.3 came at 12:30. Pi is 3.14.",
            ["1,000.", "12:30."],
        ),
        ("1. Wash the pan. 2. Dry it. 3) Eat!", ["pan.", "it."]),
        ("It was 1990. The war ended.", ["1990."]),
        ("What?! You too!! Wait... Stop… Now.", ["What?!", "too!!", "Wait...", "Stop…"]),
        ("Well... maybe not… or so. Yes.", ["so."]),
        ('"Where to?" he asked. "Home!" She left.', ["asked.", '"Home!"']),
        ("(He was late.) She was not [as he said.] Yes.", ["late.)", "said.]"]),
        ("Go. “Stop!” ‘No.’ *Never.* Yes.", ["Go.", "“Stop!”", "‘No.’", "*Never.*"]),
        ("Bonjour ! Comment ? Bien. . . fin. Oui.", ["!", "?", "fin."]),
        ("See www.example.com. Then write to me.", ["www.example.com."]),
        ("That was fun! [laugh] Once more. [sigh] No.", ["fun!", "more."]),
        (
            "Made in the U.S. “The best.” He left the U.S. (He hated it.)",
            ["U.S.", "best.”", "U.S."],
        ),
        ("“He said: ‘Go on.’ Then he left. Now,” she said. Yes.", ["said."]),
        ("is it so? yes. it is", []),
        ("क्या हुआ। कुछ नहीं।", ["हुआ।"]),
    ],
)
def test_sentence_ends(text: str, ends: list[str]) -> None:
    assert sentence_ends(text) == ends


@pytest.mark.parametrize(
    "text",
    [
        "Take eight oz. of flour and two tbsp. of sugar and one tsp. of salt. Stir.",
        "It is six ft. long and weighs forty lbs. or so, dry. Lift it.",
        "Wait ten min. at most, or two hrs. on a cold day. Then go.",
        "Dr. Who, approx. two m. tall, left at 5 p.m. on Monday. He waved.",
        "Yahoo! announced it. Then it fell.",
        "“Why?” he asked. She shrugged.",
        "See op. cit. for more, resp. the appx. of it. Read on.",
        "the qty. of the mfr. is on the pkg. below. Look.",
    ],
)
def test_a_sentence_never_ends_before_a_small_letter(text: str) -> None:
    for stop in find_breaks(text, 300)["sentence"]:
        assert not text[stop:].lstrip(' "“‘(').startswith(tuple("abcdefghijklmnopqrstuvwxyz"))
    assert find_breaks(text, 300)["sentence"], "the real end was missed"


def test_small_letters_everywhere_still_split_at_full_stops() -> None:
    text = "we walked for a while. nobody spoke to us. the sea was very calm there. " * 10
    segments = split_text(text.strip())
    assert all(segment.text.endswith(".") for segment in segments)
    assert {segment.pause for segment in segments[:-1]} == {"clause"}


@pytest.mark.parametrize("mark", ["\f", "\v", "\x1c", "\x1d", "\x1e", "\x85", "\xa0", "\u3000"])
@pytest.mark.parametrize("around", ["\n{}", "{}\n", " {} ", "\r\n{}"])
def test_a_page_break_is_white_space_within_a_sentence(mark: str, around: str) -> None:
    text = f"The captain walked to the end of the{around.format(mark)}pier and looked."
    assert texts(text) == ["The captain walked to the end of the pier and looked."]


@pytest.mark.parametrize(
    "gap", ["\n\n", "\r\r", "\r\n\r\n", "\n \f\n", "\n\n\f", "\u2029", "\u2028\u2028"]
)
def test_a_blank_line_ends_a_paragraph(gap: str) -> None:
    assert texts(f"The end.{gap}The beginning.") == ["The end.", "The beginning."]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Er kam z. B. Montag mit Hrn. Meier, d. h. Karl. Dann ging er.", ["Karl."]),
        ("Am 3. Oktober kam er. Am 12. Mai ging er. Es war gut.", ["er.", "er."]),
        ("Den 3. oktober kom han. Så gik han.", ["han."]),
        (
            "Llegó a las 5 p. m. El Sr. García, la Sra. Ruiz y D. Luis. ¿Qué? ¡Ven!",
            ["Luis.", "¿Qué?"],
        ),
        ("M. Dupont et Mme. Roux, p. ex. Anne. Oui ! Non ? Bien.", ["Anne.", "!", "?"]),
        ("Ул. Ленина, д. 5, т. е. Центр. Он ушёл.", ["Центр."]),
        ("„Komm her. Jetzt!“ sagte er. „Nein.“ Er ging.", ["er.", "„Nein.“"]),
        ("هل أنت هنا؟ نعم، أنا هنا. حسنًا.", ["هنا؟", "هنا."]),
    ],
)
def test_sentence_ends_in_other_languages(text: str, ends: list[str]) -> None:
    assert sentence_ends(text) == ends


def test_an_opening_quote_stays_with_what_it_opens() -> None:
    for pad in range(30):
        text = "x" * pad + " " + "« Bonjour, ami » " * 40
        assert not any(part.endswith("«") for part in texts(text, 60))


def test_a_quotation_without_spaces_stays_whole() -> None:
    text = "他说了很多话然后又说了一遍" * 12 + "「你好。再见！」" + "她没有回答他的话" * 12
    assert sum("「你好。再见！」" in part for part in texts(text, 100)) == 1


@pytest.mark.parametrize(
    ("sentence", "most"),
    [
        ("今天天气很好我们去公园吧。", 91),
        ("きょうはとてもいいてんきですね。", 160),
        ("오늘은날씨가좋아요.", 130),
    ],
)
def test_segments_last_about_as_long_in_every_script(sentence: str, most: int) -> None:
    paragraph = sentence * 40
    segments = split_text(f"{paragraph}\n\n{' '.join([FILLER + '.'] * 10)}", by_script=True)
    lengths = [len(s.text) for s in segments if s.text[0] == sentence[0]]
    assert most // 2 < max(lengths) <= most
    assert max(len(s.text) for s in segments) > 250, "the limit of one script went to another"
    assert max(len(s.text) for s in split_text(paragraph)) > 200


def test_full_width_marks_end_sentences_without_a_space() -> None:
    sentence = "今天天气很好，我们去公园吧。"
    segments = split_text(sentence * 10, limit=60)
    assert [s.text for s in segments] == [sentence * 4, sentence * 4, sentence * 2]
    assert [(s.pause, s.glue) for s in segments] == [("sentence", "")] * 2 + [("end", "")]


def test_marks_stay_together_without_a_space() -> None:
    assert find_breaks("好吗？!很好。", 300)["sentence"] == []


# --- packing --------------------------------------------------------------------------------


def test_short_text_is_one_segment() -> None:
    assert split_text("  Hello there.\nHow are\tyou? ") == [
        Segment("Hello there. How are you?", "end", "")
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\n \t\n"])
def test_nothing_to_say_is_no_segment(text: str) -> None:
    assert split_text(text) == []


def test_whole_sentences_fill_a_segment_up_to_the_limit() -> None:
    sentence = FILLER + "."
    assert texts(" ".join([sentence] * 10)) == [" ".join([sentence] * n) for n in (4, 4, 2)]
    exact = " ".join(["X" * 149 + ".", "Y" * 148 + "."])
    assert len(exact) == 300
    assert texts(f"{exact} {exact}") == [exact, exact]


def test_a_long_sentence_is_split_evenly_after_clauses() -> None:
    text = f"{FILLER}, {FILLER}, {FILLER}; {FILLER} and {FILLER}."
    first, second = split_text(text)
    assert first.text == f"{FILLER}, {FILLER}, {FILLER};"
    assert (first.pause, first.glue) == ("clause", " ")
    assert second.text == f"{FILLER} and {FILLER}."


def test_a_long_clause_is_split_evenly_after_words() -> None:
    first, second = split_text(" ".join([FILLER] * 5))
    assert (first.pause, first.glue) == ("word", " ")
    assert abs(len(first.text) - len(second.text)) < 12


@pytest.mark.parametrize("dash", ["—", "--", "…"])
def test_a_dash_between_words_ends_a_clause(dash: str) -> None:
    first, second = split_text(f"{FILLER} {FILLER}{dash}{FILLER} {FILLER}, {FILLER}.")
    assert first.text.endswith("again" + dash)
    assert (first.pause, first.glue) == ("clause", "")
    assert second.text.startswith("The quick")


def test_a_dash_between_spaces_ends_a_clause_and_stays_with_it() -> None:
    first, second = split_text(f"{FILLER} {FILLER} - {FILLER} {FILLER} {FILLER}.")
    assert first.text.endswith("again -")
    assert (first.pause, second.text[:3]) == ("clause", "The")


def test_no_dash_between_numbers_is_a_break() -> None:
    assert split_text("1990—1995 " * 40, limit=300)[0].pause == "word"


def test_an_unbreakable_run_is_cut_at_the_limit() -> None:
    segments = split_text("See https://" + "x" * 700 + " there.")
    assert [len(s.text) for s in segments] == [3, 300, 300, 115]
    assert [s.glue for s in segments] == [" ", "", "", ""]


def test_a_sentence_of_a_word_does_not_stand_alone_before_a_long_one() -> None:
    first = split_text(f"No. {FILLER}, {' '.join([FILLER] * 4)}.")[0]
    assert first.text == f"No. {FILLER},"


def test_a_clause_of_a_word_does_not_stand_alone() -> None:
    assert split_text(f"Well, {' '.join([FILLER] * 5)}.")[0].pause == "word"


def test_a_short_sentence_ends_where_the_next_has_no_clauses() -> None:
    assert split_text(f"No. {' '.join([FILLER] * 5)}.")[0] == Segment("No.", "sentence", " ")


def test_the_last_segment_is_not_a_word() -> None:
    sentence = FILLER + "."
    text = f"{sentence} {sentence} {sentence} {sentence} {'X' * 38}. Thanks."
    assert texts(text) == [" ".join([sentence] * 4), f"{'X' * 38}. Thanks."]


def test_a_tag_is_never_split() -> None:
    for pad in range(280, 300):
        for tag in ("[clear throat]", "[laugh]"):
            for glue in ("", " "):
                parts = texts("x" * pad + glue + tag + glue + "y" * 300)
                assert sum(part.count(tag) for part in parts) == 1


def test_a_quotation_that_fits_stays_whole() -> None:
    for opening, closing in ('""', "“”", "‘’", "''", "«»"):
        quotation = f"{opening}Stop it. {FILLER}! Don't, {FILLER}? Now go,{closing}"
        for pad in range(0, 300, 7):
            parts = texts(f"Yes. {'x' * pad} {quotation} he said. {FILLER}.")
            assert sum(quotation in part for part in parts) == 1, parts


def test_a_quotation_too_long_is_split_after_its_sentences() -> None:
    first, second = split_text(f'He said: "{" ".join([FILLER + "."] * 6)}"')
    assert first.pause == "sentence"
    assert first.text.endswith("again.")
    assert second.text.endswith('again."')


def test_an_apostrophe_opens_no_quotation() -> None:
    text = (
        "'Twas cold. So were the dogs' ears. The '90s were too. Ask the dogs' keeper. "
        "Tell 'em so. It is James' dog."
    )
    assert sentence_ends(text) == ["cold.", "ears.", "too.", "keeper.", "so."]


@pytest.mark.parametrize("unit", ["Mr. Smith", "J. R. R. Tolkien", "10 000", "No. 5", "end ..."])
def test_what_belongs_together_is_not_parted_between_words(unit: str) -> None:
    for pad in range(20):
        parts = texts("y" * pad + " " + f"{unit} " * 60)
        assert sum(part.count(unit) for part in parts) == 60


def test_weak_breaks_are_used_only_if_there_is_no_other() -> None:
    segments = split_text("17 " * 400)
    assert all(set(s.text.split(" ")) == {"17"} for s in segments)


# --- paragraphs and pauses ------------------------------------------------------------------


def test_paragraphs_are_never_joined() -> None:
    segments = split_text("CHAPTER ONE\n\nIt was late.\nIt was cold.\r\n \r\n* * *\u2029The end.\n")
    assert segments == [
        Segment("CHAPTER ONE", "paragraph", "\n\n"),
        Segment("It was late. It was cold.", "paragraph", "\n\n"),
        Segment("* * *", "paragraph", "\n\n"),
        Segment("The end.", "end", ""),
    ]
    assert [s.speakable for s in segments] == [True, True, False, True]


def test_pauses() -> None:
    pauses = PauseOptions(word=0.01, clause=0.02, sentence=0.03, paragraph=0.04)
    kinds = ("word", "clause", "sentence", "paragraph", "end")
    seconds = [pause_after(Segment("x", kind, " "), pauses) for kind in kinds]
    assert seconds == [0.01, 0.02, 0.03, 0.04, 0.0]
    assert PauseOptions().paragraph > PauseOptions().sentence > PauseOptions().clause
    with pytest.raises(OptionError, match="paragraph"):
        PauseOptions(paragraph=-1)
    with pytest.raises(OptionError, match="word"):
        PauseOptions(word=float("nan"))


def test_a_limit_too_low_is_an_error() -> None:
    with pytest.raises(OptionError, match="40"):
        split_text("Hello.", limit=39)


def test_split_again_gives_shorter_segments_with_the_same_end() -> None:
    segment = split_text(f"{FILLER}. {FILLER}. {FILLER}, {FILLER}.\n\nNext.")[0]
    parts = resplit(segment)
    assert len(parts) == 2
    assert "".join(s.text + s.glue for s in parts) == segment.text + "\n\n"
    assert (parts[-1].pause, parts[-1].glue) == ("paragraph", "\n\n")
    assert parts[0].pause == "sentence"
    short = Segment("Too short to split.", "sentence", " ")
    assert resplit(short) == [short]


# --- properties -----------------------------------------------------------------------------

TAGS = ("[laugh]", "[clear throat]", "[advertisement]", "[sigh]")
WORDS = ("a", "word", "Again", "the", "extraordinary", "I", "naïve", "don't", "Строка", "नमस्ते")
UNITS = ("Mr. Smith", "Mrs. Jones", "J. R. R. Tolkien", "No. 7", "3.14", "1,000", "12:30", "v1.2.3",
         "$5.99", "U.S. Navy", "5 p.m.", "e.g. this", "St. Louis", "10 000")  # fmt: skip
MARKS = (",", ".", "!", "?", "...", "…", ";", ":", " -", "—", "?!", '."', "。", "、")
SPACES = (" ",) * 12 + (
    "\n",
    "  ",
    "\t",
    "\n\n",
    "\r\n",
    "\r\n\r\n",
    "\u2029",
    "\u00a0",
    " \n \n\n ",
)
JUNK = ('"', "'", "[", "]", "(", ")", "“", "”", "‘", "’", "[laugh", "--", "\u0301", "😀", "\x00",
        "x" * 350, "。" * 20, "1 2 3", "https://a.b/" + "y" * 90, "[[laugh]]")  # fmt: skip


def tidy_text(random_: random.Random) -> str:
    """Words, units, tags and quotations, with marks and white space between."""
    parts: list[str] = []
    for _ in range(random_.randrange(1, 90)):
        draw = random_.random()
        if draw < 0.08:
            parts.append(random_.choice(TAGS))
        elif draw < 0.2:
            parts.append(random_.choice(UNITS))
        elif draw < 0.25:
            parts.append(f"“{' '.join(random_.choices(WORDS[:8], k=random_.randrange(1, 20)))}.”")
        else:
            parts.append(random_.choice(WORDS))
            if random_.random() < 0.25:
                parts.append(random_.choice(MARKS))
        parts.append(random_.choice(SPACES))
    return "".join(parts)


def wild_text(random_: random.Random) -> str:
    pieces = TAGS + WORDS + UNITS + MARKS + SPACES + JUNK
    return "".join(random_.choices(pieces, k=random_.randrange(0, 120)))


def test_ten_thousand_texts() -> None:
    random_ = random.Random(20_240_607)
    tag = re.compile("|".join(map(re.escape, TAGS)))
    quotation = re.compile("“[^“”]*”")
    for number in range(10_000):
        tidy = number % 2 == 0
        text = tidy_text(random_) if tidy else wild_text(random_)
        limit = random_.choice((MIN_SEGMENT_LIMIT, 100, 300))
        segments = split_text(text, limit=limit)
        folded = normalize_spaces(text)

        assert "".join(s.text + s.glue for s in segments) == folded
        assert " ".join(folded.split()) == " ".join(text.split())
        assert all(0 < len(s.text) <= limit and s.text == s.text.strip(" ") for s in segments)
        found = [match for s in segments for match in tag.findall(s.text)]
        assert found == tag.findall(folded)

        assert [s.glue == "\n\n" for s in segments] == [s.pause == "paragraph" for s in segments]
        assert sum(s.pause == "paragraph" for s in segments) == folded.count("\n\n")
        assert not segments or (segments[-1].pause, segments[-1].glue) == ("end", "")
        if tidy and limit == 300:
            for unit in UNITS:
                assert sum(s.text.count(unit) for s in segments) == folded.count(unit), unit
            fitting = [match for match in quotation.findall(folded) if len(match) < 280]
            assert fitting == [
                match for s in segments for match in quotation.findall(s.text) if len(match) < 280
            ]


@pytest.mark.parametrize(
    "text",
    [
        f"{FILLER}, Mr. Smith said. “No! [laugh] Never,” at 3.14.\n\n" * 6000,
        "x" * 500_000,
        "." * 500_000 + "a",
        '"' * 200_000,
        "'a' " * 100_000,
        "[a" * 250_000,
        "a" + "-" * 500_000,
        " \n" * 250_000,
        "1 " * 250_000,
        "a\n\n" * 100_000,
    ],
    ids=["prose", "run", "dots", "quotes", "single quotes", "brackets", "dashes", "spaces",
         "digits", "paragraphs"],
)  # fmt: skip
def test_time_grows_with_the_length_and_no_faster(text: str) -> None:
    begun = time.process_time()
    split_text(text)
    assert time.process_time() - begun < 10
