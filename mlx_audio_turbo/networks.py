"""All networks of the system in one tree, whose paths are the keys of a model folder."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten

from .config import ModelConfig
from .hift.generator import HiFTGenerator
from .reference.campplus import CAMPlus
from .reference.s3_tokenizer import S3Tokenizer
from .reference.voice_encoder import VoiceEncoder
from .s3gen.model import TokenToMel
from .t3.model import T3

LISTENERS = ("ve", "s3gen.speaker_encoder", "s3tokenizer")
"""The networks that hear a reference clip; a folder may lack them and still speak."""


class S3Gen(nn.Module):
    """What upstream ships as one checkpoint: speaker encoder, flow and vocoder."""

    def __init__(self, config: ModelConfig, *, missing: Collection[str] = ()):
        super().__init__()
        if "s3gen.speaker_encoder" not in missing:
            self.speaker_encoder = CAMPlus(config.campplus)
        self.flow = TokenToMel(config.s3gen)
        self.mel2wav = HiFTGenerator(config.hift)


class Networks(nn.Module):
    """The tree; its parameters are lazy until a folder is loaded into them.

    missing: those of :data:`LISTENERS` that the folder lacks.
    """

    def __init__(self, config: ModelConfig, *, missing: Collection[str] = ()):
        super().__init__()
        if "ve" not in missing:
            self.ve = VoiceEncoder(config.voice_encoder)
        self.t3 = T3(config.t3)
        self.s3gen = S3Gen(config, missing=missing)
        if "s3tokenizer" not in missing:
            self.s3tokenizer = S3Tokenizer(config.s3_tokenizer)


def parameter_shapes(
    config: ModelConfig, *, missing: Collection[str] = ()
) -> dict[str, tuple[int, ...]]:
    """Every tensor that a model folder of these sizes holds, by name."""
    flat: Any = tree_flatten(Networks(config, missing=missing).parameters())
    return {name: tuple(array.shape) for name, array in flat}
