"""Chunks that play without a gap, by how fast each model speaks on this machine."""

from __future__ import annotations

import logging
import threading
from weakref import WeakKeyDictionary

from ..errors import OptionError
from ..models.base import Model
from ..options import ChunkOptions
from ..voice import Voice

log = logging.getLogger("mlx_audio_turbo")


class SteadyChunks:
    """Measures each model once, with the first voice that it speaks in.

    A model that is too slow to be heard while it speaks keeps the usual chunks, and the log says
    so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: WeakKeyDictionary[Model, ChunkOptions] = WeakKeyDictionary()

    def of(self, model: Model, voice: Voice | None) -> ChunkOptions:
        """The chunks of a model; the first call for it takes a few seconds."""
        with self._lock:
            if model not in self._found:
                self._found[model] = _measured(model, voice)
            return self._found[model]


def _measured(model: Model, voice: Voice | None) -> ChunkOptions:
    pace = model.measure_pace(voice)
    try:
        chunks = pace.chunks()
    except OptionError as error:
        log.warning("streams will have gaps: %s", error)
        return ChunkOptions()
    log.info("one second of speech takes %.2f s: %s", pace.real_time_factor, chunks)
    return chunks
