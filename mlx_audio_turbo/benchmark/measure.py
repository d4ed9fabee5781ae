"""Our own times, stage by stage. Every figure is a list of seconds, one for each repeat."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from unittest import mock

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..audio.resample import resample_sinc, resample_soxr
from ..config import ENCODER_SAMPLE_RATE, SAMPLE_RATE
from ..encoders import features
from ..loading.folder import LoadedModel
from ..s3gen.model import TokenToMel
from ..synthesis.noise import NoiseSource
from ..synthesis.token_to_wav import TokenToWav
from ..t3.decoder import Decoder, Request
from ..t3.interface import T3, Cache, Condition, prefill_prefix
from ..t3.turbo import TurboT3
from ..voice import Voice
from . import workload as work
from .machine import Primitives

if TYPE_CHECKING:
    from ..t3.original import OriginalT3  # imports mlx-lm

Times = dict[str, list[float]]
PROMPT_SAMPLES = work.PROMPT_SECONDS * SAMPLE_RATE


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.times: Times = defaultdict(list)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add what happens inside to ``name``."""
        started = time.perf_counter()
        yield
        self.times[name].append(time.perf_counter() - started)

    @contextmanager
    def watching(self, owner: type, method: str, name: str) -> Iterator[None]:
        """Evaluate and time every call of ``owner.method``; of a generator, the last value."""
        original = getattr(owner, method)

        def timed(*args: object, **kwargs: object) -> object:
            with self.timing(name):
                result = original(*args, **kwargs)
                if not isinstance(result, Iterator):
                    mx.eval(result)
                    return result
                value = None
                for value in result:
                    mx.eval(value)
                return iter([value])

        with mock.patch.object(owner, method, timed):
            yield


def voice_of(utterance: work.Workload, family: str) -> Voice:
    """The workload's random voice as a :class:`Voice`."""
    return Voice(
        speaker_embedding=utterance.speaker_embedding,
        t3_prompt_tokens=utterance.t3_prompt_tokens,
        s3gen_prompt_tokens=utterance.prompt_tokens,
        s3gen_prompt_mel=utterance.prompt_mel,
        x_vector=utterance.x_vector,
        family=family,
    )


def voice_encoding(loaded: LoadedModel) -> Times:
    """A clip of 15 s to a voice, part by part, without the networks that the folder lacks."""
    networks, clock = loaded.networks, Clock()
    s3_tokenizer = loaded.s3_tokenizer.get() if loaded.s3_tokenizer is not None else None
    with clock.timing("features"):
        samples = work.clip()
        prompt = samples[:PROMPT_SAMPLES]
        whole_16k = resample_soxr(samples, SAMPLE_RATE, ENCODER_SAMPLE_RATE)
        prompt_16k = resample_sinc(prompt, SAMPLE_RATE, ENCODER_SAMPLE_RATE)
        features.prompt_mel(prompt)
        log_mels = [features.s3_log_mel(prompt_16k), features.s3_log_mel(whole_16k)]
        fbank = mx.array(features.kaldi_fbank(prompt_16k))[None]
        voice_mel = mx.array(features.voice_mel(whole_16k))
    if s3_tokenizer is not None:
        with clock.timing("S3 tokenizer"):
            for log_mel in log_mels:
                mx.eval(s3_tokenizer(mx.array(log_mel)[None]))
    if "ve" not in loaded.missing:
        with clock.timing("VoiceEncoder"):
            mx.eval(networks.ve.embed(voice_mel))
    if "s3gen.speaker_encoder" not in loaded.missing:
        with clock.timing("CAM++"):
            mx.eval(networks.s3gen.speaker_encoder(fbank))
    return clock.times


def condition_of(utterance: work.Workload) -> Condition:
    """The workload's random voice as T3 takes it."""
    return Condition(
        speaker=mx.array(utterance.speaker_embedding)[None],
        prompt_tokens=mx.array(utterance.t3_prompt_tokens)[None],
    )


def prefix_of(t3: T3, utterance: work.Workload) -> Cache:
    """The prefix that all sentences of the voice share, evaluated."""
    prefix = prefill_prefix(t3, condition_of(utterance))
    mx.eval(prefix.arrays)
    return prefix


