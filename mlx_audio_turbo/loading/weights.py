"""The tensors of a model folder into the networks, strictly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..config import Quantization
from ..errors import ModelFolderError
from ..files.safetensors_reader import Reader
from .networks import LISTENERS

FLOATS = ("F32", "F16", "BF16", "F64")
CODES = "U32"
REMEDY = "convert the model again"
HALVES = {"F16": mx.float16, "BF16": mx.bfloat16}
FLOAT32 = ("s3gen.mel2wav.",)
"""Prefixes of networks that compute in float32 on any device: the vocoder loses 15 to 30 dB in half
precision."""
IN_BFLOAT16 = ("t3.",)
"""Prefixes of networks that bfloat16 is for. The others have float16 in its place: their values are
far from its limits, and bfloat16 would change the mel eight times as much."""
_VECTORS = tuple(f"{name}." for name in LISTENERS)
"""Prefixes of networks whose arithmetic is float32, on matrices in half precision."""


def open_weights(path: Path, stored: Mapping[str, tuple[int, ...]]) -> Reader:
    """The file of a folder's weights, which must hold these tensors, and no others.

    Raises:
        ModelFolderError: the file is absent or damaged; a tensor is missing, extra, misshapen or of
            another type.
    """
    if not path.is_file():
        raise ModelFolderError(f"{path.parent} has no {path.name}; {REMEDY}")
    reader = Reader(path, remedy=REMEDY)
    check(reader, stored)
    return reader


def load_weights(
    networks: nn.Module,
    reader: Reader,
    *,
    dtype: mx.Dtype,
    quantization: Quantization | None = None,
    as_stored: Collection[str] = (),
) -> None:
    """Read the tensors of ``networks``.

    A layer that the file holds quantised and the networks plain is expanded.

    Args:
        reader: of :func:`open_weights`.
        dtype: of the arithmetic, but for :data:`FLOAT32` and :data:`IN_BFLOAT16`.
        as_stored: tensors that stay in half precision where the file has it.

    Raises:
        ModelFolderError: a tensor has values that are not finite.
    """
    flat: list[tuple[str, mx.array]] = tree_flatten(networks.parameters())  # pyright: ignore
    wanted = dict(flat)
    loaded = []
    for name in wanted:
        array = mx.array(reader.read(name))
        if is_code(name, reader.tensors):
            layer = name.removesuffix(".weight")
            if f"{layer}.scales" not in wanted:
                assert quantization is not None
                scales, biases = (
                    mx.array(reader.read(f"{layer}.{part}")).astype(dtype)
                    for part in ("scales", "biases")
                )
                array = mx.dequantize(
                    array,
                    scales,
                    biases,
                    group_size=quantization.group_size,
                    bits=quantization.bits,
                )
        else:
            array = array.astype(_type(name, reader, dtype, as_stored))
        # One by one: what has another precision on disk must not be in memory twice.
        finite = mx.isfinite(array.astype(mx.float32).sum())
        mx.eval(array, finite)
        if not finite.item():
            raise ModelFolderError(_not_finite(name, reader, array.dtype))
        reader.drop(name)
        loaded.append((name, array))
    networks.load_weights(loaded, strict=True)


def is_vector(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor is a bias, the gain of a norm or Snake's alphas.

    Folders hold those in float32: they are 0.1% of the bytes, and a rounding of one changes every
    value of its channel in the same way.
    """
    return len(shape) == 1 or name.endswith((".bias_u", ".bias_v"))


def held_in(name: str, shape: Sequence[int], dtype: mx.Dtype) -> mx.Dtype:
    """The type in which networks hold a tensor of floats where T3's have ``dtype``."""
    if name.startswith(FLOAT32) or (is_vector(name, shape) and name.startswith(_VECTORS)):
        return mx.float32
    return mx.float16 if dtype == mx.bfloat16 and not name.startswith(IN_BFLOAT16) else dtype


def stored_floats(path: Path) -> str:
    """The type in which a folder's file holds most of T3's floats, by its name in MLX."""
    tensor = Reader(path, remedy=REMEDY).tensors.get("t3.speech_head.weight")
    kind = HALVES.get(tensor.dtype, mx.float32) if tensor is not None else mx.float32
    return str(kind).rpartition(".")[2]


def _type(name: str, reader: Reader, dtype: mx.Dtype, as_stored: Collection[str]) -> mx.Dtype:
    """The type that a tensor of floats gets."""
    tensor = reader.tensors[name]
    kind = held_in(name, tensor.shape, dtype)
    return HALVES.get(tensor.dtype, kind) if name in as_stored else kind


def _not_finite(name: str, reader: Reader, dtype: mx.Dtype) -> str:
    """The message for a tensor with values that are not finite in ``dtype``."""
    path = reader.path
    stored = mx.array(reader.read(name)) if name in reader.tensors else None
    kind = str(dtype).rpartition(".")[2]
    if stored is not None and mx.isfinite(stored.astype(mx.float32)).all().item():
        return (
            f"{path}: {name} has values that are too large for {kind}; load it as float32 (dtype)"
        )
    return f"{path}: {name} has values that are not finite; the file is damaged: {REMEDY}"


def check(reader: Reader, stored: Mapping[str, tuple[int, ...]]) -> None:
    """Compare a file's header with the tensors that it must hold.

    Raises:
        ModelFolderError: a tensor is missing, extra, misshapen or of another type.
    """
    path, found = reader.path, reader.tensors
    for what, names in (
        ("lacks", sorted(set(stored) - set(found))),
        ("has the unknown tensor", sorted(set(found) - set(stored))),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelFolderError(f"{path} {what} {names[0] or repr('')}{more}; {REMEDY}")
    for name, shape in stored.items():
        if found[name].shape != shape:
            raise ModelFolderError(
                f"{path}: {name} has shape {found[name].shape}, config.json wants {shape}; {REMEDY}"
            )
        kinds = (CODES,) if is_code(name, stored) else FLOATS
        if found[name].dtype not in kinds:
            raise ModelFolderError(
                f"{path}: {name} is {found[name].dtype}, not {' or '.join(kinds)}; {REMEDY}"
            )


def is_code(name: str, stored: Collection[str]) -> bool:
    """Whether ``name`` holds the packed codes of a quantised layer and no floats."""
    layer, _, leaf = name.rpartition(".")
    return leaf == "weight" and f"{layer}.scales" in stored
