"""All networks of the system in one tree, whose paths are the keys of a model folder."""

from __future__ import annotations

import mlx.nn as nn
from mlx.utils import tree_flatten

from .config import ModelConfig
from .hift.generator import HiFTGenerator
from .reference.campplus import CAMPlus
from .reference.s3_tokenizer import S3Tokenizer
from .reference.voice_encoder import VoiceEncoder
from .s3gen.model import TokenToMel
from .t3.model import T3


class S3Gen(nn.Module):
    """What upstream ships as one checkpoint: speaker encoder, flow and vocoder."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.speaker_encoder = CAMPlus(config.campplus)
        self.flow = TokenToMel(config.s3gen)
        self.mel2wav = HiFTGenerator(config.hift)


class Networks(nn.Module):
    """The tree; its parameters are lazy until a folder is loaded into them."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.ve = VoiceEncoder(config.voice_encoder)
        self.t3 = T3(config.t3)
        self.s3gen = S3Gen(config)
        self.s3tokenizer = S3Tokenizer(config.s3_tokenizer)


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a model folder of these sizes holds, by name."""
    return {name: tuple(array.shape) for name, array in tree_flatten(Networks(config).parameters())}
