"""The original's output head: random weights whose logits lie as a trained model's.

A trained head gives most ids a clearly negative logit and the ids that are no speech a very
negative one. A head without bias can do so along the mean of the last states, which is found by
running the network once on a random sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.config import SPEECH_CODES, STOP_SPEECH, OriginalT3Config
from mlx_audio_turbo.loading.networks import make_t3
from mlx_audio_turbo.ops import blas

from .. import rules
from ..mapping import t3_original
from ..safetensors_writer import Tensor
from .random_init import draw

MEAN, INVALID, STOP = -3.1, -12.0, 13.0
"""Mean logit of all ids, and what ids after the stop token and the stop token get on top."""
TEXT_IDS, SPEECH_IDS, SEQUENCES = 40, 120, 3
_STEPS = 8
"""The mean state is rounded to this part of its size, so that machines agree on it."""


def shift(
    head: np.ndarray, config: OriginalT3Config, table: Mapping[str, Tensor], *, seed: int
) -> None:
    """Move the logits of ``head`` (V, C) to the means above, in place.

    Args:
        table: the tensors of the T3 file, which ``seed`` draws.
    """
    state = mean_state(config, table, seed=seed)
    direction = (state / np.dot(state, state)).astype(np.float32)
    head[STOP_SPEECH] *= np.float32(0.2)
    head += np.float32(MEAN) * direction
    head[STOP_SPEECH] += np.float32(STOP) * direction
    head[STOP_SPEECH + 1 :] += np.float32(INVALID) * direction


def mean_state(config: OriginalT3Config, table: Mapping[str, Tensor], *, seed: int) -> np.ndarray:
    """(C,), the mean over the places that sample speech, after the last norm, in float64."""
    blas.load()  # MLX's own takes ten minutes for the published sizes
    model: Any = make_t3(config)
    names = [name for name in table if name != "speech_head.weight"]
    plan = rules.plan(t3_original.RULES, names)
    steps = [step for step in plan.steps if len(step.sources) == 1]
    weights = [
        (
            step.target.removeprefix("t3."),
            mx.array(draw(step.sources[0], table[step.sources[0]], seed=seed, kind=config.kind)),
        )
        for step in steps
    ]
    # the head is what this is for
    model.load_weights(weights, strict=False)
    mean = np.mean([_states(model, config, seed=each) for each in range(SEQUENCES)], axis=(0, 1))
    grid = np.exp2(np.round(np.log2(np.sqrt(np.mean(mean**2)) / _STEPS)))
    return np.round(mean / grid) * grid


def _states(model: Any, config: OriginalT3Config, *, seed: int) -> np.ndarray:
    """(T, C) after a random voice, text and speech, in float64."""
    random = np.random.default_rng(seed)
    speaker = np.abs(random.standard_normal((1, config.speaker_embedding)))
    prompt = random.integers(0, SPEECH_CODES, (1, min(100, config.prompt_tokens)))
    condition = SimpleNamespace(
        speaker=mx.array((speaker / np.linalg.norm(speaker)).astype(np.float32)),
        prompt_tokens=mx.array(prompt),
        exaggeration=0.5,
    )
    text = mx.array(random.integers(0, config.text_vocabulary, TEXT_IDS))
    speech = mx.array(random.integers(0, SPEECH_CODES, (1, SPEECH_IDS)))
    with mx.stream(mx.cpu):
        embeddings = mx.concatenate(
            [
                model.prefix(condition),
                model.embed_input(text, 1),
                model.embed_speech(speech, mx.arange(1, SPEECH_IDS + 1)),
            ],
            axis=1,
        )
        return np.array(model(embeddings)[0, -SPEECH_IDS - 1 :]).astype(np.float64)
