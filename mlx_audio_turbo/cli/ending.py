"""How the work of a command ends: the exit code, and one line of message where it failed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from ..errors import TurboError
from .terminal import Terminal, leave_unread

UNEXPECTED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def flush_output() -> None:
    """Write what standard output still holds.

    The interpreter would write it after the command has ended, where a failure cannot be handled.

    Raises:
        OSError: it cannot be written, and is discarded.
    """
    try:
        sys.stdout.flush()
    except OSError:
        leave_unread(sys.stdout)
        raise


def user_error_code(
    error: BaseException, terminal: Terminal, *, kept: Callable[[], str] = str
) -> int | None:
    """The exit code of an error that a user can correct, after its message; None of any other.

    Args:
        kept: gives what remains of the work, as the end of a sentence.
    """
    if isinstance(error, BrokenPipeError):
        return leave_unread(sys.stdout)
    if isinstance(error, TurboError):
        message = str(error)
    elif isinstance(error, OSError):
        with suppress(OSError):
            flush_output()
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
    elif isinstance(error, MemoryError):
        message = "there is not enough memory"
    else:
        return None
    terminal.error(f"{message}{kept()}")
    return USAGE


def run_here(program: str, work: Callable[[], int | None]) -> int:
    """Call ``work`` on this thread and give the exit code: its own, or that of its error.

    For a command without long steps inside MLX; :func:`cli.process.run` is for the others.
    """
    terminal = Terminal(program)
    try:
        code = work() or 0
        flush_output()
        return code
    except KeyboardInterrupt:
        terminal.error("interrupted")
        return INTERRUPTED
    except Exception as error:
        code = user_error_code(error, terminal)
        if code is None:
            raise
        return code
