"""The reference's S3Gen of the original: ten steps with guidance, then its vocoder."""

from __future__ import annotations

import numpy as np
import torch

from ..inputs_hift import random_numbers
from . import hift, s3gen
from .context import Context


def record(context: Context) -> dict[str, np.ndarray]:
    """tokens (1, P + T), prompt P, velocities and mel (1, frames, mels), audio (1, N)."""
    flow = s3gen.build(context, meanflow=False)
    mels, vocabulary = flow.output_size, flow.vocab_size
    prompt, speech = (16, 24) if context.small else (100, 150)
    known, frames = 2 * prompt, 2 * (prompt + speech)
    tokens = np.random.default_rng(600).integers(0, vocabulary, (1, prompt + speech))
    tokens = tokens.astype(np.int32)
    mel = s3gen.mel(
        flow,
        tokens[:, prompt:],
        prompt_tokens=tokens[:, :prompt],
        prompt_mel=context.random(1, known, mels, seed=601, scale=2.0) - 5,
        x_vector=context.random(1, context.architecture["s3gen"]["speaker_embedding"], seed=603),
        noise=context.random(1, frames, mels, seed=602),
        meanflow=False,
    )
    phases, noise = random_numbers(context, frames - known)
    audio, _ = hift.inference(
        hift.build(context), torch.from_numpy(mel).transpose(1, 2), phases, noise
    )
    return {"tokens": tokens, "prompt": np.array(prompt), "mel": mel, "audio": audio.numpy()}
