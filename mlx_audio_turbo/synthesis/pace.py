"""How fast a model speaks on this machine, and the chunks that play there without a gap."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import mlx.core as mx

from ..config import TOKENS_PER_SECOND, RenderingConfig
from ..errors import OptionError
from ..loading.networks import Networks
from ..ops import on_gpu
from ..options import ChunkOptions, SpeakingOptions
from ..t3.decoder import Decoder, Request
from ..t3.interface import Condition, prefill_prefix
from ..voice import Voice
from .noise import NoiseSource
from .token_to_wav import LATENCY_TOKENS, TokenToWav

MARGIN = 1.2
"""How much slower than measured the machine may become before a gap is heard."""
LARGEST = 150
"""Tokens of the largest chunk, 6 s: more saves little, and each is held in memory."""
DECODED = 32
"""Tokens that are decoded to measure one."""
SHORT, LONG = 30, 90
"""Tokens of the two chunks that are rendered to measure one."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a model takes on this machine.

    token: to decode one speech token.
    audio: to render one token more in a chunk.
    chunk: to render a chunk beside that: each computes the prompt and its window again.
    """

    token: float
    audio: float
    chunk: float

    @property
    def real_time_factor(self) -> float:
        """Seconds for one second of speech in large chunks; below 1 is faster than real time."""
        return (self.token + self.audio) * TOKENS_PER_SECOND

    def chunks(self) -> ChunkOptions:
        """The smallest chunks that play without a gap, also where all takes 1.2 times as long.

        Each chunk is made while the one before it plays, and is as large as that allows.

        Raises:
            OptionError: this machine is slower than real time, so that no chunks would do.
        """
        played = 1 / TOKENS_PER_SECOND
        spent, fixed = MARGIN * (self.token + self.audio), MARGIN * self.chunk
        if spent >= played or fixed / (played - spent) > LARGEST:
            raise OptionError(
                f"one second of speech takes {self.real_time_factor:.2f} s here and each chunk "
                f"{self.chunk:.2f} s more, too much to play it while it is made; play it when it "
                "is whole, or take a smaller model"
            )
        size = max(1.0, fixed / (played - spent))
        # A chunk of just this size allows the next one the same size, and no more.
        sizes = [min(LARGEST, int(1.1 * size) + 1)]
        while sizes[-1] < LARGEST:
            next_size = int((sizes[-1] * played - fixed) / spent)
            sizes.append(min(LARGEST, max(sizes[-1], next_size)))
            if sizes[-1] == sizes[-2]:
                break
        return ChunkOptions(sizes=tuple(sizes))


def measure_pace(
    networks: Networks, voice: Voice, rendering: RenderingConfig, options: SpeakingOptions
) -> Pace:
    """Decode some tokens and render some chunks in this voice, and time both."""
    # On a GPU the first round compiles.
    rounds = 2 if on_gpu() else 1
    token = min(_decoding(networks, voice, options) for _ in range(rounds))
    chunks = [_rendering(networks, voice, rendering) for _ in range(rounds)]
    short, long = (min(each) for each in zip(*chunks, strict=True))
    audio = max(0.0, (long - short) / (LONG - SHORT))
    return Pace(token=token, audio=audio, chunk=max(0.0, short - SHORT * audio))


def _decoding(networks: Networks, voice: Voice, options: SpeakingOptions) -> float:
    """Seconds to decode a token."""
    t3 = networks.t3
    condition = Condition(
        speaker=mx.array(voice.speaker_embedding)[None],
        prompt_tokens=mx.array(voice.t3_prompt_tokens)[None],
        exaggeration=options.exaggeration,
    )
    decoder = Decoder(t3, options=options.sampling, stop=False)
    decoder.add(
        Request(
            id=0,
            text_ids=mx.zeros((1,), mx.int32),
            prefix=prefill_prefix(t3, condition),
            key=mx.random.key(0),
            max_tokens=DECODED,
        )
    )
    seconds: list[float] = []
    while len(decoder):
        started = time.perf_counter()
        decoder.step()
        seconds.append(time.perf_counter() - started)
    # The first has the prompt in it.
    return median(seconds[1:])


def _rendering(networks: Networks, voice: Voice, rendering: RenderingConfig) -> Sequence[float]:
    """Seconds to render a chunk of ``SHORT`` tokens, and one of ``LONG``."""
    window = ChunkOptions().window
    noise = NoiseSource(mx.random.key(0))
    renderer = TokenToWav(networks.s3gen, voice, noise, rendering, window=window)
    prompt = voice.s3gen_prompt_tokens.tolist()
    known, seconds = 0, []
    # The first chunk is not timed; it is long enough for the others to have a whole window.
    for more in (window + LATENCY_TOKENS, SHORT, LONG):
        known += more
        tokens = (prompt * (known // len(prompt) + 1))[:known]
        started = time.perf_counter()
        for _ in renderer.push(tokens, final=False):
            pass
        seconds.append(time.perf_counter() - started)
    return seconds[1:]
