"""An upstream checkpoint as other converters publish it: layouts A and B and the S3 tokenizer.

Written from what those converters do, apart from the tables of ``convert/mapping``.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.tokenizer import LEGACY_FILES

Tensors = dict[str, np.ndarray]


def _less(number: str) -> str:
    return str(int(number) - 1)


_RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^flow\.", ""),
    (r"\.xvector\.", "."),
    (
        r"\.block(\d+)\.tdnnd(\d+)\.",
        lambda m: f".blocks.{_less(m[1])}.layers.{_less(m[2])}.",
    ),
    (r"\.transit(\d+)\.", lambda m: f".transits.{_less(m[1])}."),
    (r"nonlinear(\d?)\.batchnorm", r"bn\1"),
    (r"\.shortcut\.0\.", ".shortcut_conv."),
    (r"\.shortcut\.1\.", ".shortcut_bn."),
    (r"_blocks\.(\d+)\.0\.", r"_blocks.\1.resnet."),
    (r"_blocks\.(\d+)\.1\.(\d+)\.", r"_blocks.\1.transformer_blocks.\2."),
    (r"down_blocks\.0\.2\.", "down_blocks.0.downsample.conv.conv."),
    (r"up_blocks\.0\.2\.", "up_blocks.0.upsample.conv.conv."),
    (r"block([12]?)\.block\.0\.", r"block\1.block.0.conv.conv."),
    (r"block([12]?)\.block\.2\.", r"block\1.block.1."),
    (r"\.mlp\.1\.", ".mlp.0."),
    (r"\.ff\.net\.2\.", ".ff.net.1."),
    (r"embed\.out\.0\.", "embed.linear."),
    (r"embed\.out\.1\.", "embed.norm."),
    (r"condnet\.(\d+)\.", lambda m: f"condnet.{int(m[1]) // 2}.conv."),
    (
        r"(res_conv|final_proj|conv_pre|conv_post|ups\.\d+|source_downs\.\d+|convs[12]\.\d+)"
        r"\.(weight|bias)$",
        r"\1.conv.\2",
    ),
]


def _s3gen(upstream_tensors: Tensors) -> Tensors:
    gain, direction = ".parametrizations.weight.original0", ".parametrizations.weight.original1"
    tensors: Tensors = {}
    for name, array in upstream_tensors.items():
        if name.startswith("tokenizer.") or name.endswith(("num_batches_tracked", gain)):
            continue
        if name.endswith(direction):
            name = name.removesuffix(direction)
            norm = np.sqrt(np.sum(array**2, axis=(1, 2), keepdims=True))
            array = upstream_tensors[name + gain] * array / norm
            name += ".weight"
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        if array.ndim == 3:
            array = array.transpose((1, 2, 0) if ".ups." in name else (0, 2, 1))
        elif array.ndim == 4:
            array = array.transpose(0, 2, 3, 1)
        tensors[f"s3gen.{name}"] = array
    return tensors


def _t3(upstream_tensors: Tensors) -> Tensors:
    linear = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
    return {
        f"t3.{name}": array.T if linear.search(name) else array
        for name, array in upstream_tensors.items()
    }


def _voice_encoder(upstream_tensors: Tensors, *, swapped: bool) -> Tensors:
    def gates(array: np.ndarray) -> np.ndarray:
        i, f, g, o = np.split(array, 4)
        return np.concatenate([i, f, o, g] if swapped else [i, f, g, o])

    tensors = {
        f"ve.{name}": array
        for name, array in upstream_tensors.items()
        if not name.startswith("lstm.")
    }
    for i in range(3):
        part = {
            "Wx": upstream_tensors[f"lstm.weight_ih_l{i}"],
            "Wh": upstream_tensors[f"lstm.weight_hh_l{i}"],
            "bias": upstream_tensors[f"lstm.bias_ih_l{i}"] + upstream_tensors[f"lstm.bias_hh_l{i}"],
        }
        tensors |= {f"ve.lstm{i + 1}.{name}": gates(array) for name, array in part.items()}
    return tensors


def _sources(checkpoint: Path) -> tuple[Tensors, Tensors, Tensors]:
    source = recognise(checkpoint)
    t3, s3gen, ve = (load_file(path) for path in source.weights)
    return t3, s3gen, ve


def _half(tensors: Mapping[str, np.ndarray]) -> Tensors:
    return {name: np.ascontiguousarray(a.astype(np.float16)) for name, a in tensors.items()}


def _quantise(tensors: Tensors, bits: int, wanted: Callable[[str], bool]) -> Tensors:
    """Linear and embedding weights, which are those of two dimensions, as MLX packs them."""
    out: Tensors = {}
    for name, array in tensors.items():
        if not (name.endswith(".weight") and array.ndim == 2 and wanted(name)):
            out[name] = array
            continue
        if array.shape[-1] % 64:
            out[name] = array
            continue
        parts = mx.quantize(mx.array(array), group_size=64, bits=bits)
        for leaf, part in zip(("weight", "scales", "biases"), parts, strict=True):
            out[f"{name.removesuffix('weight')}{leaf}"] = np.array(part)
    return out


def write_a(
    checkpoint: Path, folder: Path, *, bits: int | None = None, campplus: bool = True
) -> Path:
    """Layout A: legacy tokenizer files, computed arrays among the weights, all layers quantised."""
    t3, s3gen, ve = _sources(checkpoint)
    tensors = _half({**_voice_encoder(ve, swapped=False), **_t3(t3), **_s3gen(s3gen)})
    tensors |= {
        "s3gen.encoder.embed.pos_enc.pe": np.zeros((1, 9, 48), np.float16),
        "s3gen.encoder.up_embed.pos_enc.pe": np.zeros((1, 9, 48), np.float16),
        "s3gen.mel2wav.stft_window": np.zeros(16, np.float16),
        "s3gen.trim_fade": np.zeros(960, np.float16),
        "s3gen.tokenizer.window": np.zeros(400, np.float16),
        "gen.prompt_token": np.zeros((1, 5), np.int64),
        "t3.speaker_emb": np.zeros((1, 256), np.float16),
    }
    config: dict = {"model_type": "chatterbox_turbo"}
    if not campplus:
        tensors = {k: v for k, v in tensors.items() if "speaker_encoder" not in k}
    if bits:
        tensors = _quantise(tensors, bits, lambda name: True)
        config["quantization"] = {"group_size": 64, "bits": bits}
    _write(folder, tensors, config)
    for name in LEGACY_FILES:
        shutil.copyfile(checkpoint / name, folder / name)
    return folder


def write_b(
    checkpoint: Path, folder: Path, *, bits: int | None = None, swapped: bool = True
) -> Path:
    """Layout B: one ``tokenizer.json`` tags by the alphabet, only T3's blocks quantised."""
    t3, s3gen, ve = _sources(checkpoint)
    tensors = _half({**_voice_encoder(ve, swapped=swapped), **_t3(t3), **_s3gen(s3gen)})
    config: dict = {"model_type": "chatterbox_turbo", "version": "1.0", "dtype": "float16"}
    if bits:
        tensors = _quantise(tensors, bits, lambda name: name.startswith("t3.tfmr.h."))
        config["quantization"] = {
            "bits": bits,
            "group_size": 64,
            "quantized_components": ["t3.tfmr.h"],
        }
    _write(folder, tensors, config)
    vocabulary = json.loads((checkpoint / "vocab.json").read_text("utf-8"))
    tags = json.loads((checkpoint / "added_tokens.json").read_text("utf-8"))
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tags[tag], "content": tag, **plain, "special": True} for tag in sorted(tags)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    return folder


def write_s3_tokenizer(checkpoint: Path, folder: Path) -> Path:
    """``mlx-community/S3TokenizerV2``, in float32."""
    _, s3gen, _ = _sources(checkpoint)
    tensors: Tensors = {}
    for name, array in s3gen.items():
        if not name.startswith("tokenizer.") or name.endswith(("_mel_filters", "window")):
            continue
        name = name.removeprefix("tokenizer.").replace("._codebook.", ".fsq_codebook.")
        name = re.sub(r"\.mlp\.(\d)\.", r".mlp.layers.\1.", name)
        tensors[name] = np.ascontiguousarray(array.swapaxes(1, 2) if array.ndim == 3 else array)
    _write(folder, tensors, {"model_type": "s3_tokenizer_v2", "version": "2.0"})
    return folder


def _write(folder: Path, tensors: Tensors, config: dict) -> None:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
