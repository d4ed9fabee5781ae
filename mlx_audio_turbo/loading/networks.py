"""All networks of the system in one tree, whose paths are the keys of a model folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten

from ..config import ModelConfig, OriginalT3Config, Quantization, T3Config
from ..encoders.campplus import CAMPlus
from ..encoders.s3_tokenizer import S3Tokenizer
from ..encoders.voice_encoder import VoiceEncoder
from ..errors import ModelFolderError
from ..hift.generator import HiFTGenerator
from ..s3gen.model import TokenToMel
from ..t3.turbo import TurboT3

LISTENERS = ("ve", "s3gen.speaker_encoder", "s3tokenizer")
"""The networks that hear a reference clip; a folder may lack them and still speak."""


def _original_t3(config: OriginalT3Config) -> Any:
    from ..t3.original import OriginalT3  # imports mlx-lm

    return OriginalT3(config)


T3_TYPES: Mapping[type, Callable[[Any], Any]] = {
    T3Config: TurboT3,
    OriginalT3Config: _original_t3,
}
"""The language model for each type of its configuration; see ``t3.interface`` for what it does."""


def make_t3(config: T3Config | OriginalT3Config) -> Any:
    """The language model of this configuration, not loaded yet."""
    return T3_TYPES[type(config)](config)


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

    missing: those of :data:`LISTENERS` that the folder lacks, and what is not used.
    """

    def __init__(self, config: ModelConfig, *, missing: Collection[str] = ()):
        super().__init__()
        if "ve" not in missing:
            self.ve = VoiceEncoder(config.voice_encoder)
        if "t3" not in missing:
            self.t3 = make_t3(config.t3)
        self.s3gen = S3Gen(config, missing=missing)
        if "s3tokenizer" not in missing:
            self.s3tokenizer = S3Tokenizer(config.s3_tokenizer)


class Hearing(nn.Module):
    """The part of the tree that a saved voice does not need, and half of the memory without T3."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.s3tokenizer = S3Tokenizer(config.s3_tokenizer)


def quantize(networks: Networks, quantization: Quantization) -> None:
    """Make the Linear layers of the named components quantised ones, and touch nothing else.

    Raises:
        ModelFolderError: the group size does not divide a layer's inputs.
    """
    try:
        nn.quantize(
            networks,
            group_size=quantization.group_size,
            bits=quantization.bits,
            class_predicate=lambda path, module: (
                isinstance(module, nn.Linear) and quantization.covers(path)
            ),
        )
    except ValueError as error:
        raise ModelFolderError(
            f"groups of {quantization.group_size} do not divide a layer's inputs ({error}); "
            "choose another group size"
        ) from None


def stored_tensors(networks: Networks) -> set[str]:
    """The tables and matrices of T3, which its kernels read in the type that a file has."""
    flat: Any = tree_flatten(networks.t3.parameters())
    names = {f"t3.{name}" for name, array in flat if array.ndim == 2}
    return {name for name in names if not name.startswith("t3.cond_enc.")}


def parameter_shapes(
    config: ModelConfig,
    *,
    missing: Collection[str] = (),
    quantization: Quantization | None = None,
) -> dict[str, tuple[int, ...]]:
    """Every tensor that a model folder of these sizes holds, by name."""
    networks = Networks(config, missing=missing)
    if quantization:
        quantize(networks, quantization)
    flat: Any = tree_flatten(networks.parameters())
    return {name: tuple(array.shape) for name, array in flat}
