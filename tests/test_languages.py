"""The tokenizers of the original and the multilingual model, and the text steps of languages."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unicodedata import normalize

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from mlx_audio_turbo.config import LanguageTextConfig, from_json, to_json
from mlx_audio_turbo.errors import ExtraError, ModelFolderError, OptionError, TextError
from mlx_audio_turbo.loading.tokenizer import load_tokenizer
from mlx_audio_turbo.presets import ORIGINAL_T3, TINY, TURBO
from mlx_audio_turbo.text.bpe_tokenizer import EnglishTokenizer, MultilingualTokenizer
from mlx_audio_turbo.text.languages import LANGUAGES, check_code, chinese
from mlx_audio_turbo.text.normalize import normalize_multilingual, normalize_original

ENGLISH = Path(__file__).parent / "data" / "tokenizer_original"
CODES = [*("ar", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "it", "ja", "ko"),
         *("ms", "nl", "no", "pl", "pt", "ru", "sv", "sw", "tr", "zh")]  # fmt: skip
SPECIAL = ["[STOP]", "[UNK]", "[SPACE]", "[START]", "[UH]", "[giggle]", "[PLACEHOLDER55]"]
LETTERS = "abcdefghijklmnopqrstuvwxyzHW.,!?'\u0301\u0308かんしはへ\u3099한한рвע"
CANGJIE = ["日\ta", "曰\ta", "明\tab", "好\tvnd", "好\tvnd"]


def write_multilingual(folder: Path, *, codes: list[str] = CODES) -> None:
    """A vocabulary of single characters with the tags of languages and the letters of Cangjie."""
    added = SPECIAL + [f"[{code}]" for code in codes]
    added += [f"[cj_{letter}]" for letter in "abcdefghijklmnopqrstuvwxyz0123456789."]
    vocabulary = {token: i for i, token in enumerate([*added, *dict.fromkeys(LETTERS)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in added])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / chinese.CANGJIE_FILE).write_text(json.dumps(CANGJIE), "utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("multilingual")
    write_multilingual(made)
    return made


def multilingual(folder: Path, **changes: Any) -> MultilingualTokenizer:
    config = replace(LanguageTextConfig(), **changes)
    return MultilingualTokenizer(folder, max_tokens=200, start_text=3, stop_text=0, config=config)


def spelled(tokenizer: MultilingualTokenizer, text: str, language: str | None) -> str:
    """The tokens of ``text``, joined."""
    vocabulary = tokenizer._tokenizer
    return "".join(vocabulary.id_to_token(i) or "" for i in tokenizer.encode(text, language))


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the optional libraries, which cut at every glyph and read each one alike."""

    def convert(text: str) -> list[dict[str, str]]:
        readings = {"漢": "かん", "字": "じ", "母": "はは"}
        return [{"orig": each, "hira": readings.get(each, each)} for each in text]

    kakasi = SimpleNamespace(kakasi=lambda: SimpleNamespace(convert=convert))
    monkeypatch.setitem(sys.modules, "pykakasi", kakasi)  # type: ignore[arg-type]
    monkeypatch.setattr(chinese, "load_segmenter", lambda: list)


# --- the original model ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def english() -> EnglishTokenizer:
    return EnglishTokenizer(ENGLISH, max_tokens=2048, start_text=255, stop_text=0)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world!", [284, 18, 84, 28, 2, 179, 79, 3]),
        (
            "Oh, [laughter] that is 42% off.",
            [291, 21, 7, 2, 607, 2, 73, 2, 54, 2, 267, 265, 259, 2, 58, 19, 9],
        ),
    ],
)
def test_the_ids_of_the_original(english: EnglishTokenizer, text: str, ids: list[int]) -> None:
    assert english.encode(text) == ids


def test_the_original_keeps_case_and_does_not_decompose(english: EnglishTokenizer) -> None:
    assert english.encode("hello") != english.encode("HELLO")
    assert english.encode("é") == [402]
    assert english.encode("ж") == [1]


def test_sounds_are_tags_and_marks_of_structure_are_not(english: EnglishTokenizer) -> None:
    assert len(english.tags) == 30
    assert {"[UH]", "[laughter]", "[gibberish]"} <= set(english.tags)
    assert not {"[SPACE]", "[START]", "[fr]", "[PLACEHOLDER55]"} & set(english.tags)


def test_a_language_for_the_original_is_refused(english: EnglishTokenizer) -> None:
    with pytest.raises(OptionError, match="English only; leave language out"):
        english.encode("Bonjour.", "fr")


