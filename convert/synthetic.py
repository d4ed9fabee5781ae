"""Checkpoints in the upstream layout with seeded random weights, for where the trained one is not.

Each tensor is drawn from the seed and its own name, so that any one can be drawn again without the
others. The spreads make every branch of the networks work: voiced and unvoiced frames, audible
speech-like levels, many distinct S3 tokens, and no norm, bias or running statistic at its default.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.audio.mel import slaney_filters
from mlx_audio_turbo.config import ENCODER_SAMPLE_RATE, STOP_SPEECH, ModelConfig, to_dict
from mlx_audio_turbo.errors import ModelFolderError

from . import shapes, upstream
from .files import new_folder
from .safetensors_io import Tensor, write
from .tokenizer import LEGACY_FILES, build_tokenizer, byte_level_files

RECIPE_VERSION = 1
"""Goes up with any change of names, shapes or values below, so that caches are made again."""


@dataclass(frozen=True)
class Draw:
    """Near-normal values of this mean and deviation.

    fan_in: the deviation is divided by the root of the number of inputs.
    centred: each output's weights sum to zero.
    """

    mean: float = 0.0
    deviation: float = 1.0
    fan_in: bool = False
    centred: bool = False


_RELU = math.sqrt(2)
"""ReLU halves the power."""

RECIPES: tuple[tuple[str, Draw], ...] = (
    # S3 tokenizer: a log-mel has a large constant part
    (r"tokenizer\.encoder\.conv1\.weight", Draw(0.0, 8.0, fan_in=True, centred=True)),
    (r"tokenizer\.encoder\.conv2\.weight", Draw(0.0, 1.0, fan_in=True, centred=True)),
    (r"tokenizer\..*\.fsmn_block\.weight", Draw(0.0, 0.3, fan_in=True)),
    (r"tokenizer\..*\.(attn\.value|mlp\.2)\.weight", Draw(0.0, 0.5, fan_in=True)),
    (r"tokenizer\..*\.project_down\.weight", Draw(0.0, 0.8, fan_in=True)),
    # VoiceEncoder: its mel is no logarithm, 0.02 in the mean
    (r"lstm\.weight_ih_l0", Draw(0.0, 20.0, fan_in=True)),
    (r"lstm\.weight_ih_l\d", Draw(0.0, 2.0, fan_in=True)),
    # CAM++: a filter bank's deviation is 3.9; gates must not saturate
    (r".*running_var", Draw(1.0, 0.2)),
    (r".*running_mean", Draw(0.0, 0.2)),
    (r"speaker_encoder\..*(bn\d|shortcut\.1|batchnorm)\.weight", Draw(1.0, 0.1)),
    (r"speaker_encoder\.head\.conv1\.weight", Draw(0.0, 0.1 * _RELU, fan_in=True)),
    (r"speaker_encoder\..*\.cam_layer\.linear2\.weight", Draw(0.0, 0.4 * _RELU, fan_in=True)),
    (r"speaker_encoder\..*\.weight", Draw(0.0, _RELU, fan_in=True)),
    # vocoder
    (r".*f0_predictor.*original0", Draw(1.0, 0.1)),
    (r".*original0", Draw(0.8, 0.1)),
    (r".*f0_predictor\.classifier\.bias", Draw(180.0, 0.0)),
    (r".*f0_predictor\.classifier\.weight", Draw(0.0, 100.0, fan_in=True)),
    (r".*\.alpha", Draw(1.0, 0.2)),
    # T3
    (r"tfmr\.w[pt]e\.weight", Draw(0.0, 0.1)),
    (r"speech_head\.weight", Draw(0.0, 3.0, fan_in=True)),
    # flow
    (r"(text_emb|speech_emb|flow\.input_embedding)\.weight", Draw(0.0, 0.5)),
    (r".*pos_bias_[uv]", Draw(0.0, 0.3)),
    (r".*time_embed_mixer\.weight", Draw(0.0, 0.3, fan_in=True)),
    # the rest, by the kind of layer
    (r".*(norm\w*|ln_\w+|_ln|embed\.out\.1|block\.2)\.weight", Draw(1.0, 0.1)),
    (r".*(bias|bias_[hi]h_l\d)", Draw(0.0, 0.1)),
    (r".*", Draw(0.0, 1.0, fan_in=True)),
)
"""The first pattern that fits a tensor's whole name decides."""

_RECIPES = [(re.compile(pattern), recipe) for pattern, recipe in RECIPES]


def _fixed(name: str, tensor: Tensor) -> np.ndarray | None:
    """Tensors that are computed and not trained."""
    if name.endswith("num_batches_tracked"):
        return np.array(1000, np.int64)
    if name == "tokenizer._mel_filters":
        return slaney_filters(
            ENCODER_SAMPLE_RATE, shapes.S3_SAMPLES, tensor.shape[0], high=ENCODER_SAMPLE_RATE / 2
        )
    if name == "tokenizer.window":
        return np.hanning(shapes.S3_SAMPLES + 1)[:-1].astype(np.float32)
    return None


