"""The public ways to speak: whole, in chunks, and many texts together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import mlx.core as mx

from ..config import STOP_SPEECH, TOKENS_PER_SECOND
from ..loading.folder import LoadedModel
from ..models.turbo import ChatterboxTurbo
from ..options import ChunkOptions
from ..synthesis.engine import Engine, default_cache_limit
from ..synthesis.noise import Draws
from ..synthesis.token_to_wav import Renderer, tokens_due
from .measure import Clock, voice_of
from .workload import TEXT, Workload


@contextmanager
def endless(loaded: LoadedModel) -> Iterator[ChatterboxTurbo]:
    """The model as users have it, but that it never draws the stop token: lengths are fixed.

    ``loaded`` must have spoken before (``runs.warm_up``).
    """
    head = loaded.networks.t3.speech_head
    bias = head.bias
    head.bias = mx.where(mx.arange(bias.size) == STOP_SPEECH, -1e9, bias)
    mx.eval(head.bias)
    engine = Engine(cache_limit=default_cache_limit())
    try:
        yield ChatterboxTurbo(loaded, engine)
    finally:
        engine.close()
        head.bias = bias


def _said(loaded: LoadedModel, utterance: Workload) -> dict[str, Any]:
    return {
        "voice": voice_of(utterance, loaded.family),
        "max_tokens": utterance.decoded,
        "watchdog": None,
        "seed": 1,
    }


def streaming(loaded: LoadedModel, utterance: Workload, *, repeats: int) -> dict[str, float]:
    """The same utterance whole and streamed, in a voice that has spoken before."""
    said, clock, chunks = _said(loaded, utterance), Clock(), 0
    with endless(loaded) as model:
        model.generate(TEXT, voice=said["voice"], seed=1, max_tokens=1)
        for _ in range(repeats):
            with clock.timing("whole"):
                speech = model.generate(TEXT, **said)
            assert speech.duration == utterance.seconds, speech.duration
            started, chunks = time.perf_counter(), 0
            for _ in model.stream(TEXT, **said):
                if not chunks:
                    clock.times["first audio"].append(time.perf_counter() - started)
                chunks += 1
            clock.times["streamed"].append(time.perf_counter() - started)
    first, streamed, whole = (median(clock.times[n]) for n in ("first audio", "streamed", "whole"))
    return {"first_audio": first, "streamed": streamed, "whole": whole, "chunks": chunks}


def together(loaded: LoadedModel, utterance: Workload, *, rows: int = 8) -> float:
    """The time of ``rows`` such utterances spoken together, over that of one after another."""
    said, clock = _said(loaded, utterance), Clock()
    with endless(loaded) as model:
        model.generate(TEXT, voice=said["voice"], seed=1, max_tokens=1)
        for batch_size in (rows, 1):
            with clock.timing(str(batch_size)):
                speeches = list(model.generate_batch([TEXT] * rows, batch_size=batch_size, **said))
            assert [speech.duration for speech in speeches] == [utterance.seconds] * rows
    return clock.times[str(rows)][0] / clock.times["1"][0]


def chunk_seconds(loaded: LoadedModel, utterance: Workload) -> list[float]:
    """What rendering each chunk of the stream takes, without the tokens."""
    options = ChunkOptions()
    seconds: list[float] = []
    renderer = Renderer(
        loaded.networks.s3gen,
        voice_of(utterance, loaded.family),
        Draws(mx.random.key(1)),
        loaded.config.rendering,
        window=options.window,
    )
    tokens = utterance.tokens[: utterance.decoded].tolist()
    final = False
    while not final:
        due = tokens_due(len(seconds), options)
        final = due >= len(tokens)
        started = time.perf_counter()
        list(renderer.push(tokens[:due], final=final))
        seconds.append(time.perf_counter() - started)
    return seconds


def chunk_growth(loaded: LoadedModel, utterance: Workload, *, seconds: float = 10.0) -> float:
    """The utterance's last chunk of full size, over the last that an utterance of ``seconds`` has.

    The two give equally much audio; the last chunk of all may give less.
    """
    options, times = ChunkOptions(), chunk_seconds(loaded, utterance)
    tokens = TOKENS_PER_SECOND * seconds - utterance.closing_silence
    whole = [chunk for chunk in range(len(times)) if tokens_due(chunk, options) < tokens]
    return times[-2] / times[whole[-1]]
