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


def original_t3_shapes(sizes: Mapping[str, Any]) -> Shapes:
    """What inference reads of an original T3 of ``sizes`` (the fields of OriginalT3Config)."""
    width, inner = sizes["width"], sizes["feed_forward"]
    perceiver = "cond_enc.perceiver."
    shapes: Shapes = {
        "cond_enc.spkr_enc.weight": (width, sizes["speaker_embedding"]),
        "cond_enc.spkr_enc.bias": (width,),
        "cond_enc.emotion_adv_fc.weight": (width, 1),
        perceiver + "pre_attention_query": (1, sizes["perceiver_queries"], width),
        perceiver + "attn.norm.weight": (width,),
        perceiver + "attn.norm.bias": (width,),
        "text_emb.weight": (sizes["text_vocabulary"], width),
        "speech_emb.weight": (sizes["speech_vocabulary"], width),
        "text_pos_emb.emb.weight": (sizes["text_positions"], width),
        "speech_pos_emb.emb.weight": (sizes["speech_positions"], width),
        "speech_head.weight": (sizes["speech_vocabulary"], width),
        "tfmr.norm.weight": (width,),
    }
    for name in ("to_q", "to_k", "to_v", "proj_out"):
        shapes |= {f"{perceiver}attn.{name}.weight": (width, width)}
        shapes |= {f"{perceiver}attn.{name}.bias": (width,)}
    for layer in range(sizes["layers"]):
        block = f"tfmr.layers.{layer}."
        shapes |= {
            f"{block}{name}_layernorm.weight": (width,) for name in ("input", "post_attention")
        }
        shapes |= {f"{block}self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        shapes |= {f"{block}mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        shapes |= {f"{block}mlp.down_proj.weight": (width, inner)}
    return shapes


_ORIGINAL_T3_SCALES = (
    ("_proj.weight", {"self_attn": 1.28, "gate": 0.96, "up": 0.96, "down": 1.28}),
    ("attn.to_", {"to_q": 1.6, "to_k": 1.6, "to_v": 0.752}),
    ("proj_out", {"weight": 0.752}),
    ("speech_head", {"weight": 4 / 1.17}),
)
"""Deviations times the root of the number of inputs."""
_ORIGINAL_T3_TABLES = {
    "text_emb.weight": 0.5,
    "speech_emb.weight": 0.5,
    "text_pos_emb.emb.weight": 0.2,
    "speech_pos_emb.emb.weight": 0.2,
    "cond_enc.spkr_enc.weight": 0.5,
    "cond_enc.emotion_adv_fc.weight": 0.8,
    "cond_enc.perceiver.pre_attention_query": 32**-0.5,
}


def original_t3_weights(sizes: Mapping[str, Any], *, seed: int) -> dict[str, np.ndarray]:
    """An original T3 whose every parameter matters, with a trained model's magnitudes."""

    def scale(name: str, shape: tuple[int, ...]) -> float | None:
        for group, parts in _ORIGINAL_T3_SCALES:
            if group in name:
                return next(x for part, x in parts.items() if part in name) * shape[-1] ** -0.5
        return _ORIGINAL_T3_TABLES.get(name)

    return {
        name: tensor(name, shape, seed=seed, scale=None if len(shape) == 1 else scale(name, shape))
        for name, shape in original_t3_shapes(sizes).items()
    }