def test_more_ids_than_the_model_has_positions_for_are_refused(english: EnglishTokenizer) -> None:
    with pytest.raises(TextError, match="at most 2048 fit"):
        english.encode("1 " * 2048)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wait...", "Wait,"),
        ("so... what", "So,  what."),
        ("a - b", "A, b."),
        ("a — b", "A - b."),
        ("one; two", "One,  two."),
        ("one ; two: three", "One,  two, three."),
        ("“Well”", '"Well".'),
        ("好。", "好。."),
    ],
)
def test_clean_up_of_the_original(text: str, expected: str) -> None:
    assert normalize_original(text) == expected


@pytest.mark.parametrize("mark", "、，。？！")
def test_full_width_marks_end_a_multilingual_text(mark: str) -> None:
    assert normalize_multilingual("好" + mark) == "好" + mark


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    with pytest.raises(ModelFolderError, match="another kind of model; convert"):
        EnglishTokenizer(ENGLISH, max_tokens=9, start_text=3, stop_text=0)
    turbo = Path(__file__).parent / "data" / "tokenizer"
    with pytest.raises(ModelFolderError, match="missing; convert"):
        EnglishTokenizer(turbo, max_tokens=9, start_text=255, stop_text=0)


def test_the_configuration_chooses_the_tokenizer(folder: Path) -> None:
    original = replace(TURBO, t3=ORIGINAL_T3)
    assert type(load_tokenizer(ENGLISH, original)) is EnglishTokenizer
    t3 = replace(ORIGINAL_T3, start_text=3)
    both = replace(TURBO, t3=t3, language_text=LanguageTextConfig(lowercase=False))
    tokenizer = load_tokenizer(folder, from_json(to_json(both), absent=TURBO))
    assert type(tokenizer) is MultilingualTokenizer
    assert tokenizer.encode("H", "fr") != tokenizer.encode("h", "fr")


def test_a_folder_of_an_older_version_has_no_languages() -> None:
    values = to_json(TINY)
    del values["language_text"]
    assert from_json(values, absent=TURBO).language_text is None


# --- languages ------------------------------------------------------------------------------


def test_the_languages() -> None:
    assert list(LANGUAGES) == CODES
    assert [check_code(code.upper()) for code in CODES] == CODES


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        *(("fr-FR", "fr"), ("pt_BR", "pt"), ("zh-Hant-TW", "zh"), ("French", "fr"), ("ger", "de")),
        *(("Japanse", "ja"), ("nb", "no"), ("nn-NO", "no"), ("iw", "he"), ("cmn", "zh")),
    ],
)
def test_a_wrong_code_is_answered_with_the_right_one(given: str, meant: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_code(given)
    if given != "ger":
        assert f"did you mean {meant!r} ({LANGUAGES[meant]})?" in str(caught.value)
    assert str(caught.value).endswith(", ".join(CODES))


@pytest.mark.parametrize("given", ["xx", "", "klingon", "日本"])
def test_an_unknown_code_is_answered_with_the_list(given: str) -> None:
    with pytest.raises(OptionError, match=r"choose from ar, da, .*, tr, zh$"):
        check_code(given)


@pytest.mark.parametrize("given", [5, True, b"fr", ["fr"]])
def test_a_language_is_a_str(given: Any) -> None:
    with pytest.raises(OptionError, match="give a code such as 'fr'"):
        check_code(given)


def test_the_tag_comes_first_and_no_language_is_no_tag(folder: Path) -> None:
    tokenizer = multilingual(folder)
    assert tokenizer.languages == tuple(CODES)
    assert spelled(tokenizer, "Salut Ici.", "FR") == "[fr]salut[SPACE]ici."
    assert spelled(tokenizer, "hello", None) == "hello"


def test_a_language_without_a_tag_in_the_vocabulary_is_refused(tmp_path: Path) -> None:
    write_multilingual(tmp_path, codes=["en", "fr"])
    tokenizer = multilingual(tmp_path)
    assert tokenizer.languages == ("en", "fr")
    with pytest.raises(OptionError, match="does not speak Danish; its languages are en, fr"):
        tokenizer.encode("Hej", "da")


@pytest.mark.parametrize("language", ["pl", "fr", None])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_marks_of_their_own(folder: Path, language: str | None, form: str) -> None:
    tag = f"[{language}]" if language else ""
    text = normalize(form, "Näé")  # type: ignore[arg-type]
    assert spelled(multilingual(folder), text, language) == f"{tag}na\u0308e\u0301"


def test_korean_syllables_become_jamo(folder: Path) -> None:
    assert spelled(multilingual(folder), " 한 ", "ko") == "[ko]ᄒ" + "ᅡᆫ"


@pytest.mark.usefixtures("libraries")
def test_japanese_kanji_are_read(folder: Path) -> None:
    text = spelled(multilingual(folder), "漢字かん母", "ja")
    assert text == "[ja]" + normalize("NFKD", "かんじかん") + "[SPACE]はは"


@pytest.mark.usefixtures("libraries")
def test_chinese_glyphs_are_spelled(folder: Path) -> None:
    # The second glyph of a code has its index; glyphs without a code and marks stay.
    text = spelled(multilingual(folder), "日曰明!は", "zh")
    assert text == (
        "[zh][cj_a][cj_.][SPACE][cj_a][cj_1][cj_.][SPACE][cj_a][cj_b][cj_.][SPACE]![SPACE]は"
    )
    assert chinese.read_table(folder).spell("好") == "[cj_v][cj_n][cj_d][cj_.]"


@pytest.mark.parametrize("content", [None, b"{", b"5", b'["x"]', b"[5]", b"\xff"])
def test_a_wrong_table_of_glyphs_is_said(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / chinese.CANGJIE_FILE).write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"Cangjie5_TC\.json.*; convert the model again$"):
        chinese.read_table(tmp_path)


