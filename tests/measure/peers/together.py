"""What only this comparison measures: several texts at once, and late chunks of a stream."""

from __future__ import annotations

import time

import mlx.core as mx

from mlx_audio_turbo.benchmark.measure import Clock, prefix_of, voice_of
from mlx_audio_turbo.benchmark.streaming import endless, fixed_length
from mlx_audio_turbo.benchmark.workload import TEXT, Workload
from mlx_audio_turbo.loading.folder import LoadedModel
from mlx_audio_turbo.options import ChunkOptions
from mlx_audio_turbo.synthesis.noise import NoiseSource
from mlx_audio_turbo.synthesis.token_to_wav import TokenToWav, tokens_due
from mlx_audio_turbo.t3.decoder import Decoder, Request
from mlx_audio_turbo.t3.turbo import TurboT3


def tokens_together(t3: TurboT3, utterance: Workload, *, rows: int, tokens: int) -> float:
    """Tokens per second of ``rows`` utterances that are decoded together, after the first step."""
    decoder = Decoder(t3, options=utterance.sampling, stop=False)
    prefix = prefix_of(t3, utterance)
    for row in range(rows):
        decoder.add(
            Request(
                id=row,
                text_ids=mx.array(utterance.text_ids),
                prefix=prefix,
                key=mx.random.key(row),
                max_tokens=tokens,
            )
        )
    decoder.step()
    started, sampled = time.perf_counter(), 0
    for _ in range(tokens - 1):
        sampled += sum(token is not None for _, token in decoder.step())
    return sampled / (time.perf_counter() - started)


def together(loaded: LoadedModel, utterance: Workload, *, rows: int = 8) -> float:
    """The time of ``rows`` such utterances spoken together, over that of one after another."""
    options, clock = fixed_length(loaded, utterance), Clock()
    with endless(loaded) as model:
        model.generate(TEXT, voice=options["voice"], seed=1, max_tokens=1)
        for batch_size in (rows, 1):
            with clock.timing(str(batch_size)):
                speeches = list(
                    model.generate_batch([TEXT] * rows, batch_size=batch_size, **options)
                )
            assert [speech.duration for speech in speeches] == [utterance.seconds] * rows
    return clock.times[str(rows)][0] / clock.times["1"][0]


def chunk_seconds(loaded: LoadedModel, utterance: Workload) -> list[float]:
    """What rendering each chunk of the stream takes, without the tokens."""
    options = ChunkOptions()
    seconds: list[float] = []
    renderer = TokenToWav(
        loaded.networks.s3gen,
        voice_of(utterance, loaded.family),
        NoiseSource(mx.random.key(1)),
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


def chunk_growth(loaded: LoadedModel, utterance: Workload) -> float:
    """The utterance's last chunk of full size, over its first one.

    The two give equally much audio; the last chunk of all may give less.
    """
    times = chunk_seconds(loaded, utterance)
    return times[-2] / times[len(ChunkOptions().sizes) - 1]
