"""Pieces of many tasks, in the order of the tasks."""

from __future__ import annotations

from collections.abc import Iterator

from .tasks import Piece, Task


class InOrder:
    """Holds pieces back until every task before theirs is complete."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, tuple[int, ...]], list[Piece]] = {}
        self._complete: set[tuple[int, tuple[int, ...]]] = set()

    def begin(self, task: Task) -> None:
        """Reserve the position of ``task``. A task that is sampled again keeps its position."""
        self._open.setdefault(task.position, [])

    def split(self, task: Task, parts: list[Task]) -> None:
        """Replace ``task`` by its ``parts``."""
        del self._open[task.position]
        for part in parts:
            self.begin(part)

    def add(self, piece: Piece) -> Iterator[Piece]:
        """Take a piece; gives all pieces whose turn has come."""
        self._open[piece.task.position].append(piece)
        if piece.last:
            self._complete.add(piece.task.position)
        for position in sorted(self._open):
            yield from self._open[position]
            self._open[position] = []
            if position not in self._complete:
                return
            del self._open[position]
            self._complete.remove(position)
