"""Every network at Turbo's widths and a small depth, on seeded weights and inputs.

Each stage gets inputs of its own, so that a fault shows in the stage that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import mlx.core as mx
import numpy as np

from ..config import FRAMES_PER_TOKEN, SAMPLE_RATE, SPEECH_CODES, T3Config
from ..encoders import features
from ..encoders.campplus import CAMPlus, DenseBlock, ResidualBlock
from ..encoders.s3_tokenizer import Block as TokenizerBlock
from ..encoders.s3_tokenizer import S3Tokenizer
from ..encoders.voice_encoder import VoiceEncoder
from ..hift.f0 import F0Predictor
from ..hift.generator import HiFTGenerator
from ..hift.residuals import ResidualStack
from ..hift.source import HarmonicSource, phase_offsets
from ..options import SamplingOptions
from ..presets import TURBO
from ..s3gen.conformer import Block as ConformerBlock
from ..s3gen.estimator import Level
from ..s3gen.model import TokenToMel
from ..t3.gpt2 import Block as GPTBlock
from ..t3.interface import Condition
from ..t3.sampling import filter_logits
from ..t3.turbo import TurboT3
from .goldens import Recorder
from .seeded import fill, ids, spread, uniform

assert isinstance(TURBO.t3, T3Config)
T3 = replace(TURBO.t3, layers=2, positions=256, text_vocabulary=512)
TOKENIZER = replace(TURBO.s3_tokenizer, layers=1)
S3GEN = replace(
    TURBO.s3gen,
    encoder=replace(TURBO.s3gen.encoder, blocks=1, up_blocks=1),
    estimator=replace(TURBO.s3gen.estimator, blocks=1, mid_blocks=1),
)
Stage = Callable[[Recorder, mx.Dtype], None]


def front_ends(record: Recorder, dtype: mx.Dtype) -> None:
    """The four spectrograms of a clip, on the host."""
    clip = 0.2 * uniform("clip", (SAMPLE_RATE,))
    clip *= np.linspace(0.1, 1, SAMPLE_RATE, dtype=np.float32)
    record.add("prompt mel", features.prompt_mel(clip))
    for name, feature in (
        ("S3 log-mel", features.s3_log_mel),
        ("Kaldi fbank", features.kaldi_fbank),
        ("voice mel", features.voice_mel),
    ):
        record.add(name, feature(clip[:16_000]))


def s3_tokenizer(record: Recorder, dtype: mx.Dtype) -> None:
    """Log-mel to tokens."""
    network = S3Tokenizer(TOKENIZER)
    fill(network, "s3tokenizer", dtype)
    with record.watching(block=TokenizerBlock):
        hidden = network.encode(mx.array(spread("log mel", 1, 400, TOKENIZER.mels)))
    record.add("hidden", hidden)
    record.add_ids("tokens", network.quantize(hidden))


def voice_encoder(record: Recorder, dtype: mx.Dtype) -> None:
    """Mel to speaker embedding."""
    network = VoiceEncoder(TURBO.voice_encoder)
    fill(network, "ve", dtype)
    record.add("embedding", network.embed(mx.array(np.abs(spread("mel", 400, 40)))))


def campplus(record: Recorder, dtype: mx.Dtype) -> None:
    """Filter banks to x-vector."""
    network = CAMPlus(TURBO.campplus)
    fill(network, "campplus", dtype)
    with record.watching(head=ResidualBlock, block=DenseBlock):
        x_vector = network(mx.array(spread("fbank", 1, 208, TURBO.campplus.mels)))
    record.add("x-vector", x_vector)


def t3(record: Recorder, dtype: mx.Dtype) -> None:
    """Prefix, text and steps through the cache, by the device's form and by the network."""
    network = TurboT3(T3)
    fill(network, "t3", dtype)
    speaker = mx.array(spread("speaker", 1, T3.speaker_embedding) / 16)
    prompt = mx.array(ids("prompt", 40, below=SPEECH_CODES))[None]
    text = mx.array(ids("text", 12, below=T3.text_vocabulary))
    speech = mx.array(ids("speech", 3, below=SPEECH_CODES))
    prefix = network.prefix(Condition(speaker, prompt))
    parts = [prefix, network.embed_input(text)]
    parts += [network.embed_speech(speech[i : i + 1][None]) for i in range(3)]
    forward, cache = network.make_forward(), network.make_cache()
    for name, part in zip(("prefix", "text", "step 1", "step 2", "step 3"), parts, strict=True):
        offset = cache.offset
        record.add(f"logits, {name}", forward(part, cache, [offset]))
    with record.watching(block=GPTBlock):
        hidden = network(mx.concatenate(parts, axis=1))
    record.add("hidden", hidden)
    record.add("logits", network.logits(hidden))


