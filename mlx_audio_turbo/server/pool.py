"""The models of a server: loaded when first asked for, unloaded when idle."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from anyio import to_thread

from ..models.base import Model
from ..models.load import load_model
from .errors import RequestError
from .settings import OPENAI_MODELS


class ModelPool:
    """Models by name.

    Args:
        names: what ``from_pretrained`` takes: names, folders or Hub ids; the first is the default.
        aliases: further names of them.
        load: makes a model; replaced by tests.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        aliases: Mapping[str, str] | None = None,
        load: Callable[[str], Model] = load_model,
    ):
        self.names = tuple(names)
        self._aliases = dict.fromkeys(OPENAI_MODELS, self.names[0]) | dict(aliases or {})
        self._load = load
        self._loaded: dict[str, Model] = {}
        self._locks = {name: threading.Lock() for name in self.names}
        self._used: dict[str, float] = {}
        self._users: Counter[str] = Counter()

    def find(self, name: str | None) -> str:
        """The served name behind a name of a request.

        Raises:
            RequestError: the server has no such model.
        """
        if name is None:
            return self.names[0]
        found = name if name in self.names else self._aliases.get(name)
        if found not in self.names:
            raise RequestError(
                *(404, "model_not_found"),
                "there is no such model here; see /v1/models",
                param="model",
            )
        return found

    async def get(self, name: str | None) -> Model:
        """The model, loaded if it was not.

        Raises:
            RequestError: the server has no such model.
            TurboError: it cannot be loaded.
        """
        found = self.find(name)
        self._used[found] = time.monotonic()
        return await to_thread.run_sync(self._ready, found)

    def _ready(self, name: str) -> Model:
        with self._locks[name]:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the models in memory."""
        return tuple(self._loaded)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models in memory."""
        return tuple(self._loaded.values())

    @asynccontextmanager
    async def lease(self, name: str | None) -> AsyncIterator[Model]:
        """The model for the time of the block, in which it stays in memory.

        Raises:
            What :meth:`get` raises.
        """
        found = self.find(name)
        self._users[found] += 1
        try:
            yield await self.get(found)
        finally:
            self._users[found] -= 1
            self._used[found] = time.monotonic()

    async def unload_idle(self, seconds: float) -> None:
        """Drop models that nothing used for so long; runs until it is cancelled."""
        while True:
            await asyncio.sleep(min(seconds, 5.0))
            now = time.monotonic()
            for name in self.loaded:
                if not self._users[name] and now - self._used.get(name, now) > seconds:
                    self._loaded.pop(name, None)
