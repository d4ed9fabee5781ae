"""Runaway generation, found in the speech tokens."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from ..config import TOKENS_PER_SECOND
from ..options import LONGEST_CYCLE, WatchdogOptions


@dataclass(frozen=True)
class Verdict:
    """A stretch of ``length`` tokens from index ``start`` to the newest token.

    ``period``: tokens in the cycle; 1 for a run and for silence.
    """

    kind: Literal["run", "silence", "cycle"]
    start: int
    length: int
    period: int = 1

    def __str__(self) -> str:
        what = {
            "run": "one token repeated",
            "silence": "silence",
            "cycle": f"a cycle of {self.period} tokens repeated",
        }[self.kind]
        return (
            f"{what} for {self.length / TOKENS_PER_SECOND:.1f} s "
            f"from {self.start / TOKENS_PER_SECOND:.1f} s on"
        )


class Watchdog:
    """Watches the speech tokens of one utterance as they are sampled.

    On a verdict the caller ends the utterance at ``verdict.start``, or samples it again with a new
    watchdog. Further tokens of the same stretch give the verdict again.
    """

    def __init__(self, options: WatchdogOptions | None = None) -> None:
        self._options = options or WatchdogOptions()
        self._recent: deque[int] = deque(maxlen=LONGEST_CYCLE)
        # By period: how many tokens in a row equal the one that many before.
        self._repeats = [0] * (LONGEST_CYCLE + 1)
        self._silent = 0
        self._fed = 0

    def feed(self, token: int) -> Verdict | None:
        """Take the next token; gives a verdict where generation has run away, else None."""
        for period in range(1, LONGEST_CYCLE + 1):
            equal = period <= len(self._recent) and self._recent[-period] == token
            self._repeats[period] = self._repeats[period] + 1 if equal else 0
        self._recent.append(token)
        self._fed += 1
        self._silent = self._silent + 1 if token in self._options.silence else 0
        if self._silent > self._options.max_silence:
            return self._verdict("silence", self._silent)
        if self._silent:
            return None
        run = self._repeats[1] + 1
        if run > self._options.max_run:
            return self._verdict("run", run)
        for period in range(2, LONGEST_CYCLE + 1):
            length = self._repeats[period] + period
            if self._repeats[1] < period and length > self._options.max_cycle:
                return self._verdict("cycle", length, period)
        return None

    def _verdict(
        self, kind: Literal["run", "silence", "cycle"], length: int, period: int = 1
    ) -> Verdict:
        return Verdict(kind, self._fed - length, length, period)
