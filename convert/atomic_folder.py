"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.files.atomic import flush
from mlx_audio_turbo.files.lock import WITHOUT_LOCKS

_SUFFIX = "mlx-audio-turbo"
_LEFTOVER = re.compile(rf"\..+\.[0-9a-f]{{8}}\.{_SUFFIX}")


@contextlib.contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Give an empty temporary sibling to fill; at the end it takes the name ``path``.

    On any error the sibling is removed and ``path`` stays as it was. A process that is killed
    leaves at most a hidden sibling, which the next call in the same place removes: it holds no
    lock any more.

    Raises:
        ModelFolderError: ``path`` exists and not ``force``, or its place cannot be written.
    """
    path = Path(os.path.abspath(path))
    if os.path.lexists(path):
        if not force:
            raise ModelFolderError(f"{path} exists; choose another place or add --force")
        if path.is_symlink() or not (path / "config.json").is_file():
            raise ModelFolderError(f"{path} is no model folder; choose another place")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        partial, lock = _locked_sibling(path)
        try:
            yield partial
            _flush(partial)
            if force and path.exists():
                _replace_folder(partial, path)
            else:
                os.rename(partial, path)
            _flush(path.parent, inside=False)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        raise ModelFolderError(
            f"{path} cannot be written ({error.strerror or error}); choose another place"
        ) from None


def sweep(place: Path) -> None:
    """Remove the unfinished folders that killed processes left in ``place``."""
    for leftover in place.iterdir():
        if not _LEFTOVER.fullmatch(leftover.name):
            continue
        with contextlib.suppress(OSError):  # in use, or another sweep was first
            lock = _lock(leftover)
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{_SUFFIX}")


def _locked_sibling(path: Path) -> tuple[Path, int]:
    while True:
        partial = _sibling(path)
        partial.mkdir()
        try:
            return partial, _lock(partial)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process removed it between the two calls
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            # A file system without locks: nothing is removed there.
            return partial, os.open(partial, os.O_RDONLY)


def _lock(folder: Path) -> int:
    """Hold ``folder`` until this handle is closed, at the latest when the process ends.

    Raises:
        BlockingIOError: another process holds it.
        FileNotFoundError: it is gone.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except OSError:
        os.close(handle)
        raise
    return handle


def _flush(folder: Path, *, inside: bool = True) -> None:
    """Write ``folder`` to the disk before it gets its name."""
    for path in (*(folder.iterdir() if inside else ()), folder):
        flush(path)


def _replace_folder(new: Path, path: Path) -> None:
    """``new`` takes the name of ``path``: in one step where the system can exchange two names."""
    if _exchange(new, path):
        return
    old = _sibling(path)
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Whether the system exchanged the two names; there is no moment with one of them absent."""
    here, swap = (-2, 2) if sys.platform == "darwin" else (-100, 2)
    name = "renameatx_np" if sys.platform == "darwin" else "renameat2"
    call = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if call is None:
        return False
    return call(here, os.fsencode(one), here, os.fsencode(other), ctypes.c_uint(swap)) == 0
