"""Which tokenizer a model has."""

from __future__ import annotations

from pathlib import Path

from ..config import ModelConfig, OriginalT3Config
from ..text.bpe_tokenizer import EnglishTokenizer, MultilingualTokenizer
from ..text.tokenizer import TextTokenizer


def load_tokenizer(folder: Path, config: ModelConfig) -> TextTokenizer:
    """Read the tokenizer of a model folder.

    Raises:
        ModelFolderError: a file is absent, damaged, or of another kind of model.
    """
    t3, most = config.t3, config.text.max_tokens
    if not isinstance(t3, OriginalT3Config):
        return TextTokenizer(folder, max_tokens=most)
    if config.language_text is None:
        return EnglishTokenizer(
            folder, max_tokens=most, start_text=t3.start_text, stop_text=t3.stop_text
        )
    return MultilingualTokenizer(
        folder,
        max_tokens=most,
        start_text=t3.start_text,
        stop_text=t3.stop_text,
        config=config.language_text,
    )
