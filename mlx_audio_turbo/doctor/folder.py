"""A model folder: strict loading, finite weights, and finite values in every block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..benchmark import measure
from ..benchmark.workload import workload
from ..hift.residuals import ResidualStack
from ..loading.folder import LoadedModel, load
from ..s3gen.conformer import Block as ConformerBlock
from ..s3gen.estimator import Level
from ..synthesis.noise import NoiseSource
from ..synthesis.token_to_wav import TokenToWav
from ..t3.gpt2 import Block as GPTBlock
from .goldens import Output, Recorder, output

SECONDS = 0.8


def open_folder(folder: Path) -> LoadedModel:
    """The folder's model, loaded strictly."""
    return load(folder)


def weights(loaded: LoadedModel) -> Iterator[Output]:
    """Every tensor of the model, with its largest value."""
    parameters = dict(loaded.networks.parameters())
    if loaded.s3_tokenizer is not None:
        parameters["s3tokenizer"] = loaded.s3_tokenizer.get().parameters()
    flat: list[tuple[str, mx.array]] = tree_flatten(parameters)  # pyright: ignore
    for name, array in flat:
        if mx.issubdtype(array.dtype, mx.floating):
            largest = mx.max(mx.abs(array.astype(mx.float32))).item()
            finite = bool(np.isfinite(largest))  # type: ignore[arg-type]
            yield Output(name, finite, float(largest), np.zeros(0, np.float32))  # type: ignore[arg-type]


def blocks(loaded: LoadedModel) -> list[Output]:
    """The outputs of all blocks in one utterance of random tokens, and its samples."""
    record, timed = Recorder(), workload(loaded.config, SECONDS)
    with record.watching(
        **{
            "T3 block": GPTBlock,
            "S3Gen encoder block": ConformerBlock,
            "S3Gen estimator level": Level,
            "HiFT stack": ResidualStack,
        }
    ):
        measure.decode(loaded.networks.t3, timed, tokens=3)
        renderer = TokenToWav(
            loaded.networks.s3gen,
            measure.voice_of(timed, loaded.family),
            NoiseSource(mx.random.key(1)),
            loaded.config.rendering,
        )
        samples = list(renderer.push(timed.tokens[: timed.decoded].tolist(), final=True))
    return [*record.outputs, output("samples", np.concatenate(samples))]
