"""Russian: stress marks, where the configuration asks for them.

They are off by default: the library is no package of the Python index, and upstream speaks
unmarked text where it is not installed.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import ExtraError
from .library import Step, import_library


def load(folder: Path) -> Step:
    """The step of Russian.

    Raises:
        ExtraError: russian-text-stresser is not installed.
    """
    del folder
    try:
        library = import_library(
            "russian_text_stresser.text_stresser",
            package="russian-text-stresser",
            language="Russian",
        )
    except ExtraError as error:
        raise ExtraError(
            "stress marks of Russian need russian-text-stresser; install it from its Git "
            "repository, or take 'ru' out of language_text.steps in config.json"
        ) from error
    return library.RussianTextStresser().stress_text
