"""Speech that comes in chunks: how soon the first is there, and what each costs."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import mlx.core as mx

from ..config import CLOSING_SILENCE, STOP_SPEECH
from ..engine import Engine
from ..loading import LoadedModel
from ..noise import Draws
from ..pipeline import CACHE_LIMIT, ChatterboxTurbo
from ..rendering import ChunkOptions, Renderer
from .measure import Clock, voice_of
from .workload import TEXT, Workload


def streaming(loaded: LoadedModel, utterance: Workload, *, repeats: int) -> dict[str, float | int]:
    """The same utterance through the public way: whole, and streamed."""
    bias = loaded.networks.t3.speech_head.bias
    # A fixed length: the stop token is never drawn, and nobody looks for speech run astray.
    loaded.networks.t3.speech_head.bias = mx.where(mx.arange(bias.size) == STOP_SPEECH, -1e9, bias)
    mx.eval(loaded.networks.t3.speech_head.bias)
    model = ChatterboxTurbo(loaded, Engine(cache_limit=CACHE_LIMIT))
    said: dict[str, Any] = {
        "voice": voice_of(utterance, loaded.family),
        "max_tokens": utterance.decoded,
        "watchdog": None,
        "seed": 1,
    }
    clock, chunks = Clock(), 0
    for _ in range(repeats):
        with clock.timing("whole"):
            speech = model.generate(TEXT, **said)
        assert speech.duration == utterance.seconds, speech.duration
        started = time.perf_counter()
        for chunks, _ in enumerate(model.stream(TEXT, **said), start=1):
            if chunks == 1:
                clock.times["first audio"].append(time.perf_counter() - started)
        clock.times["streamed"].append(time.perf_counter() - started)
    loaded.networks.t3.speech_head.bias = bias
    first, streamed, whole = (median(clock.times[n]) for n in ("first audio", "streamed", "whole"))
    return {"first_audio": first, "streamed": streamed, "whole": whole, "chunks": chunks}


def chunk_seconds(loaded: LoadedModel, utterance: Workload) -> list[float]:
    """What rendering each chunk of the stream takes, without the tokens."""
    options, seconds = ChunkOptions(), []
    renderer = Renderer(
        loaded.networks.s3gen,
        voice_of(utterance, loaded.family),
        Draws(mx.random.key(1)),
        window=options.window,
    )
    tokens = utterance.tokens[:-CLOSING_SILENCE].tolist()
    final = False
    while not final:
        due = options.due(len(seconds))
        final = due >= len(tokens)
        started = time.perf_counter()
        list(renderer.push(tokens[:due], final=final))
        seconds.append(time.perf_counter() - started)
    return seconds


def chunk_growth(loaded: LoadedModel, utterance: Workload, *, seconds: float = 10.0) -> float:
    """The utterance's last chunk of full size, over the last that an utterance of ``seconds`` has.

    The two give equally much audio; the last chunk of all may give less.
    """
    options = ChunkOptions()
    within = [i for i in range(1000) if options.due(i) < 25 * seconds - CLOSING_SILENCE]
    times = chunk_seconds(loaded, utterance)
    return times[-2] / times[within[-1]]
