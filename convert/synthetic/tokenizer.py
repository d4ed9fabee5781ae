"""A made-up tokenizer of the original's form: one token for each character, and no merges."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_audio_turbo.config import OriginalT3Config
from mlx_audio_turbo.errors import OptionError

from ..tokenizer import CANGJIE_FILE, MULTILINGUAL_FILE, SPACE, TOKENIZER_FILE

SOUNDS = ("[UH]", "[UM]", "[giggle]", "[laughter]", "[sigh]", "[cough]", "[whisper]")
LANGUAGES = (
    *("ar", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "it", "ja"),
    *("ko", "ms", "nl", "no", "pl", "pt", "ru", "sv", "sw", "tr", "zh"),
)
_SCRIPTS = (
    *((0x00A1, 0x0180), (0x0250, 0x02B0), (0x0300, 0x0370), (0x0370, 0x0530), (0x0590, 0x0700)),
    *((0x0900, 0x0980), (0x1100, 0x1200), (0x2010, 0x2070), (0x3000, 0x3100)),
)
"""Latin, accents, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Jamo, punctuation, kana."""
_CANGJIE = ("一\tm", "中\tl", "人\to", "你\tonf", "好\tvnd", "文\tyk", "世\tpt", "界\twoll")


def character_files(folder: Path, config: OriginalT3Config, *, multilingual: bool) -> None:
    """Write the tokenizer files of an untrained original or multilingual checkpoint.

    Raises:
        OptionError: the text vocabulary has no room for the characters.
    """
    special = {config.stop_text: "[STOP]", 1: "[UNK]", 2: SPACE, config.start_text: "[START]"}
    others = [*_added(multilingual), *_characters(multilingual)]
    free = [index for index in range(config.text_vocabulary) if index not in special]
    if len(others) > len(free):
        raise OptionError(
            f"a text vocabulary of {config.text_vocabulary} is too small; at least "
            f"{len(others) + len(special)}"
        )
    tokens = dict(special)
    tokens.update(zip(free, others, strict=False))
    tokens.update({index: f"filler{index}" for index in free if index not in tokens})
    bracketed = {index: token for index, token in tokens.items() if token[:1] + token[-1:] == "[]"}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    values: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": bracketed[index], "special": True, **plain}
            for index in sorted(bracketed)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {tokens[index]: index for index in sorted(tokens)},
            "merges": [],
        },
    }
    name = MULTILINGUAL_FILE if multilingual else TOKENIZER_FILE
    (folder / name).write_text(json.dumps(values, ensure_ascii=False, indent=1), "utf-8")
    if multilingual:
        (folder / CANGJIE_FILE).write_text(json.dumps(_CANGJIE, ensure_ascii=False), "utf-8")


def _added(multilingual: bool) -> Iterator[str]:
    yield from SOUNDS
    if multilingual:
        yield from (f"[{language}]" for language in LANGUAGES)
        yield from (f"[cj_{letter}]" for letter in "abcdefghijklmnopqrstuvwxyz0123456789.")


def _characters(multilingual: bool) -> Iterator[str]:
    for code in range(0x21, 0x7F):
        yield chr(code)
    if multilingual:
        for low, high in _SCRIPTS:
            for code in range(low, high):
                character = chr(code)
                # what NFKD leaves as it is; the text is decomposed before it is looked up
                if unicodedata.category(character)[0] in "LMNPS" and (
                    unicodedata.normalize("NFKD", character) == character
                ):
                    yield character
