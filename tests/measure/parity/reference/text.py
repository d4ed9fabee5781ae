"""The reference's texts and ids of the original and the multilingual model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
from chatterbox.models.tokenizers import EnTokenizer, MTLTokenizer
from chatterbox.models.tokenizers import tokenizer as reference
from chatterbox.mtl_tts import punc_norm as multilingual_punc_norm
from chatterbox.tts import punc_norm
from tokenizers import Tokenizer

from ..language_texts import CODES, cangjie_entries, cut_words, generate_language_texts
from ..texts import generate_texts, pack_json
from .context import Context

ENGLISH = Path(__file__).resolve().parents[3] / "data" / "tokenizer_original" / "tokenizer.json"


def record(context: Context) -> dict[str, np.ndarray]:
    """As JSON: English texts, cleaned and tokenized; texts by language, cleaned and prepared.

    Where the older table of the multilingual model is at hand, the ids too.
    """
    texts = generate_texts(50 if context.small else 200)
    cleaned = [punc_norm(text) for text in texts]
    english = EnTokenizer(str(ENGLISH))
    values: dict[str, object] = {
        "texts": texts,
        "cleaned": cleaned,
        "ids": [english.encode(text) for text in [*texts, *cleaned]],
    }
    languages = {code: generate_language_texts(code, 5 if context.small else 20) for code in CODES}
    prepared = tokenizer(SimpleNamespace(encode=lambda text: SimpleNamespace(ids=text)))
    values["language_texts"] = languages
    values["language_cleaned"] = {
        code: [multilingual_punc_norm(text) for text in each] for code, each in languages.items()
    }
    with mock.patch.object(reference, "_dicta", SimpleNamespace(add_diacritics=str)):
        values["language_prepared"] = _encode(prepared, languages)
        if (table := context.language_table) is not None:
            full = tokenizer(Tokenizer.from_file(str(table)))
            values["language_ids"] = _encode(full, languages)
    return {name: pack_json(value) for name, value in values.items()}


def tokenizer(table: object) -> MTLTokenizer:
    """The reference's tokenizer with a table, without what its constructor downloads."""
    converter = object.__new__(reference.ChineseCangjieConverter)
    converter.word2cj, converter.cj2word = {}, {}
    for entry in cangjie_entries():
        glyph, code = entry.split("\t")[:2]
        converter.word2cj[glyph] = code
        converter.cj2word.setdefault(code, []).append(glyph)
    converter.segmenter = SimpleNamespace(cut=cut_words)
    made = object.__new__(MTLTokenizer)
    made.tokenizer, made.cangjie_converter = table, converter
    return made


def _encode(made: MTLTokenizer, languages: dict[str, list[str]]) -> dict[str, list]:
    return {
        code: [made.encode(text, language_id=code) for text in texts]
        for code, texts in languages.items()
    }