def draw(name: str, tensor: Tensor, *, seed: int) -> np.ndarray:
    """The tensor ``name`` of the upstream files, as the checkpoint of ``seed`` holds it."""
    fixed = _fixed(name, tensor)
    if fixed is not None:
        return fixed
    recipe = next(recipe for pattern, recipe in _RECIPES if pattern.fullmatch(name))
    deviation = recipe.deviation
    if recipe.fan_in:
        deviation /= math.sqrt(_inputs(name, tensor.shape))
    values = near_normal(f"{seed}:{name}", math.prod(tensor.shape)).reshape(tensor.shape)
    if recipe.centred:
        rows = values.reshape(len(values), -1)
        rows -= (rows.sum(axis=1, dtype=np.int64) // rows.shape[1])[:, None]
    values *= np.float32(deviation / _STEPS)
    values += np.float32(recipe.mean)
    if name.endswith("time_embed_mixer.weight"):
        # the published initialisation passes t through and ignores r (arXiv 2510.07979, 3.3)
        values[:, : len(values)] += np.eye(len(values), dtype=np.float32)
    if name == "speech_head.bias":
        values[STOP_SPEECH] += np.float32(_STOP_BIAS)
    return values


_STOP_BIAS = 7.0
"""Lets utterances end by themselves, after some tens of tokens."""


def _inputs(name: str, shape: tuple[int, ...]) -> int:
    if re.fullmatch(r"tfmr\.h\..*\.c_\w+\.weight", name):  # GPT-2 stores (in, out)
        return shape[0]
    return max(1, math.prod(shape[1:]))


def near_normal(key: str, count: int) -> np.ndarray:
    """``count`` whole numbers as float32, of mean 0 and deviation ``_STEPS``.

    Sums of four 16-bit integers (Irwin and Hall, 1927): integer arithmetic gives the same bits with
    every version of numpy and on every machine, which numpy promises of its bit generators alone.
    """
    bits = np.random.SFC64(int.from_bytes(hashlib.sha256(key.encode()).digest(), "little"))
    values = np.empty(count, np.float32)
    low = np.uint64(0x0000FFFF0000FFFF)
    for start in range(0, count, _CHUNK):
        part = values[start : start + _CHUNK]
        raw = bits.random_raw(len(part))
        pairs = (raw & low) + (raw >> np.uint64(16) & low)
        part[:] = (pairs + (pairs >> np.uint64(32))) & np.uint64(0x3FFFF)
        part -= np.float32(4 * 0xFFFF // 2)
    return values


_STEPS = math.sqrt(4 * (2**32 - 1) / 12)
_CHUNK = 1 << 18


def tables(config: ModelConfig, t3_file: str) -> dict[str, dict[str, Tensor]]:
    """Every tensor of every upstream file of a model of these sizes."""
    return {
        t3_file: shapes.t3(config.t3),
        upstream.S3GEN_FILE: shapes.s3gen(config),
        upstream.VOICE_ENCODER_FILE: shapes.voice_encoder(config.voice_encoder),
    }


def write_checkpoint(
    output: Path,
    *,
    config: ModelConfig,
    name: str,
    seed: int = 0,
    tokenizer: Path | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write an untrained checkpoint in the upstream layout, whole or not at all.

    Args:
        output: the folder to make.
        name: what the model calls itself; the T3 file is ``t3_{name}_v1.safetensors``.
        tokenizer: a folder whose tokenizer files to copy; by default one token per byte, and the
            tags.
        force: replace what is at ``output``.
        progress: called with the bytes written so far and in all.

    Raises:
        ModelFolderError: ``output`` exists, or ``tokenizer`` lacks a file.
    """
    files = tables(config, f"t3_{name}_v1.safetensors")
    total = sum(tensor.bytes for table in files.values() for tensor in table.values())
    done = 0

    def arrays(table: Mapping[str, Tensor]) -> Iterator[tuple[str, np.ndarray]]:
        nonlocal done
        for key, tensor in table.items():
            yield key, draw(key, tensor, seed=seed)
            done += tensor.bytes
            if progress:
                progress(done, total)

    with new_folder(output, force=force) as folder:
        if tokenizer is None:
            byte_level_files(folder, vocabulary=config.t3.text_vocabulary)
        else:
            _copy_tokenizer(tokenizer, folder, config.t3.text_vocabulary)
        for filename, table in files.items():
            write(folder / filename, table, arrays(table))
        description: dict[str, Any] = {
            "variant": name,
            "family": f"untrained-{name}-{seed}",
            "trained": False,
            "seed": seed,
            "architecture": to_dict(config),
        }
        (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")
        (folder / "README.md").write_text(_README.format(name=name, seed=seed), "utf-8")
    return output


def _copy_tokenizer(source: Path, target: Path, vocabulary: int) -> None:
    size = build_tokenizer(source).get_vocab_size()
    if size != vocabulary:
        raise ModelFolderError(
            f"the tokenizer in {source} has {size} ids where the model has {vocabulary}; "
            "choose another size or tokenizer"
        )
    for name in LEGACY_FILES:
        shutil.copyfile(source / name, target / name)


_README = """\
# Untrained weights

Every tensor in this folder is random (model `{name}`, seed {seed}). The layout is that of the
published Chatterbox checkpoint, so all code paths run on it, but what comes out is **noise, not
speech**. It is for tests, demonstrations and measurements of speed.
"""
