"""A lock on a file that ends with its process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What ``flock`` fails with where files have no locks; on a Mac the second and third differ."""


class Taken(Exception):
    """Another process holds the lock; the message says which."""


class Lock:
    """The lock ``path``, held until :meth:`release` or the end of the process.

    On Linux NFS it holds between machines, on other network file systems perhaps only on one.

    works: False where the file system knows no locks; then nothing is held.
    """

    def __init__(self, path: Path):
        """Take the lock.

        Raises:
            Taken: another process has it.
            OSError: the file cannot be made.
        """
        self.path = path
        self.works = True
        while True:
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(self._handle, 200, 0).decode("utf-8", "replace").strip()
                self._close()
                raise Taken(owner or "process unknown") from None
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    self._close()
                    raise
                self.works = False
                return
            if self._is_current():
                break
            self._close()  # its last holder has removed it meanwhile
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)

    def release(self) -> None:
        """Remove the file and let the lock go."""
        if self._handle is None:
            return
        if self._is_current():
            self.path.unlink()
        self._close()

    def _is_current(self) -> bool:
        assert self._handle is not None
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
