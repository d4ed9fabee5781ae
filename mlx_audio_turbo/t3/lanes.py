"""How many threads take a step, chosen by how long steps took."""

from __future__ import annotations

EVERY = 48
"""Steps after which the other number of threads is tried for one step."""


class Lanes:
    """One thread or all: whichever is faster at the moment.

    Where other programs hold the cores, threads that share a step wait for one another, and one
    thread alone is faster. The result of a step does not depend on the number.
    """

    def __init__(self, most: int):
        self.most = most
        self._seconds: dict[int, float] = {}
        self._since = 0

    def count(self) -> int:
        """The number of threads for the next step."""
        one, all = self._seconds.get(1), self._seconds.get(self.most)
        if self.most == 1 or all is None:
            return self.most
        best = 1 if one is not None and one < all else self.most
        if self._since >= EVERY:
            return self.most + 1 - best
        return best

    def took(self, count: int, seconds: float) -> None:
        """Note the time of a step of so many threads."""
        before = self._seconds.get(count, seconds)
        tried = self._since >= EVERY
        # A single try tells as much as several steps of the other number.
        self._seconds[count] = seconds if tried else 0.7 * before + 0.3 * seconds
        self._since = 0 if tried else self._since + 1
