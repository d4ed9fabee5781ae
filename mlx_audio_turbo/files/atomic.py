"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_unfinished: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary sibling with the same suffix; it takes the place of ``path`` at the end.

    On any error the sibling is removed and ``path`` stays as it was.
    """
    sibling = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    _unfinished.add(sibling)
    try:
        yield sibling
        os.replace(sibling, path)
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
