"""Weights in 4, 6 or 8 bits: T3's transformer layers, and nothing else.

Speech and text embeddings, heads, positions, norms, conditioning, both speaker networks, the S3
tokenizer, the flow and the vocoder stay as they are: errors there change the tokens, add up over
the steps of the flow, or are audible directly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.config import QUANTIZATION_GROUPS, ModelConfig, Quantization
from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.loading.networks import parameter_shapes
from mlx_audio_turbo.loading.weights import CODES, is_code

from .precision import stored_as
from .safetensors_writer import Tensor, from_bfloat16, to_bfloat16

PARTS = ("weight", "scales", "biases")
"""The tensors of a quantised layer in place of its weight."""


def layers(config: ModelConfig, quantization: Quantization) -> tuple[str, ...]:
    """The names of the layers that are quantised, as paths without ``.weight``.

    Raises:
        OptionError: the group size does not divide a layer's inputs.
    """
    plain = parameter_shapes(config)
    named = [
        name.removesuffix(".weight")
        for name, shape in plain.items()
        if name.endswith(".weight") and len(shape) == 2 and quantization.covers(name)
    ]
    inputs = {name: plain[f"{name}.weight"][1] for name in named}
    for name, count in inputs.items():
        if count % quantization.group_size:
            raise OptionError(
                f"groups of {quantization.group_size} do not divide the {count} inputs of {name}; "
                f"{_remedy(inputs.values())}"
            )
    return tuple(named)


def _remedy(inputs: Collection[int]) -> str:
    fit = [str(size) for size in QUANTIZATION_GROUPS if not any(n % size for n in inputs)]
    if not fit:
        return "this model cannot be quantised; leave out --quantize"
    return f"choose --group-size {' or '.join(fit)}"


def quantize(weight: np.ndarray, quantization: Quantization, stored: str) -> list[np.ndarray]:
    """The parts of a (out, in) ``weight`` that is in the dtype ``stored``; bfloat16 as its bits.

    The result is that of ``mlx.nn.quantize``. It is computed on the CPU, so that a folder has the
    same bytes on every machine.
    """
    array = mx.array(weight)
    if stored == "BF16":
        array = mx.array(from_bfloat16(weight)).astype(mx.bfloat16)
    parts = mx.quantize(
        array, group_size=quantization.group_size, bits=quantization.bits, stream=mx.cpu
    )
    out = [np.array(parts[0])]
    for part in parts[1:]:
        if stored == "BF16":
            out.append(to_bfloat16(np.array(part.astype(mx.float32))))
        else:
            out.append(np.array(part))
    return out


def dequantize(parts: Sequence[np.ndarray], quantization: Quantization) -> np.ndarray:
    """The (out, in) float32 weights of ``parts``; scales and biases as floats."""
    codes, scales, biases = parts
    weight = mx.dequantize(
        mx.array(codes),
        mx.array(scales.astype(np.float32)),
        mx.array(biases.astype(np.float32)),
        group_size=quantization.group_size,
        bits=quantization.bits,
        stream=mx.cpu,
    )
    return np.array(weight)


def relative_error(
    original: np.ndarray, parts: Sequence[np.ndarray], quantization: Quantization
) -> float:
    """|quantised - original| / |original|; bfloat16 parts as their bits."""
    floats = [from_bfloat16(part) if part.dtype == np.uint16 else part for part in parts[1:]]
    off = dequantize([parts[0], *floats], quantization) - original
    return float(np.linalg.norm(off) / max(np.linalg.norm(original), 1e-30))


def targets(
    config: ModelConfig,
    stored: str,
    *,
    missing: Collection[str] = (),
    quantization: Quantization | None = None,
) -> dict[str, Tensor]:
    """Every tensor of a folder of the type ``stored``; see ``precision.stored_as``."""
    shapes = parameter_shapes(config, missing=missing, quantization=quantization)
    return {
        name: Tensor(CODES if is_code(name, shapes) else stored_as(name, shape, stored), shape)
        for name, shape in shapes.items()
    }
