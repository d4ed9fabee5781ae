"""Files that are there whole or not at all.

Replacing is for plain files. A link is followed, an existing file keeps its mode and owner, and a
pipe or a character device is written to as it stands.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_unfinished: set[Path] = set()


class KeptElsewhere(OSError):
    """``path`` could not be written; what was to be there is whole in the file ``kept``."""

    def __init__(self, error: OSError, path: Path, kept: Path):
        super().__init__(error.errno, error.strerror or str(error), str(path))
        self.kept = kept


@contextmanager
def replacing(path: Path, *, durable: bool = False, keep: bool = False) -> Iterator[Path]:
    """Give a temporary sibling with the same suffix; it takes the place of ``path`` at the end.

    On any error the sibling is removed and ``path`` stays as it was.

    Args:
        durable: return only when the disk holds the file.
        keep: where the sibling is finished and cannot take the place of ``path``, give it another
            name and raise :class:`KeptElsewhere`.
    """
    if is_stream(path):
        with _spooled(path) as part:
            yield part
        return
    target = _target(path)
    sibling = _sibling(target)
    _unfinished.add(sibling)
    try:
        yield sibling
        if durable:
            flush(sibling)
        try:
            _take_place(sibling, target)
        except OSError as error:
            if keep and (kept := _rescued(sibling, target)):
                raise KeptElsewhere(error, path, kept) from error
            raise
        if durable:
            flush(target.parent)
    except BaseException:
        with suppress(OSError):
            sibling.unlink()
        raise
    finally:
        _unfinished.discard(sibling)


def discard_unfinished() -> None:
    """Remove the siblings of all files that are being written: for a process that ends at once."""
    for sibling in list(_unfinished):
        with suppress(OSError):
            sibling.unlink()


def check_place(path: Path) -> None:
    """Find out before long work whether :func:`replacing` could write ``path``.

    The names that would be used are tried in a temporary folder beside it.

    Raises:
        OSError: it could not; ``strerror`` says why.
    """
    status = _standing(path)
    if status is not None:
        _check_standing(path, status)
        if is_stream(path):
            return
    target = _target(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {target.parent}", str(path))
    probe = Path(tempfile.mkdtemp(prefix=".", dir=target.parent))
    try:
        for name in (target.name, _sibling(target).name):
            (probe / name).touch()
            (probe / name).unlink()
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def is_stream(path: Path) -> bool:
    """Whether a pipe or a character device stands at ``path``."""
    status = _standing(path)
    return status is not None and (stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode))


def flush(path: Path) -> None:
    """Return when the disk holds the file or folder ``path``."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot flush a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _standing(path: Path) -> os.stat_result | None:
    """What is at ``path``, links followed; None where there is nothing."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_standing(path: Path, status: os.stat_result) -> None:
    kinds = (
        (stat.S_ISDIR, "it is a folder"),
        (stat.S_ISBLK, "it is a disk"),
        (stat.S_ISSOCK, "it is a socket; --output - writes to a pipe"),
    )
    for is_kind, reason in kinds:
        if is_kind(status.st_mode):
            raise OSError(errno.EINVAL, reason, str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected", str(path))


def _target(path: Path) -> Path:
    """The file that ``path`` is or links to."""
    _standing(path)  # raises where links go round in a circle
    return Path(os.path.realpath(path))


def _sibling(path: Path) -> Path:
    # The whole name need not fit in; only the suffix matters, to those who read it.
    return path.with_name(f".{secrets.token_hex(6)}{path.suffix}")


def _take_place(sibling: Path, target: Path) -> None:
    status = _standing(target)
    if status is None:
        os.replace(sibling, target)
        return
    _check_standing(target, status)
    with suppress(OSError):  # only root may give a file to another user
        os.chown(sibling, status.st_uid, status.st_gid)
    os.chmod(sibling, stat.S_IMODE(status.st_mode))
    try:
        os.replace(sibling, target)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV, errno.EPERM):
            raise
        # A file that is mounted by itself, as containers do, cannot be replaced but be written.
        shutil.copyfile(sibling, target)
        sibling.unlink()


def _rescued(sibling: Path, target: Path) -> Path | None:
    """The file that keeps what is in ``sibling``, under a name and in a folder that work."""
    if not sibling.is_file():
        return None
    name = f"speech-{secrets.token_hex(4)}{target.suffix}"
    for folder in (target.parent, Path.cwd(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            shutil.move(sibling, folder / name)
            return folder / name
    return None


@contextmanager
def _spooled(path: Path) -> Iterator[Path]:
    """A temporary file whose content goes into the pipe or device ``path`` at the end."""
    handle, name = tempfile.mkstemp(suffix=path.suffix)
    os.close(handle)
    part = Path(name)
    _unfinished.add(part)
    try:
        yield part
        with open(part, "rb") as source, open(path, "wb") as out:
            shutil.copyfileobj(source, out)
    finally:
        with suppress(OSError):
            part.unlink()
        _unfinished.discard(part)
