"""Completion of a command's options in a shell, by argcomplete.

The script of ``--print_completion`` asks the command itself what could follow.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

SHELLS = ("bash", "zsh", "fish")
_VOICES = ("NAME", "NAME|FILE")
_FREE = ("N", "X", "CODE", "SECONDS", "NOTE", "TEXT")
"""Metavars of values for which no file name is proposed."""


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what could follow, and end; return where none asks."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    for each in _parsers(parser):
        for action in each._actions:
            if each.prog.endswith(" add") and action.dest == "name":
                continue  # a new name
            if action.metavar in _VOICES:
                action.completer = _voices  # type: ignore[attr-defined]
            elif action.metavar in _FREE:
                action.completer = _nothing  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def script(program: str, shell: str) -> str:
    """What to evaluate in ``shell``, one of ``SHELLS``."""
    import argcomplete

    return argcomplete.shellcode([program], shell=shell)  # pyright: ignore[reportPrivateImportUsage]


def _parsers(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _nothing(**_: object) -> tuple[str, ...]:
    return ()


def _voices(**_: object) -> list[str]:
    from ..errors import TurboError
    from ..voice_library import VoiceLibrary

    try:
        return VoiceLibrary().names()
    except TurboError:
        return []
