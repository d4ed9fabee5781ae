"""Text to the ids of T3, by the byte-level tokenizer of a model folder."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from ..errors import ModelFolderError, TextError


class TextTokenizer:
    """Text to ids by the ``tokenizer.json`` of a model folder; no ids are added at either end."""

    def __init__(self, folder: Path, *, max_tokens: int) -> None:
        """Read the file of a folder.

        Args:
            max_tokens: the most ids of one text.

        Raises:
            ModelFolderError: the file is absent or damaged.
        """
        self._max_tokens = max_tokens
        path = folder / "tokenizer.json"
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
    def tags(self) -> tuple[str, ...]:
        """The bracketed sounds and moods that the model knows, such as ``[laugh]``."""
        added = self._tokenizer.get_added_tokens_decoder()
        contents = (added[i].content for i in sorted(added))
        return tuple(tag for tag in contents if tag.startswith("[") and tag.endswith("]"))

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``.

        Raises:
            TextError: more ids than the model takes (the reference drops the rest in silence), or
                half a surrogate pair, which is no character.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(
                f"the text has half a surrogate pair at position {error.start}; remove it"
            ) from None
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) > self._max_tokens:
            raise TextError(
                f"the text is {len(ids)} tokens long where at most {self._max_tokens} fit; "
                "split it and say the parts one after another"
            )
        return ids
