"""Tokens to mel against the reference: encoder, estimator, and the two-step mel."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from mlx_audio_turbo.config import S3GenConfig
from mlx_audio_turbo.s3gen.model import TokenToMel
from mlx_audio_turbo_convert.mapping.s3gen import RULES

from ..rows import Row, relative
from .context import Context, load_network

MIXER = "flow.decoder.estimator.time_embed_mixer.weight"


def build(context: Context, config: S3GenConfig | None = None) -> TokenToMel:
    """Our network with the checkpoint's weights, float32; of other settings, where given.

    An estimator of one time has no mixer: the checkpoint's is left out.
    """
    config = config or context.config.s3gen
    network = TokenToMel(config)
    load_network(
        network,
        RULES,
        context.checkpoint / "s3gen_meanflow.safetensors",
        source_prefix="flow.",
        target_prefix="s3gen.flow.",
        left_out=() if config.estimator.mean_flow else (MIXER,),
    )
    return network


def rows(context: Context) -> Iterator[Row]:
    reference = context.reference("s3gen")
    network = build(context)
    everything = mx.array(reference["tokens"])
    prompt = int(reference["prompt"])
    (_, frames, mels), known = reference["mu"].shape, 2 * prompt
    # The reference's side uses the same.
    prompt_mel = mx.array(context.random(1, known, mels, seed=301, scale=2.0) - 5)
    noise = mx.array(context.random(1, frames, mels, seed=302))
    state = mx.array(context.random(1, frames, mels, seed=303))
    x_vector = mx.array(context.random(1, context.config.s3gen.speaker_embedding, seed=304))

    stage = "encoder"
    spread = float(np.std(reference["mu"], axis=1).mean())
    yield Row(stage, "spread of the reference's mu over time", spread, 0.05, at_least=True)
    mu = network.encode(everything)
    yield Row(stage, "mu, relative", relative(np.array(mu), reference["mu"]), 1e-5)

    stage = "estimator"
    speaker = network.speaker(x_vector)
    yield Row(stage, "speaker, relative", relative(np.array(speaker), reference["speaker"]), 1e-5)
    for name, x, t, r in (("first", noise, 0.0, 0.5), ("second", state, 0.5, 1.0)):
        theirs = reference[f"velocity_{name}"]
        spread = float(np.std(theirs, axis=1).mean())
        yield Row(stage, f"spread of the {name} velocity over time", spread, 0.05, at_least=True)
        velocity = network.estimator(
            x,
            mu=mx.array(reference["mu"]),
            speaker=mx.array(reference["speaker"]),
            condition=mx.pad(prompt_mel, [(0, 0), (0, frames - known), (0, 0)]),
            t=t,
            r=r,
        )
        figure = relative(np.array(velocity), theirs)
        yield Row(stage, f"velocity from {t:g} to {r:g}, relative", figure, 1e-5)

    stage = "mel"

    def mel() -> np.ndarray:
        *_, frames = network(
            everything[:, prompt:],
            prompt_tokens=everything[:, :prompt],
            prompt_mel=prompt_mel,
            x_vector=x_vector,
            noise=noise,
        )
        return np.array(frames)

    ours = mel()
    yield Row(stage, "two steps, relative", relative(ours, reference["mel"]), 1e-5)
    rounded = tree_map(lambda p: p.astype(mx.float16).astype(mx.float32), network.parameters())
    network.update(rounded)
    yield Row(stage, "float16 weights against float32, relative", relative(mel(), ours), 3e-3)
