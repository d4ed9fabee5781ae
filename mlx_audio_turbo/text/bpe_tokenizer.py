"""The tokenizers of the original and the multilingual model: BPE over characters.

Their vocabularies have no space: ``[SPACE]`` stands for it. T3 adds ``[START]`` and ``[STOP]``.
"""

from __future__ import annotations

import re
from pathlib import Path
from unicodedata import normalize

from ..config import LanguageTextConfig
from ..errors import ModelFolderError, OptionError
from .languages import LANGUAGES, Step, check_code, load_step
from .normalize import normalize_multilingual, normalize_original
from .tokenizer import TOKENIZER_FILE, TextTokenizer

_START, _STOP, _SPACE = "[START]", "[STOP]", "[SPACE]"
_STRUCTURE = re.compile(
    r"\[(?:START|STOP|SPACE|UNK|PAD|SEP|CLS|MASK|PLACEHOLDER\d*|ipa|end_of_label|cj_.|[a-z]{2})\]"
)
"""Tokens that are no sounds: marks of structure, languages, and letters of the Cangjie code."""


class EnglishTokenizer(TextTokenizer):
    """The original model's. Letters keep their case; a character that is unknown is ``[UNK]``."""

    clean_up = normalize_original

    def __init__(self, folder: Path, *, max_tokens: int, start_text: int, stop_text: int) -> None:
        """Read ``tokenizer.json`` of a folder.

        Args:
            max_tokens: the most ids of one text.
            start_text, stop_text: the ids of ``[START]`` and ``[STOP]``, which T3 adds.

        Raises:
            ModelFolderError: the file is absent, damaged, or of another kind of model.
        """
        super().__init__(folder, max_tokens=max_tokens)
        expected = {_START: start_text, _STOP: stop_text}
        found = {token: self._tokenizer.token_to_id(token) for token in (_START, _STOP, _SPACE)}
        if found[_SPACE] is None or any(found[token] != i for token, i in expected.items()):
            raise ModelFolderError(
                f"{folder / TOKENIZER_FILE} is of another kind of model; convert the model again"
            )

    @property
    def tags(self) -> tuple[str, ...]:
        """The sounds of the vocabulary, such as ``[sigh]``; upstream documents none of them."""
        return tuple(tag for tag in super().tags if not _STRUCTURE.fullmatch(tag))

    def _prepare(self, text: str, language: str | None) -> str:
        return super()._prepare(text, language).replace(" ", _SPACE)


class MultilingualTokenizer(EnglishTokenizer):
    """That of the multilingual model: text steps of the language, then its tag before the text."""

    clean_up = normalize_multilingual

    def __init__(
        self,
        folder: Path,
        *,
        max_tokens: int,
        start_text: int,
        stop_text: int,
        config: LanguageTextConfig,
    ) -> None:
        """Read ``tokenizer.json`` of a folder; nothing else is read before a text needs it.

        Args:
            max_tokens, start_text, stop_text: as for the base class.
            config: how the text is spelled.

        Raises:
            ModelFolderError: as for the base class.
        """
        super().__init__(folder, max_tokens=max_tokens, start_text=start_text, stop_text=stop_text)
        self._config = config
        self._steps: dict[str, Step] = {}
        if unknown := sorted(set(config.steps) - set(LANGUAGES)):
            raise ModelFolderError(
                f"language_text.steps in config.json names {', '.join(unknown)}, which the model "
                "does not speak; convert the model again"
            )

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages whose tag the vocabulary has."""
        return tuple(code for code in LANGUAGES if f"[{code}]" in self.added)

    @property
    def tags(self) -> tuple[str, ...]:
        """The sounds of the vocabulary that are found in a text of the model's case."""
        lowered = self._config.lowercase
        return tuple(tag for tag in super().tags if not lowered or tag == tag.lower())

    def normalize(self, text: str) -> str:
        """Clean up the punctuation of ``text``.

        Raises:
            TextError: the text is empty.
        """
        return type(self).clean_up(text, capitalize=self._config.capitalize)

    def check_language(self, language: str | None) -> None:
        """Find out before long work whether texts of a language can be encoded.

        Raises:
            OptionError: the model does not speak the language.
            ExtraError: a library that the language needs is not installed.
            ModelFolderError: a table that the language needs is not in the folder.
        """
        if language is not None:
            self._step(self._code(language))

    def _code(self, language: str) -> str:
        code = check_code(language)
        if f"[{code}]" not in self.added:
            raise OptionError(
                f"this model does not speak {LANGUAGES[code]}; "
                f"its languages are {', '.join(self.languages)}"
            )
        return code

    def _step(self, code: str) -> Step:
        if code not in self._steps:
            wanted = code in self._config.steps
            self._steps[code] = load_step(code, self._folder) if wanted else str
        return self._steps[code]

    def _prepare(self, text: str, language: str | None) -> str:
        """``text`` spelled for the model.

        Capitals and accents go first by default, then the step of the language. The order and the
        capitals are configuration: versions of the model differ.
        """
        config = self._config
        code = None if language is None else self._code(language)
        step: Step = str if code is None else self._step(code)
        if config.lowercase:
            text = text.lower()
        if config.decompose_first:
            text = step(normalize("NFKD", text))
        else:
            text = normalize("NFKD", step(text))
        return (f"[{code}]{text}" if code else text).replace(" ", _SPACE)
