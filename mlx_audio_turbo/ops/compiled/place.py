"""The folder where compiled code is kept."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path

import platformdirs

from ...errors import OptionError
from ...files.paths import own_folder

logger = logging.getLogger("mlx_audio_turbo")

CACHE = "NUMBA_CACHE_DIR"
"""Numba's own variable for where compiled code is kept."""
NAME = re.compile(r"kernels-[0-9a-f]{16}")
DAY = 86400.0
UNUSED_DAYS = 30
"""After so many days the code of another version is removed."""


@cache
def folder() -> Path | None:
    """Where compiled code is kept; None where no folder can be written.

    Numba looks at the file of a kernel alone to see whether its code is still right. A kernel is
    made of other files too, hence the digest.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    try:
        base = own_folder(CACHE, lambda: platformdirs.user_cache_dir("mlx_audio_turbo"))
        found = base / f"kernels-{digest.hexdigest()[:16]}"
        fresh = not found.exists()
        found.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=found):
            pass
        if fresh or found.stat().st_mtime < time.time() - DAY:
            # Its own time is that of its last use, to a day.
            os.utime(found)
            _remove_unused(base, found)
    except (OSError, OptionError) as error:
        logger.info(f"compiled code is not kept: {error}")
        return None
    return found


def _remove_unused(base: Path, used: Path) -> None:
    """Remove the code of other versions that no process has read or written for a month.

    A process that is about to use it compiles again.
    """
    for other in base.iterdir():
        if other == used or not NAME.fullmatch(other.name) or other.is_symlink():
            continue
        if _last_use(other) < time.time() - UNUSED_DAYS * DAY:
            shutil.rmtree(other, ignore_errors=True)


def _last_use(path: Path) -> float:
    """The time of the last use of a folder, by its own and its files' times; now if unknown."""
    try:
        # A folder that is looked into has been read, so that its own time of reading tells nothing.
        times = [path.stat().st_mtime]
        for each in path.rglob("*"):
            status = each.stat()
            times += [status.st_mtime, 0.0 if each.is_dir() else status.st_atime]
    except OSError:
        return time.time()
    return max(times)
