"""How each tensor of an untrained checkpoint is drawn from the seed and its own name.

The spreads make every branch of the networks work: voiced and unvoiced frames, levels like
speech's, many distinct S3 tokens, and no norm, bias or running statistic at its default.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mlx_audio_turbo.audio.mel import slaney_filters
from mlx_audio_turbo.config import ENCODER_SAMPLE_RATE, STOP_SPEECH, OriginalT3Config, T3Config

from ..safetensors_writer import Tensor
from . import f0 as synthetic_f0
from . import shapes


@dataclass(frozen=True)
class RandomInit:
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

RECIPES: tuple[tuple[str, RandomInit], ...] = (
    # S3 tokenizer: a log-mel has a large constant part
    (r"tokenizer\.encoder\.conv1\.weight", RandomInit(0.0, 8.0, fan_in=True, centred=True)),
    (r"tokenizer\.encoder\.conv2\.weight", RandomInit(0.0, 1.0, fan_in=True, centred=True)),
    (r"tokenizer\..*\.fsmn_block\.weight", RandomInit(0.0, 0.3, fan_in=True)),
    (r"tokenizer\..*\.(attn\.value|mlp\.2)\.weight", RandomInit(0.0, 0.5, fan_in=True)),
    (r"tokenizer\..*\.project_down\.weight", RandomInit(0.0, 0.8, fan_in=True)),
    # VoiceEncoder: its mel is no logarithm, 0.02 in the mean
    (r"lstm\.weight_ih_l0", RandomInit(0.0, 20.0, fan_in=True)),
    (r"lstm\.weight_ih_l\d", RandomInit(0.0, 2.0, fan_in=True)),
    # CAM++: a filter bank's deviation is 3.9; gates must not saturate
    (r".*running_var", RandomInit(1.0, 0.2)),
    (r".*running_mean", RandomInit(0.0, 0.2)),
    (r"speaker_encoder\..*(bn\d|shortcut\.1|batchnorm)\.weight", RandomInit(1.0, 0.1)),
    (r"speaker_encoder\.head\.conv1\.weight", RandomInit(0.0, 0.1 * _RELU, fan_in=True)),
    (r"speaker_encoder\..*\.cam_layer\.linear2\.weight", RandomInit(0.0, 0.4 * _RELU, fan_in=True)),
    (r"speaker_encoder\..*\.weight", RandomInit(0.0, _RELU, fan_in=True)),
    # vocoder; the F0 predictor is drawn apart
    (r"mel2wav\.conv_post\..*original1", RandomInit(0.0, 1.0, fan_in=True, centred=True)),
    (r".*original0", RandomInit(0.8, 0.05)),
    (r".*\.alpha", RandomInit(1.0, 0.14)),
    # T3
    (r"tfmr\.w[pt]e\.weight", RandomInit(0.0, 0.1)),
    (r"speech_head\.weight", RandomInit(0.0, 3.0, fan_in=True)),
    # flow
    (r"(text_emb|speech_emb|flow\.input_embedding)\.weight", RandomInit(0.0, 0.5)),
    (r".*pos_bias_[uv]", RandomInit(0.0, 0.3)),
    (r".*time_embed_mixer\.weight", RandomInit(0.0, 0.3, fan_in=True)),
    # the rest, by the kind of layer
    (r".*(norm\w*|ln_\w+|_ln|embed\.out\.1|block\.2)\.weight", RandomInit(1.0, 0.1)),
    (r".*(bias|bias_[hi]h_l\d)", RandomInit(0.0, 0.1)),
    (r".*", RandomInit(0.0, 1.0, fan_in=True)),
)
"""The first pattern that fits a tensor's whole name decides."""

ORIGINAL_RECIPES: tuple[tuple[str, RandomInit], ...] = (
    (r"tfmr\.norm\.weight", RandomInit(1.16, 0.15)),
    (r"tfmr\.layers\..*layernorm\.weight", RandomInit(1.0, 0.15)),
    (r"tfmr\.layers\..*\.self_attn\..*", RandomInit(0.0, 1.28, fan_in=True)),
    (r"tfmr\.layers\..*\.mlp\.down_proj\..*", RandomInit(0.0, 1.28, fan_in=True)),
    (r"tfmr\.layers\..*\.mlp\..*", RandomInit(0.0, 0.96, fan_in=True)),
    (r"tfmr\.embed_tokens\.weight", RandomInit(0.0, 0.5)),
    (r".*_pos_emb\.emb\.weight", RandomInit(0.0, 0.2)),
    (r"cond_enc\.spkr_enc\.weight", RandomInit(0.0, 0.5)),
    (r"cond_enc\.emotion_adv_fc\.weight", RandomInit(0.0, 0.8)),
    (r".*\.pre_attention_query", RandomInit(0.0, 32**-0.5)),
    (r"cond_enc\.perceiver\.attn\.norm\.weight", RandomInit(1.0, 0.15)),
    (r"cond_enc\.perceiver\.attn\.to_[qk]\.weight", RandomInit(0.0, 1.6, fan_in=True)),
    (r"cond_enc\.perceiver\.attn\..*\.weight", RandomInit(0.0, 0.752, fan_in=True)),
    (r"speech_head\.weight", RandomInit(0.0, 4 / 1.17, fan_in=True)),
)
"""Those of the original's T3; what they do not name is drawn by ``RECIPES``."""


