"""Text to the ids of T3, by the tokenizer of a model folder."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from ..errors import ModelFolderError, OptionError, TextError
from .normalize import CleanUp, normalize_text

TOKENIZER_FILE = "tokenizer.json"


class TextTokenizer:
    """Turbo's: byte-level BPE; no ids are added at either end. The base of the others."""

    clean_up: CleanUp = normalize_text

    def __init__(self, folder: Path, *, max_tokens: int) -> None:
        """Read ``tokenizer.json`` of a folder.

        Args:
            max_tokens: the most ids of one text.

        Raises:
            ModelFolderError: the file is absent or damaged.
        """
        self._max_tokens = max_tokens
        self._folder = folder
        path = folder / TOKENIZER_FILE
        try:
            content = path.read_text("utf-8")
            # The library's own parser raises bare Exceptions, so what it reads is looked at first.
            json.loads(content)["model"]["vocab"]
        except FileNotFoundError:
            raise ModelFolderError(f"{path} is missing; convert the model again") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFolderError(f"{path} is damaged; convert the model again") from error
        self._tokenizer = Tokenizer.from_str(content)

    @property
    def added(self) -> tuple[str, ...]:
        """The tokens that are matched before the vocabulary, by their ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        return tuple(added[i].content for i in sorted(added))

    @property
    def tags(self) -> tuple[str, ...]:
        """The bracketed sounds and moods that the model knows, such as ``[laugh]``."""
        return tuple(each for each in self.added if each.startswith("[") and each.endswith("]"))

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes that ``language`` may have; none where the model speaks one language."""
        return ()

    def normalize(self, text: str) -> str:
        """Clean up the punctuation of ``text``.

        Raises:
            TextError: the text is empty.
        """
        return type(self).clean_up(text)

    def check_language(self, language: str | None) -> None:
        """Find out before long work whether texts of a language can be encoded.

        Raises:
            OptionError: the model does not speak the language.
            ExtraError: a library that the language needs is not installed.
        """
        if language is not None:
            raise OptionError(
                f"language is {language!r} and this model speaks English only; "
                "leave language out, or use the multilingual model"
            )

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """The ids of ``text``.

        Args:
            language: a code, where the model speaks several languages.

        Raises:
            TextError: more ids than the model takes (the reference drops the rest in silence), or
                half a surrogate pair, which is no character.
            OptionError, ExtraError: as for :meth:`check_language`.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(
                f"the text has half a surrogate pair at position {error.start}; remove it"
            ) from None
        prepared = self._prepare(text, language)
        ids = self._tokenizer.encode(prepared, add_special_tokens=False).ids
        if len(ids) > self._max_tokens:
            raise TextError(
                f"the text is {len(ids)} tokens long where at most {self._max_tokens} fit; "
                "split it and say the parts one after another"
            )
        return ids

    def _prepare(self, text: str, language: str | None) -> str:
        """``text`` in the spelling of the vocabulary."""
        self.check_language(language)
        return text