def decode(
    t3: T3,
    utterance: work.Workload,
    *,
    tokens: int | None = None,
    prefix: Cache | None = None,
) -> Times:
    """Decode tokens without the stop token: seconds to the first, and for those after it.

    Args:
        tokens: how many; by default those of the utterance.
        prefix: of the voice, if an earlier sentence computed it.
    """
    started = time.perf_counter()
    request = Request(
        id=0,
        text_ids=mx.array(utterance.text_ids),
        prefix=prefix or prefix_of(t3, utterance),
        key=mx.random.key(0),
        max_tokens=tokens or utterance.decoded,
    )
    decoder = Decoder(t3, options=utterance.sampling, stop=False)
    decoder.add(request)
    first, sampled = 0.0, 0
    while (token := dict(decoder.step()).get(0)) is not None:
        first, sampled = first or time.perf_counter(), sampled + 1
        if sampled == request.max_tokens:
            break
    seconds = time.perf_counter() - first
    assert sampled == request.max_tokens, f"{sampled} tokens, the last {token}"
    return {"T3 prefill": [first - started], "T3 decode": [seconds]}


def second_sentence(t3: T3, utterance: work.Workload) -> Times:
    """Seconds to the first token of a voice's first sentence, and of its second."""
    started = time.perf_counter()
    prefix = prefix_of(t3, utterance)
    spent = time.perf_counter() - started
    first = decode(t3, utterance, tokens=1, prefix=prefix)["T3 prefill"][0]
    second = decode(t3, utterance, tokens=1, prefix=prefix)["T3 prefill"]
    return {"first": [spent + first], "second": second}


def render(loaded: LoadedModel, utterance: work.Workload, *, inside: bool = False) -> Times:
    """Tokens to samples.

    Args:
        inside: time the encoder and each step of the solver too.
    """
    clock = Clock()
    voice = voice_of(utterance, loaded.family)
    renderer = TokenToWav(
        loaded.networks.s3gen, voice, NoiseSource(mx.random.key(1)), loaded.config.rendering
    )
    # The closing silence is the renderer's own.
    tokens = utterance.tokens[: utterance.decoded].tolist()
    with ExitStack() as stack:
        stack.enter_context(clock.watching(TokenToMel, "__call__", "S3Gen"))
        if inside:
            stack.enter_context(clock.watching(TokenToMel, "encode", "encoder"))
            stack.enter_context(clock.watching(TokenToMel, "velocity", "estimator step"))
        started = time.perf_counter()
        samples = np.concatenate(list(renderer.push(tokens, final=True)))
        seconds = time.perf_counter() - started
    assert len(samples) == round(utterance.seconds * SAMPLE_RATE)
    return {**clock.times, "HiFT": [seconds - sum(clock.times["S3Gen"])]}


def utterance_times(loaded: LoadedModel, utterance: work.Workload, **options: bool) -> Times:
    """One utterance from text ids and a voice to samples, by stage; ``whole`` is their sum."""
    t3 = decode(loaded.networks.t3, utterance)
    audio = render(loaded, utterance, **options)
    whole = sum(t3["T3 prefill"] + t3["T3 decode"] + audio["S3Gen"] + audio["HiFT"])
    return {**t3, **audio, "whole": [whole]}


def repeated(measure: Callable[[], Times], repeats: int) -> Times:
    """The times of ``repeats`` calls of ``measure``."""
    times: Times = defaultdict(list)
    for _ in range(repeats):
        for name, seconds in measure().items():
            times[name] += seconds
    return dict(times)


def primitives_per_step(t3: T3, utterance: work.Workload, *, steps: int = 4) -> int:
    """Primitives in the graph of one step of decoding, the last of a few; 0 without a graph."""
    counter = Primitives()
    with counter.counting():
        decode(t3, utterance, tokens=steps)
    return counter.counts[-1] if counter.counts else 0


def weight_bytes_per_step(t3: TurboT3 | OriginalT3) -> int:
    """Bytes of weights that a step of decoding reads: the blocks and the head."""
    tree = {**t3.tfmr.parameters(), "head": t3.speech_head.parameters()}
    tree.pop("wpe", None)  # GPT-2's table of positions, of which a step reads a row
    return sum(array.nbytes for _, array in tree_flatten(tree) if isinstance(array, mx.array))


def cache_bytes_per_step(
    t3: TurboT3 | OriginalT3, utterance: work.Workload, dtype: mx.Dtype
) -> int:
    """Bytes of keys and values that a step reads, on average over the utterance."""
    prefix = t3.prefix(condition_of(utterance)).shape[1]
    start = prefix + t3.embed_input(mx.array(utterance.text_ids)).shape[1]
    positions = t3.rows(utterance.sampling) * (start + utterance.decoded // 2)
    return 2 * t3.config.layers * t3.config.width * positions * dtype.size