def _compiled(
    recipes: tuple[tuple[str, RandomInit], ...],
) -> list[tuple[re.Pattern[str], RandomInit]]:
    return [(re.compile(pattern), recipe) for pattern, recipe in recipes]


_RECIPES: Mapping[str, list[tuple[re.Pattern[str], RandomInit]]] = {
    T3Config.kind: _compiled(RECIPES),
    OriginalT3Config.kind: _compiled((*ORIGINAL_RECIPES, *RECIPES)),
}


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


def draw(name: str, tensor: Tensor, *, seed: int, kind: str = T3Config.kind) -> np.ndarray:
    """The tensor ``name`` of the upstream files in the checkpoint of ``seed``.

    Args:
        kind: of the model's T3.
    """
    fixed = _fixed(name, tensor)
    if fixed is not None:
        return fixed
    _, found, below = name.partition("f0_predictor.")
    if found:

        def normal(what: str, *shape: int) -> np.ndarray:
            whole = near_normal(f"{seed}:{name}:{what}", math.prod(shape)).reshape(shape)
            return whole.astype(np.float64) / STEPS

        return synthetic_f0.draw(below, tensor.shape, normal).astype(np.float32)
    recipe = next(recipe for pattern, recipe in _RECIPES[kind] if pattern.fullmatch(name))
    deviation = recipe.deviation
    if recipe.fan_in:
        deviation /= math.sqrt(_inputs(name, tensor.shape))
    values = near_normal(f"{seed}:{name}", math.prod(tensor.shape)).reshape(tensor.shape)
    if recipe.centred:
        rows = values.reshape(len(values), -1)
        rows -= (rows.sum(axis=1, dtype=np.int64) // rows.shape[1])[:, None]
    values *= np.float32(deviation / STEPS)
    values += np.float32(recipe.mean)
    for pattern, adjust in _ADJUSTMENTS if kind == T3Config.kind else _SHARED_ADJUSTMENTS:
        if pattern.fullmatch(name):
            adjust(values)
    return values


def _pass_t_on(mixer: np.ndarray) -> None:
    # the published initialisation takes t as it is and ignores r (arXiv 2510.07979, 3.3)
    mixer[:, : len(mixer)] += np.eye(len(mixer), dtype=np.float32)


def _let_speech_end(bias: np.ndarray) -> None:
    # the stop token is sampled after some tens of tokens, independently of those before
    bias[STOP_SPEECH] += 9


def _steady_end(head: np.ndarray) -> None:
    head[STOP_SPEECH] *= np.float32(0.2)


def _soften(gain: np.ndarray) -> None:
    gain[: len(gain) // 2] *= np.float32(0.5)  # the logarithms of the magnitudes


def _raise(bias: np.ndarray) -> None:
    bias[: len(bias) // 2] += np.float32(0.3)


def _keep_one_open(squeeze: np.ndarray) -> None:
    # its input is means after ReLU, so this row stays positive and no gate is idle
    np.abs(squeeze[0], out=squeeze[0])


_Adjustments = tuple[tuple[re.Pattern[str], Callable[[np.ndarray], None]], ...]
_SHARED_ADJUSTMENTS: _Adjustments = (
    (re.compile(r"mel2wav\.conv_post\..*original0"), _soften),
    (re.compile(r"mel2wav\.conv_post\.bias"), _raise),
    (re.compile(r"speaker_encoder\..*\.cam_layer\.linear1\.weight"), _keep_one_open),
)


_ADJUSTMENTS: _Adjustments = (
    (re.compile(r"flow\.decoder\.estimator\.time_embed_mixer\.weight"), _pass_t_on),
    (re.compile(r"speech_head\.weight"), _steady_end),
    (re.compile(r"speech_head\.bias"), _let_speech_end),
    *_SHARED_ADJUSTMENTS,
)


def _inputs(name: str, shape: tuple[int, ...]) -> int:
    if re.fullmatch(r"tfmr\.h\..*\.c_\w+\.weight", name):  # GPT-2 stores (in, out)
        return shape[0]
    return max(1, math.prod(shape[1:]))


def near_normal(key: str, count: int) -> np.ndarray:
    """``count`` whole numbers as float32, of mean 0 and deviation ``STEPS``.

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


STEPS = math.sqrt(4 * (2**32 - 1) / 12)
_CHUNK = 1 << 18
