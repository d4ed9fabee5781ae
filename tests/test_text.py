"""Punctuation clean-up and the tokenizer of a model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlx_audio_turbo.errors import ModelFolderError, TextError
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo.synthesis.tasks import segments_of
from mlx_audio_turbo.text.normalize import drop_invisible, normalize_text
from mlx_audio_turbo.text.tokenizer import TextTokenizer
from mlx_audio_turbo_convert.tokenizer import TAGS, write_tokenizer

FILES = Path(__file__).parent / "data" / "tokenizer"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("model")
    write_tokenizer(FILES, folder, TURBO.t3)
    return TextTokenizer(folder, max_tokens=1024)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello there", "Hello there."),
        ("Hello there!", "Hello there!"),
        # Curly quotes become straight, and a closing one still gets its full stop.
        ("“it’ll be ‘fine’”", "\"it'll be 'fine'\"."),
        ("Wait… what", "Wait,  what."),
        ("one : two—three – four", "One, two-three - four."),
        ("well , yes", "Well, yes."),
        ("  spaces\t and\n lines  ", "spaces and lines."),
        ('"quoted"', '"quoted".'),
        ("the end…", "The end,"),
        ("Oh [laugh]", "Oh [laugh]."),
        ("ßeta", "SSeta."),
        ("éclair", "Éclair."),
        ("\x00", "\x00."),
        ("a\u3000b\x1cc", "A b c."),
        ("why?!", "Why?!"),
        ("semi;", "Semi;."),
        ("…", ","),
    ],
)
def test_clean_up(text: str, expected: str) -> None:
    assert normalize_text(text) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u3000", "\x1c"])
def test_empty_texts_are_refused(text: str) -> None:
    with pytest.raises(TextError, match="empty; give"):
        normalize_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("won\u00adder", "wonder"),
        ("won\u00ad\n  der", "wonder"),
        ("\ufeffOne.\ufeffTwo.", "One.Two."),
        ("zero\u200bwidth \u2060word", "zerowidth word"),
        ("\u200fשלום\u200e \u202aa\u202c \u2066b\u2069", "שלום a b"),
        ("می\u200cنا श्\u200dर 👩\u200d👧", "می\u200cنا श्\u200dर 👩\u200d👧"),
        ("plain\u00a0text\n", "plain\u00a0text\n"),
    ],
)
def test_characters_that_are_not_seen_are_not_spoken(text: str, expected: str) -> None:
    assert drop_invisible(text) == expected
    spoken = "".join(each.text + each.glue for each in segments_of("a " + text, 300))
    assert spoken == "a " + expected


def test_a_text_of_characters_that_are_not_seen_is_empty() -> None:
    with pytest.raises(TextError, match="empty; give"):
        segments_of("\ufeff\u00ad\u200b", 300)


def test_the_real_tokenizers_ids(tokenizer: TextTokenizer) -> None:
    for case in json.loads((FILES / "groundtruth.json").read_text("utf-8")):
        assert tokenizer.encode(case["text"]) == case["token_ids"], case["text"]


def test_tags_are_single_ids(tokenizer: TextTokenizer) -> None:
    assert tokenizer.tags == TAGS
    assert [tokenizer.encode(tag) for tag in TAGS] == [[50_257 + i] for i in range(19)]
    assert len(tokenizer.encode("[Laugh]")) > 1


def test_characters_that_are_bytes(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode("\x00") == [188]
    assert len(tokenizer.encode("a\x01\x7f")) == 3
    assert tokenizer.encode("<|endoftext|>") == [50_256]


def test_half_a_surrogate_pair_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(TextError, match="surrogate pair at position 3; remove"):
        tokenizer.encode("abc\ud83d")


def test_the_limit_is_said_and_not_cut(tokenizer: TextTokenizer) -> None:
    assert len(tokenizer.encode(" hello" * 1024)) == 1024
    with pytest.raises(TextError, match="1025 tokens long where at most 1024 fit; split"):
        tokenizer.encode(" hello" * 1025)


def test_folders_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"tokenizer\.json is missing; convert"):
        TextTokenizer(tmp_path, max_tokens=1024)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"model": {}}', b"\xff\xfe", b"null"])
def test_damaged_tokenizers(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"tokenizer\.json is damaged; convert"):
        TextTokenizer(tmp_path, max_tokens=1024)
