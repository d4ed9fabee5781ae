"""The messages of the commands: lines and progress bars on standard error."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

NO_READER = 141


def leave_unread(stream: TextIO) -> int:
    """Discard what is still written to ``stream``, whose reader has gone; returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return NO_READER


def open_streams() -> None:
    """Make the standard streams safe to use.

    A stream that is closed becomes an empty one. What a terminal or a locale cannot show is written
    as ``\\u0448``, for the result counts and not how it is told.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Terminal:
    """The messages of one run.

    quiet: only errors. verbose: notes too.
    """

    def __init__(self, program: str, *, quiet: bool = False, verbose: bool = False):
        open_streams()
        self.program, self.quiet, self.verbose = program, quiet, verbose
        self._bar: Any = None

    @property
    def bars(self) -> bool:
        """Whether progress bars are shown."""
        return not self.quiet and sys.stderr.isatty()

    def say(self, line: str) -> None:
        """Print a message, unless ``quiet``."""
        if not self.quiet:
            self._write(line)

    def note(self, line: str) -> None:
        """Print a message if ``verbose``."""
        if self.verbose:
            self._write(line)

    def error(self, line: str) -> None:
        """Print an error, as one line."""
        self.close_bar()
        self._write(f"{self.program}: {' '.join(line.split())}")

    def close_bar(self) -> None:
        """Close the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @contextmanager
    def bar(
        self, what: str, *, total: int | None = None, done: int = 0, unit: str = "", scale: int = 1
    ) -> Iterator[Callable[[int], None]]:
        """A progress bar; yields the function to call with each step."""
        if not self.bars:
            yield lambda step: None
            return
        from tqdm import tqdm

        # Standard error as it is now: tqdm would keep that of its first import.
        self._bar = tqdm(
            desc=what,
            total=total,
            initial=done,
            unit=unit,
            unit_scale=bool(scale > 1),
            file=sys.stderr,
            dynamic_ncols=True,
            leave=False,
        )
        try:
            yield self._bar.update
        finally:
            self.close_bar()

    def byte_bar(self, what: str) -> Callable[[int, int], None]:
        """A progress bar of bytes: the function to call with the bytes done and in all."""
        state = {"done": 0}

        def show(done: int, total: int) -> None:
            if not self.bars:
                return
            if self._bar is None:
                state["done"] = 0
                from tqdm import tqdm

                self._bar = tqdm(
                    desc=what,
                    total=total,
                    unit="B",
                    unit_scale=True,
                    file=sys.stderr,
                    dynamic_ncols=True,
                    leave=False,
                )
            self._bar.update(done - state["done"])
            state["done"] = done
            if done >= total:
                self.close_bar()

        return show

    @contextmanager
    def forward_logs(self) -> Iterator[None]:
        """Show the library's warnings, and with ``verbose`` its other messages too."""
        logger, handler = logging.getLogger("mlx_audio_turbo"), _Handler(self)
        handler.setLevel(logging.INFO if self.verbose else logging.WARNING)
        level = logger.level
        logger.addHandler(handler)
        if self.verbose:
            logger.setLevel(logging.INFO)
        shown = warnings.showwarning

        def show(message: Warning | str, *_: object) -> None:
            self.say(str(message))

        warnings.showwarning = show
        try:
            yield
        finally:
            warnings.showwarning = shown
            logger.removeHandler(handler)
            logger.setLevel(level)

    def _write(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)


class _Handler(logging.Handler):
    def __init__(self, terminal: Terminal):
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.say(record.getMessage())