def sampling(record: Recorder, dtype: mx.Dtype) -> None:
    """Probabilities after Turbo's filters."""
    logits = mx.array(4 * spread("logits", 2, T3.speech_vocabulary))
    history = mx.array(uniform("history", logits.shape)) > 0.9
    scores = filter_logits(logits, history, SamplingOptions(), TurboT3.filters)
    record.add("probabilities", mx.softmax(scores, axis=-1))
    greedy = SamplingOptions(top_k=5, top_p=0.5, repetition_penalty=1.5)
    scores = filter_logits(logits, history, greedy, TurboT3.filters)
    record.add("probabilities of few", mx.softmax(scores, axis=-1))


def encoder(record: Recorder, dtype: mx.Dtype) -> None:
    """Speech tokens to mu."""
    network = TokenToMel(S3GEN)
    fill(network, "s3gen", dtype)
    tokens = mx.array(ids("tokens", 57, below=SPEECH_CODES))[None]
    with record.watching(block=ConformerBlock):
        record.add("mu", network.encode(tokens))
    record.add("mu of a chunk", network.encode(tokens, final=False))


def estimator(record: Recorder, dtype: mx.Dtype) -> None:
    """Noise to mel, two steps."""
    network = TokenToMel(S3GEN)
    fill(network, "s3gen", dtype)
    frames, mels = FRAMES_PER_TOKEN * 57, S3GEN.mels
    speaker = network.speaker(mx.array(spread("x-vector", 1, S3GEN.speaker_embedding)))
    record.add("speaker", speaker)
    with record.watching(level=Level):
        states = network.decode(
            mx.array(spread("mu", 1, frames, mels)),
            prompt_mel=mx.array(spread("prompt", 1, 40, mels) * 2 - 5),
            speaker=speaker,
            noise=mx.array(spread("noise", 1, frames, mels)),
        )
        for step, state in enumerate(states, start=1):
            record.add(f"state {step}", state)


def f0(record: Recorder, dtype: mx.Dtype) -> None:
    """Mel to F0."""
    network = F0Predictor(TURBO.hift)
    fill(network, "f0")
    record.add("F0", network(mx.array(spread("mel", 1, 60, TURBO.hift.mels) * 2 - 5)))


def source(record: Recorder, dtype: mx.Dtype) -> None:
    """F0 to the harmonic source."""
    network, frames = HarmonicSource(TURBO.hift), 40
    fill(network, "source")
    harmonics, size = TURBO.hift.harmonics, TURBO.hift.samples_per_frame
    curve = np.where(np.arange(frames) % 13 > 2, 180 + 40 * uniform("curve", (frames,)), 0)[None]
    offsets = phase_offsets(curve, harmonics=harmonics, samples_per_frame=size)
    waves = network(
        mx.array(curve.astype(np.float32)),
        mx.array(offsets),
        mx.array(np.pi * uniform("phases", (1, harmonics + 1))),
        mx.array(spread("noise", 1, frames * size, harmonics + 1)),
    )
    record.add("source", waves)


def hift(record: Recorder, dtype: mx.Dtype) -> None:
    """Mel and source to samples, in float32 as the vocoder is on every device."""
    network, frames = HiFTGenerator(TURBO.hift), 25
    fill(network, "hift")
    samples = frames * TURBO.hift.samples_per_frame
    with record.watching(stack=ResidualStack):
        audio = network.decode(
            mx.array(spread("mel", 1, frames, TURBO.hift.mels) * 2 - 5),
            mx.array(0.1 * spread("source", 1, samples, 1)),
        )
    record.add("samples", audio)


STAGES: Mapping[str, Stage] = {
    "front ends": front_ends,
    "S3 tokenizer": s3_tokenizer,
    "VoiceEncoder": voice_encoder,
    "CAM++": campplus,
    "T3": t3,
    "sampling": sampling,
    "S3Gen encoder": encoder,
    "S3Gen estimator": estimator,
    "HiFT F0": f0,
    "HiFT source": source,
    "HiFT": hift,
}
"""In the order of the data."""
