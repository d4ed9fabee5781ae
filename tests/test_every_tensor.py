"""Every tensor of a model folder moves the output: one gradient pass per network shows it.

A tensor that does not is either forgotten by a network's code, or of no use and to be dropped by
the converter. Rounding hides the gradient from its own steps, so those come after what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_audio_turbo.encoders import campplus
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.loading.networks import Networks
from mlx_audio_turbo.t3.interface import Condition
from mlx_audio_turbo_convert.synthetic.tiny import ensure

from .helpers import whole

FRAMES = 250
"""Mel frames of the reference's features: more than two segments of CAM++."""


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32))


def ids(high: int, count: int, *, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).integers(0, high, (1, count)))


def hear_speaker_for_t3(networks: Networks) -> mx.array:
    return networks.ve(mx.abs(random(2, 160, 40, scale=0.05)))


def hear_speaker_for_s3gen(networks: Networks) -> mx.array:
    def smooth_statistics(x: mx.array, segment: int) -> mx.array:
        # the deviation of a channel that ReLU closes throughout has no derivative
        return mx.concatenate([x.mean(axis=1), mx.sqrt(mx.var(x, axis=1) + 1e-6)], axis=-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campplus, "pool_statistics", smooth_statistics)
        return networks.s3gen.speaker_encoder(random(1, FRAMES, 80, scale=4))


def hear_tokens(networks: Networks) -> mx.array:
    """Up to what is rounded to the three levels of each codebook dimension."""
    tokenizer = networks.s3tokenizer
    return mx.tanh(tokenizer.quantizer.project_down(tokenizer.encode(random(1, 64, 128))))


def read_text(networks: Networks) -> mx.array:
    t3 = networks.t3
    parts = [
        t3.prefix(Condition(random(1, 256), ids(6561, 10))),
        t3.embed_input(ids(t3.config.text_vocabulary, 8)[0], 1),
        t3.embed_speech(ids(6561, 6), mx.arange(1, 7)),
    ]
    return t3.logits(t3(mx.concatenate(parts, axis=1)))


def make_mel(networks: Networks) -> mx.array:
    *_, mel = networks.s3gen.flow(
        ids(6561, 12),
        prompt_tokens=ids(6561, 8, seed=1),
        prompt_mel=random(1, 16, 80, scale=2),
        x_vector=random(1, 192),
        noise=random(1, 40, 80, seed=2),
    )
    return mel


def make_wave(networks: Networks) -> mx.array:
    """F0 and, from another that has voiced and unvoiced frames, source and samples."""
    vocoder, frames = networks.s3gen.mel2wav, 12
    mel = random(1, frames, 80, scale=2)
    f0 = mx.array([[0.0] * 4 + [120.0] * 8])
    sines = vocoder.config.harmonics + 1
    source = vocoder.source(
        f0,
        random(1, frames, sines, scale=0.3),
        random(1, sines, seed=1),
        random(1, frames * vocoder.config.samples_per_frame, sines, seed=2),
    )
    return mx.concatenate([vocoder.f0(mel) / 100, vocoder.decode(mel, source)], axis=1)


PASSES: dict[str, Callable[[Networks], mx.array]] = {
    "ve.": hear_speaker_for_t3,
    "s3gen.speaker_encoder.": hear_speaker_for_s3gen,
    "s3tokenizer.": hear_tokens,
    "t3.": read_text,
    "s3gen.flow.": make_mel,
    "s3gen.mel2wav.": make_wave,
}


@pytest.fixture(scope="module")
def networks(tiny_folder: Path) -> Networks:
    return whole(load(tiny_folder, dtype=mx.float32))


def test_the_passes_cover_the_folder(networks: Networks) -> None:
    names = dict(tree_flatten(networks.parameters()))
    assert all(sum(name.startswith(prefix) for prefix in PASSES) == 1 for name in names)


@pytest.mark.parametrize("prefix", PASSES)
def test_every_tensor_moves_the_output(networks: Networks, prefix: str) -> None:
    check(networks, prefix)


def test_every_tensor_of_the_original_s_flow_moves_the_mel(cache: Path) -> None:
    """Ten steps with guidance, and no second time."""
    loaded = load(ensure(cache, "tiny-original"), dtype=mx.float32)
    assert not loaded.config.s3gen.estimator.mean_flow
    check(loaded.networks, "s3gen.flow.")


def check(networks: Networks, prefix: str) -> None:
    forward = PASSES[prefix]

    def score(model: nn.Module) -> mx.array:
        output = forward(model)  # type: ignore[arg-type]
        # at random weights: plain sums are blind to what comes before a norm
        return mx.sum(output * random(*output.shape, seed=3))

    gradients = dict(tree_flatten(nn.value_and_grad(networks, score)(networks)[1]))
    weights = dict(tree_flatten(networks.parameters()))
    moved = {
        name: float(mx.linalg.norm(gradient)) * max(1e-3, float(mx.abs(weights[name]).max()))
        for name, gradient in gradients.items()
        if name.startswith(prefix)
    }
    assert moved
    typical = float(np.median(list(moved.values())))
    idle = {name for name, size in moved.items() if not size > 1e-4 * typical}
    assert idle == set()
    # and the pass of one network moves no other
    others = [name for name in gradients if not name.startswith(prefix)]
    assert not any(float(mx.abs(gradients[name]).max()) for name in others)
