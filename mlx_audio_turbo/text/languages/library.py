"""Optional libraries of the languages, all in the extra ``languages``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

from ...errors import ExtraError

Step = Callable[[str], str]
"""Prepares a text of one language."""


def import_library(module: str, *, package: str, language: str) -> ModuleType:
    """Import a module that a language needs.

    Raises:
        ExtraError: it is not installed, or does not work here.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise ExtraError(f"{package} lacks {error.name}; install it with pip") from None
        raise ExtraError(
            f"{language} needs {package}; install it with: pip install 'mlx-audio-turbo[languages]'"
        ) from None
    except ImportError as error:
        raise ExtraError(f"{package} does not work here ({error}); install it again") from None
