"""Our texts and ids of the original and the multilingual model against the reference's."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from mlx_audio_turbo.config import LanguageTextConfig
from mlx_audio_turbo.presets import ORIGINAL_T3
from mlx_audio_turbo.text.bpe_tokenizer import EnglishTokenizer, MultilingualTokenizer
from mlx_audio_turbo.text.languages import LANGUAGES, chinese
from mlx_audio_turbo.text.normalize import normalize_multilingual, normalize_original

from ..language_texts import cangjie_entries, cut_words
from ..rows import Row
from ..texts import unpack_json
from .context import Context

ENGLISH = Path(__file__).resolve().parents[3] / "data" / "tokenizer_original"


def rows(context: Context) -> Iterator[Row]:
    """How many texts differ."""
    reference = {name: unpack_json(each) for name, each in context.reference("text").items()}
    texts, cleaned = reference["texts"], reference["cleaned"]
    wrong = sum(
        normalize_original(t) != expected for t, expected in zip(texts, cleaned, strict=True)
    )
    yield Row("original text", f"of {len(texts)} cleaned texts differ", wrong, 0)
    english = EnglishTokenizer(
        ENGLISH,
        max_tokens=100_000,
        start_text=ORIGINAL_T3.start_text,
        stop_text=ORIGINAL_T3.stop_text,
    )
    both = [*texts, *cleaned]
    wrong = sum(
        english.encode(text) != ids for text, ids in zip(both, reference["ids"], strict=True)
    )
    yield Row("original text", f"of {len(both)} raw and cleaned texts' ids differ", wrong, 0)
    yield from _language_rows(context, reference)


def _language_rows(context: Context, reference: dict[str, Any]) -> Iterator[Row]:
    languages = dict(reference["language_texts"])
    if importlib.util.find_spec("pykakasi") is None:
        del languages["ja"]
    count = sum(map(len, languages.values()))
    missing = 1 if "ja" not in languages else 0
    yield Row("languages", "languages", len(languages), len(LANGUAGES) - missing, at_least=True)
    wrong = _differing(
        languages, reference["language_cleaned"], lambda text, _: normalize_multilingual(text)
    )
    yield Row("languages", f"of {count} cleaned texts differ", wrong, 0)
    # The reference's diacritics of Hebrew need a model that is not at hand.
    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.object(chinese, "load_segmenter", lambda: cut_words),
    ):
        folder = Path(name)
        (folder / chinese.CANGJIE_FILE).write_text(json.dumps(cangjie_entries()), "utf-8")
        table = context.language_table
        shutil.copyfile(table or ENGLISH / "tokenizer.json", folder / "tokenizer.json")
        tokenizer = MultilingualTokenizer(
            folder,
            max_tokens=100_000,
            start_text=ORIGINAL_T3.start_text,
            stop_text=ORIGINAL_T3.stop_text,
            config=LanguageTextConfig(steps=("zh", "ja", "ko")),
        )
        # Where the table is not at hand, the English one stands in, which has fewer tags.
        codes = tuple(f"[{code}]" for code in LANGUAGES)
        with mock.patch.object(MultilingualTokenizer, "added", codes):
            wrong = _differing(languages, reference["language_prepared"], tokenizer._prepare)
        yield Row("languages", f"of {count} prepared texts differ", wrong, 0)
        if table is not None and "language_ids" in reference:
            wrong = _differing(languages, reference["language_ids"], tokenizer.encode)
            yield Row("languages", f"of {count} texts' ids differ", wrong, 0)


def _differing(
    languages: dict[str, list[str]],
    expected: dict[str, list[Any]],
    ours: Callable[[str, str], Any],
) -> int:
    """How many texts have another result than the expected one."""
    return sum(
        ours(text, code) != answer
        for code, texts in languages.items()
        for text, answer in zip(texts, expected[code], strict=True)
    )
