"""The decoder's loop for tests: requests in, tokens out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import mlx.core as mx

from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.t3.decoder import Decoder, Request
from mlx_audio_turbo.t3.interface import T3, Cache, Condition, prefill_prefix


def condition(speaker: mx.array, prompt_tokens: mx.array) -> Condition:
    """Of ``speaker`` (S,) and ``prompt_tokens`` (P,)."""
    return Condition(speaker=speaker[None], prompt_tokens=prompt_tokens[None])


def decode(
    model: T3,
    requests: Iterable[Request],
    *,
    options: SamplingOptions | None = None,
    batch_size: int = 1,
    stop: bool = True,
) -> Iterator[tuple[int, int | None]]:
    """(id, token) of up to ``batch_size`` requests at a time, and (id, None) at each end."""
    decoder, waiting = Decoder(model, options=options, stop=stop), iter(requests)
    try:
        while True:
            for request in islice(waiting, batch_size - len(decoder)):
                decoder.add(request)
            if not len(decoder):
                return
            yield from decoder.step()
    finally:
        decoder.close()


def generate(
    model: T3,
    text_ids: mx.array,
    speaker: mx.array,
    prompt_tokens: mx.array,
    *,
    key: mx.array,
    options: SamplingOptions | None = None,
    max_tokens: int = 1000,
    stop: bool = True,
    prefix: Cache | None = None,
) -> Iterator[int]:
    """The tokens of one text; arguments as in :class:`Request` and :func:`condition`."""
    prefix = prefix or prefill_prefix(model, condition(speaker, prompt_tokens))
    request = Request(0, text_ids, prefix, key, max_tokens)
    for _, token in decode(model, [request], options=options, stop=stop):
        if token is not None:
            yield token
