"""How a command ends: always with an exit code and at most one line."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import mlx.core as mx

from ..files import atomic
from .ending import INTERRUPTED, TERMINATED, UNEXPECTED, flush_output, user_error_code
from .terminal import Terminal


class Terminated(BaseException):
    """SIGTERM came."""


def run(terminal: Terminal, work: Callable[[], None], *, kept: Callable[[], str]) -> int:
    """Call ``work`` and give the exit code.

    It runs on a thread of its own, because a signal is only noticed between two steps of Python,
    and one step of a network may take many seconds.

    Args:
        kept: called when the work ends early; what remains of it, as the end of a sentence.
    """
    ends: list[BaseException | None] = []

    def target() -> None:
        try:
            with terminal.forward_logs():
                work()
            flush_output()
        except BaseException as error:
            ends.append(error)
        else:
            ends.append(None)
        finally:
            # MLX aborts the process when a thread's own streams outlive the thread.
            mx.clear_streams()

    thread = threading.Thread(target=target, name="mlx_audio_turbo.command", daemon=True)
    try:
        with _sigterm():
            thread.start()
            while thread.is_alive():
                thread.join(0.5)
    except (KeyboardInterrupt, Terminated) as signalled:
        terminated = isinstance(signalled, Terminated)
        _leave(terminal, "terminated" if terminated else "interrupted", kept)
        os._exit(TERMINATED if terminated else INTERRUPTED)
    return _code(ends[0], terminal, kept)


def _leave(terminal: Terminal, what: str, kept: Callable[[], str]) -> None:
    """Clean up while the work's thread still runs; it ends with the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atomic.discard_unfinished()
    terminal.error(what + kept())
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _code(error: BaseException | None, terminal: Terminal, kept: Callable[[], str]) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else UNEXPECTED
    if terminal.verbose and not isinstance(error, BrokenPipeError):
        traceback.print_exception(error)
    code = user_error_code(error, terminal, kept=kept)
    if code is not None:
        return code
    terminal.error(
        f"unexpected error: {type(error).__name__}: {error}{kept()} (--verbose shows where)"
    )
    return UNEXPECTED


@contextmanager
def _sigterm() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
