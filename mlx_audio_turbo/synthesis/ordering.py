"""Pieces of many tasks, given in the order of the tasks as soon as it allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scheduler import Piece, Task


class InOrder:
    """Holds pieces back until all that comes before them is complete."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, tuple[int, ...]], list[Piece]] = {}
        self._complete: set[tuple[int, tuple[int, ...]]] = set()

    def begin(self, task: Task) -> None:
        self._open.setdefault(task.place, [])

    def split(self, task: Task, parts: list[Task]) -> None:
        """``parts`` take the place of ``task``."""
        del self._open[task.place]
        for part in parts:
            self.begin(part)

    def give(self, piece: Piece) -> Iterator[Piece]:
        self._open[piece.task.place].append(piece)
        if piece.last:
            self._complete.add(piece.task.place)
        for place in sorted(self._open):
            yield from self._open[place]
            self._open[place] = []
            if place not in self._complete:
                return
            del self._open[place]
            self._complete.remove(place)
