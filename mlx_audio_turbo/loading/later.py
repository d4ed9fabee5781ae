"""Networks that few runs need: read from the folder when they are used."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

import mlx.nn as nn

N = TypeVar("N", bound=nn.Module)


class Later(Generic[N]):
    """A network that is in memory while somebody uses it.

    read: makes it, from the folder's file.
    """

    def __init__(self, read: Callable[[], N]):
        self._read = read
        self._held: Callable[[], N | None] = lambda: None

    def get(self) -> N:
        """The network; it leaves memory when the last who got it drops it.

        Raises:
            ModelFolderError: its tensors are not finite.
        """
        network = self._held()
        if network is None:
            network = self._read()
            self._held = weakref.ref(network)
        return network
