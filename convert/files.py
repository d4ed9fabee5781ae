"""Folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from mlx_audio_turbo.errors import ModelFolderError


@contextlib.contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Give an empty temporary sibling to fill; at the end it takes the name ``path``.

    On any error the sibling is removed and ``path`` stays as it was; a process that is killed
    leaves at most a hidden ``.partial`` folder beside it.

    Raises:
        ModelFolderError: ``path`` exists and not ``force``, or its place cannot be written.
    """
    path = Path(os.path.abspath(path))
    if os.path.lexists(path):
        if not force:
            raise ModelFolderError(f"{path} exists; choose another place or add --force")
        if not (path / "config.json").is_file():
            raise ModelFolderError(f"{path} is no model folder; choose another place")
    partial, old = (
        path.with_name(f".{path.name}.{secrets.token_hex(4)}.{kind}") for kind in ("partial", "old")
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        yield partial
        if force and path.exists():
            _replace_folder(partial, path, old)
        else:
            os.replace(partial, path)
    except OSError as error:
        raise ModelFolderError(
            f"{path} cannot be written ({error.strerror or error}); choose another place"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _replace_folder(new: Path, path: Path, old: Path) -> None:
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
