"""Weights of a checkpoint that no file holds: each tensor follows from a seed and its own name.

Pure numpy, so that the reference's side and ours compute the same values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Shapes = dict[str, tuple[int, ...]]


def tensor(
    name: str, shape: tuple[int, ...], *, seed: int, scale: float | None = None
) -> np.ndarray:
    """Normal float32 values for the upstream tensor ``name``.

    Vectors differ by about 0.1 from 1 (norm gains) or 0 (biases), so that none is an identity.
    Matrices keep the variance of their input unless ``scale`` gives their deviation.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "little")))
    values = generator.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:
        return np.float32(name.endswith("weight")) + np.float32(0.1) * values
    fan_in = shape[0] if ".c_" in name else int(np.prod(shape[1:]))
    return values * np.float32(fan_in**-0.5 if scale is None else scale)


def t3_shapes(sizes: Mapping[str, Any]) -> Shapes:
    """What inference reads of a T3 of ``sizes`` (the fields of T3Config), in upstream layout."""
    width, ids = sizes["width"], sizes["speech_vocabulary"]
    shapes: Shapes = {
        "cond_enc.spkr_enc.weight": (width, sizes["speaker_embedding"]),
        "cond_enc.spkr_enc.bias": (width,),
        "text_emb.weight": (sizes["text_vocabulary"], width),
        "speech_emb.weight": (ids, width),
        "speech_head.weight": (ids, width),
        "speech_head.bias": (ids,),
        "tfmr.wpe.weight": (sizes["positions"], width),
        "tfmr.ln_f.weight": (width,),
        "tfmr.ln_f.bias": (width,),
    }
    products = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, 4 * width),
        "mlp.c_proj": (4 * width, width),
    }
    for layer in range(sizes["layers"]):
        block = f"tfmr.h.{layer}."
        for name in ("ln_1", "ln_2"):
            shapes |= {f"{block}{name}.weight": (width,), f"{block}{name}.bias": (width,)}
        for name, shape in products.items():
            shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[1:]}
    return shapes


_T3_SCALES = {
    "text_emb.weight": 0.3,
    "speech_emb.weight": 0.3,
    "tfmr.wpe.weight": 0.05,
}


def t3_weights(sizes: Mapping[str, Any], *, seed: int) -> dict[str, np.ndarray]:
    """A T3 whose every parameter matters and whose logits have a trained model's spread."""
    scales = _T3_SCALES | {"speech_head.weight": 3 * sizes["width"] ** -0.5}
    return {
        name: tensor(name, shape, seed=seed, scale=scales.get(name))
        for name, shape in t3_shapes(sizes).items()
    }
