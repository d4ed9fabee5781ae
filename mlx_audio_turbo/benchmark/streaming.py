"""The public ways to speak: whole and in chunks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

from ..loading.folder import LoadedModel
from ..models.load import model_class
from ..synthesis import scheduler
from ..synthesis.engine import Engine, default_cache_limit
from ..t3.decoder import Decoder
from .measure import Clock, voice_of
from .workload import TEXT, Workload


@contextmanager
def endless(loaded: LoadedModel) -> Iterator[Any]:
    """The public model without its stop token, so that lengths are fixed.

    ``loaded`` must have spoken before (``runs.warm_up``).
    """
    engine = Engine(cache_limit=default_cache_limit())
    # In the decoder: logits and their number stay those of the model.
    with mock.patch.object(scheduler, "Decoder", partial(Decoder, stop=False)):
        try:
            yield model_class(loaded.folder)(loaded, engine)
        finally:
            engine.close()


def fixed_length(loaded: LoadedModel, utterance: Workload) -> dict[str, Any]:
    """Options with which an endless model speaks exactly this utterance."""
    return {
        "voice": voice_of(utterance, loaded.family),
        "max_tokens": utterance.decoded,
        "watchdog": None,
        "seed": 1,
    }


def streaming(loaded: LoadedModel, utterance: Workload, *, repeats: int) -> dict[str, float]:
    """The same utterance whole and streamed, in a voice that has spoken before."""
    options, clock, chunks = fixed_length(loaded, utterance), Clock(), 0
    with endless(loaded) as model:
        model.generate(TEXT, voice=options["voice"], seed=1, max_tokens=1)
        for _ in range(repeats):
            with clock.timing("whole"):
                speech = model.generate(TEXT, **options)
            assert speech.duration == utterance.seconds, speech.duration
            started, chunks = time.perf_counter(), 0
            for _ in model.stream(TEXT, **options):
                if not chunks:
                    clock.times["first audio"].append(time.perf_counter() - started)
                chunks += 1
            clock.times["streamed"].append(time.perf_counter() - started)
    first, streamed, whole = (median(clock.times[n]) for n in ("first audio", "streamed", "whole"))
    return {"first_audio": first, "streamed": streamed, "whole": whole, "chunks": chunks}