def test_hebrew_with_vowel_signs_needs_no_library(folder: Path) -> None:
    for text in ("\u05e2\u05b7", "abc 12."):
        assert multilingual(folder)._prepare(text, "he") == "[he]" + text.replace(" ", "[SPACE]")


@pytest.mark.parametrize(
    ("language", "text", "module", "message"),
    [
        ("ja", "漢字", "pykakasi", "Japanese needs pykakasi; install it with: pip install"),
        ("zh", "好", "spacy_pkuseg", "Chinese needs spacy-pkuseg; install it with: pip install"),
        ("he", "עברית", "dicta_onnx", "needs dicta-onnx; install it with: pip install"),
    ],
)
def test_a_missing_library_is_one_line_with_the_extra(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    language: str,
    text: str,
    module: str,
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(ExtraError, match=message) as caught:
        multilingual(folder).encode(text, language)
    assert str(caught.value).endswith("'mlx-audio-turbo[languages]'")
    assert "\n" not in str(caught.value)


def test_russian_is_spoken_without_a_library_and_its_stress_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "russian_text_stresser", None)  # type: ignore[arg-type]
    assert spelled(multilingual(folder), "Рв", "ru") == "[ru]рв"
    with pytest.raises(ExtraError, match=r"language_text\.steps"):
        multilingual(folder, steps=("ru",)).encode("рв", "ru")


def test_the_word_model_is_asked_for_and_not_downloaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pkuseg(name: str) -> None:
        raise AssertionError("the library would download its model")

    stand_in = SimpleNamespace(pkuseg=pkuseg)
    monkeypatch.setitem(sys.modules, "spacy_pkuseg", stand_in)  # type: ignore[arg-type]
    monkeypatch.setenv("PKUSEG_HOME", str(tmp_path))
    with pytest.raises(ExtraError, match=r"word model of spacy-pkuseg in .*; fetch it once with"):
        multilingual(folder).check_language("zh")


def test_a_tokenizer_is_built_without_network_or_libraries(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for module in ("pykakasi", "spacy_pkuseg", "dicta_onnx", "russian_text_stresser"):
        monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    tokenizer = multilingual(folder)
    for code in CODES:
        if code not in ("zh", "ja", "he"):
            tokenizer.encode("abc", code)


def test_settings_of_version_3(folder: Path) -> None:
    tokenizer = multilingual(folder, lowercase=False, capitalize=False, decompose_first=False)
    assert tokenizer.normalize("hello") == "hello."
    assert spelled(tokenizer, "Hé", "fr") == "[fr]He\u0301"
    assert "[UH]" in tokenizer.tags
    assert "[UH]" not in multilingual(folder).tags
    with pytest.raises(ModelFolderError, match=r"steps in config\.json names xx"):
        multilingual(folder, steps=("xx",))


@pytest.mark.skipif(
    importlib.util.find_spec("pykakasi") is None, reason="pykakasi is not installed"
)
def test_pykakasi_reads_kanji(folder: Path) -> None:
    tokenizer = multilingual(folder)
    assert tokenizer._prepare("漢字とカナ", "ja") == "[ja]" + normalize("NFKD", "かんじとカナ")
