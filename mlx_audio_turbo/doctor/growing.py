"""Utterances of growing length through the whole synthesis, at the test size.

Every length has shapes of its own. Where a back end compiles or plans by shape, time and memory
must not grow with the number of lengths.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from unittest import mock

import mlx.core as mx
import numpy as np

from ..config import SPEECH_CODES
from ..loading.networks import LISTENERS, Networks
from ..options import SamplingOptions
from ..presets import TINY
from ..synthesis.noise import NoiseSource
from ..synthesis.token_to_wav import TokenToWav
from ..t3.decoder import Decoder, Request
from ..t3.interface import Condition, prefill_prefix
from ..voice import Voice
from .seeded import fill, ids, spread

UTTERANCES = 40
FIRST, STEP = 6, 7
"""Speech tokens of the first utterance, and how many more each next one has."""
PROMPT = 30
DECODED = 12
"""Tokens that T3 samples for each utterance, after a text that grows by one token."""


@dataclass(frozen=True)
class Growth:
    """What 40 utterances took.

    seconds: of each utterance.
    per_token: median seconds per token of the last ten over that of ten in the middle.
    active: bytes of live arrays after all, less those after the first ten.
    peak: bytes of the largest use.
    shapes: distinct shapes of convolutions and attentions that MLX was given.
    finite: whether every sample was.
    """

    seconds: tuple[float, ...]
    per_token: float
    active: int
    peak: int
    shapes: int
    finite: bool


def grow(utterances: int = UTTERANCES, *, dtype: mx.Dtype = mx.float32) -> Growth:
    """Decode and render utterances of growing length; the vocoder computes in float32."""
    networks = Networks(TINY, missing=LISTENERS)
    fill(networks, "growing", dtype)
    fill(networks.s3gen.mel2wav, "growing.s3gen.mel2wav")
    voice = _voice()
    prefix = prefill_prefix(
        networks.t3,
        Condition(mx.array(voice.speaker_embedding)[None], mx.array(voice.t3_prompt_tokens)[None]),
    )
    seconds, finite, active = [], True, 0
    mx.reset_peak_memory()
    with counting_shapes() as shapes:
        for number in range(utterances):
            started = time.perf_counter()
            decoder = Decoder(networks.t3, options=SamplingOptions(), stop=False)
            text = mx.array(ids("text", 5 + number, below=TINY.t3.text_vocabulary))
            key = mx.random.key(number)
            decoder.add(Request(number, text, prefix, key, max_tokens=DECODED))
            while any(token is not None for _, token in decoder.step()):
                pass
            renderer = TokenToWav(networks.s3gen, voice, NoiseSource(key), TINY.rendering)
            tokens = ids("tokens", FIRST + STEP * number, below=SPEECH_CODES).tolist()
            finite &= all(np.isfinite(block).all() for block in renderer.push(tokens, final=True))
            seconds.append(time.perf_counter() - started)
            if number == 9:
                active = mx.get_active_memory()
    rates = [each / (FIRST + STEP * number) for number, each in enumerate(seconds)]
    half = max(1, utterances // 2)
    return Growth(
        seconds=tuple(seconds),
        per_token=median(rates[-10:]) / median(rates[half - 10 : half] or rates[:half]),
        active=max(0, mx.get_active_memory() - active) if active else 0,
        peak=mx.get_peak_memory(),
        shapes=len(shapes),
        finite=bool(finite),
    )


def _voice() -> Voice:
    speaker = spread("speaker", TINY.t3.speaker_embedding)
    return Voice(
        speaker_embedding=speaker / np.linalg.norm(speaker),
        t3_prompt_tokens=ids("prompt", PROMPT, below=SPEECH_CODES),
        s3gen_prompt_tokens=ids("prompt", PROMPT, below=SPEECH_CODES),
        s3gen_prompt_mel=spread("prompt mel", 2 * PROMPT, TINY.s3gen.mels) * 2 - 5,
        x_vector=spread("x-vector", TINY.s3gen.speaker_embedding),
        family="doctor",
    )


@contextmanager
def counting_shapes() -> Iterator[set[tuple[object, ...]]]:
    """While it is open, collect the distinct shapes that convolutions and attentions are given."""
    seen: set[tuple[object, ...]] = set()

    def counted(name: str, original: object) -> object:
        def call(*args: object, **kwargs: object) -> object:
            shapes = (arg.shape for arg in (*args, *kwargs.values()) if isinstance(arg, mx.array))
            seen.add((name, *shapes))
            return original(*args, **kwargs)  # type: ignore[operator]

        return call

    with ExitStack() as stack:
        for owner, name in (
            (mx, "conv1d"),
            (mx, "conv2d"),
            (mx, "conv_general"),
            (mx, "conv_transpose1d"),
            (mx.fast, "scaled_dot_product_attention"),
        ):
            original = getattr(owner, name)
            stack.enter_context(mock.patch.object(owner, name, counted(name, original)))
        yield seen
