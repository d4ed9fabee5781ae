"""What a user wrote to a path; the folders of a user; whether two paths are one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from ..errors import OptionError


def user_path(written: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Path:
    """The path that a user wrote, with ``~`` and ``~name`` expanded.

    The name of an unknown user stays as it is, as in a shell.

    Raises:
        OptionError: ``~`` where no home folder is known, a zero byte, or a name that cannot be
            written in the encoding of this system's file names.
    """
    try:
        text = os.fsdecode(written)
        encoded = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise OptionError(
            f"{written!a} cannot be the name of a file here (encoding {error.encoding}); "
            "choose another name, or set LC_ALL=C.UTF-8"
        ) from None
    if b"\0" in encoded:
        raise OptionError(f"the path {text!r} has a zero byte in it; choose another")
    expanded = os.path.expanduser(text)
    if expanded.split("/", 1)[0] == "~":
        raise OptionError(
            f"{text} cannot be expanded: this user has no home folder; give an absolute path, or "
            "set HOME"
        )
    return Path(expanded)


def own_folder(variable: str, default: Callable[[], str]) -> Path:
    """The folder that the environment variable ``variable`` names, or else ``default()``.

    Raises:
        OptionError: the variable is not set and this user has no home folder.
    """
    if chosen := os.environ.get(variable):
        return user_path(chosen)
    try:
        folder = user_path(default())
    except (RuntimeError, OptionError):  # what platformdirs raises depends on its version
        raise OptionError(
            f"this user has no home folder; set {variable} to a folder that can be written"
        ) from None
    return folder


def check_home(variable: str, *others: str) -> None:
    """Find out whether a library that keeps files in the home folder has a place for them.

    Args:
        variable: names another place for the library, as do ``others``.

    Raises:
        OptionError: there is no home folder, and no variable is set.
    """
    if not any(map(os.environ.get, (variable, *others))):
        own_folder(variable, lambda: "~")


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths are the same file, however they are spelled, or would be once written."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        # One of them at least does not exist.
        return os.path.realpath(one) == os.path.realpath(other)


def short_name(name: str, ending: str, folder: Path) -> str:
    """``name`` with ``ending``, cut between characters where ``folder`` takes no name so long."""
    try:
        limit = os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        limit = 255
    room = limit - len(os.fsencode(ending))
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return f"{name}{ending}"


def cache_folder() -> Path:
    """Where converted models are kept: ``MLX_AUDIO_TURBO_CACHE`` or the user's cache.

    Raises:
        OptionError: the variable is not set and this user has no home folder.
    """
    return own_folder(
        "MLX_AUDIO_TURBO_CACHE", lambda: platformdirs.user_cache_dir("mlx_audio_turbo")
    )
