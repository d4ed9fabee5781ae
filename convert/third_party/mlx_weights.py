"""The weights of an MLX folder, the quantised ones expanded.

MLX's affine quantisation: along the last dimension each group of ``group_size`` weights shares a
scale and a bias, weight = scale * q + bias, and the q of ``bits`` bits are packed into uint32. A
layer ``x`` is quantised where the file holds ``x.scales``; ``x.weight`` is then the packed q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.errors import ModelFolderError

from ..safetensors_writer import Reader

ROWS = 2048
"""Rows that are expanded at once, to limit memory."""


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    """Numbers (rows, n) of ``bits`` bits out of (rows, n * bits / 32) uint32.

    They are contiguous from the lowest bit of the lowest byte, across words: eight of them are
    ``bits`` bytes.
    """
    eights = np.ascontiguousarray(packed).view(np.uint8).reshape(len(packed), -1, bits)
    numbers = np.zeros(eights.shape[:2], np.uint64)
    for i in range(bits):
        numbers |= eights[..., i].astype(np.uint64) << np.uint64(8 * i)
    shifts = np.arange(0, 8 * bits, bits, dtype=np.uint64)
    out = (numbers[..., None] >> shifts) & np.uint64(2**bits - 1)
    return out.astype(np.uint8).reshape(len(packed), -1)


class Weights:
    """Tensors by name, read one at a time.

    Raises:
        ModelFolderError: a file is damaged, a name is in two of them, or a quantised layer is
            of a kind that is not known.
    """

    def __init__(self, files: Sequence[Path], quantization: Mapping[str, Any], *, remedy: str):
        self._remedy = remedy
        self._quantization = quantization
        self._readers: dict[str, Reader] = {}
        for file in files:
            reader = Reader(file, remedy=remedy)
            for name in reader.tensors:
                if name in self._readers:
                    raise ModelFolderError(
                        f"{name!r} is both in {self._readers[name].path} and {file}; {remedy}"
                    )
                self._readers[name] = reader
        layers = [
            name.removesuffix(".scales") for name in self._readers if name.endswith(".scales")
        ]
        self.quantised = frozenset(layers)
        for layer in layers:
            for leaf in ("weight", "biases"):
                if f"{layer}.{leaf}" not in self._readers:
                    raise ModelFolderError(
                        f"{self._place(layer, 'scales')} has {layer}.scales and no {leaf}; {remedy}"
                    )

    def _place(self, layer: str, leaf: str) -> Path:
        return self._readers[f"{layer}.{leaf}"].path

    @property
    def names(self) -> list[str]:
        """Every tensor, a quantised layer's three as one weight."""
        hidden = {f"{layer}.{leaf}" for layer in self.quantised for leaf in ("scales", "biases")}
        return [name for name in self._readers if name not in hidden]

    def read(self, name: str) -> np.ndarray:
        """The tensor ``name``; a quantised one expanded to float32."""
        layer = name.removesuffix(".weight")
        if not name.endswith(".weight") or layer not in self.quantised:
            return self._readers[name].read(name)
        bits, group_size = self._settings(layer)
        packed, scales, biases = (
            self._readers[f"{layer}.{leaf}"].read(f"{layer}.{leaf}")
            for leaf in ("weight", "scales", "biases")
        )
        values = packed.shape[-1] * 32 // bits
        fits = packed.ndim == scales.ndim == 2 and packed.dtype == np.uint32
        fits = fits and scales.shape == biases.shape == (len(packed), values // group_size)
        if not fits or packed.shape[-1] * 32 != values * bits or values % group_size:
            raise ModelFolderError(
                f"{layer} in {self._place(layer, 'weight')} is not of {bits} bits in groups of "
                f"{group_size}, as its config.json says; {self._remedy}"
            )
        # In float32, so that what is stored is rounded once.
        wide = np.empty((*scales.shape, group_size), np.float32)
        for start in range(0, len(wide), ROWS):
            rows = slice(start, start + ROWS)
            wide[rows] = unpack(packed[rows], bits).reshape(wide[rows].shape)
            wide[rows] *= scales[rows, :, None].astype(np.float32)
            wide[rows] += biases[rows, :, None].astype(np.float32)
        return wide.reshape(len(wide), values)

    def _settings(self, layer: str) -> tuple[int, int]:
        """Bits and group size of a layer: its own entry of ``quantization``, or the common one."""
        own = self._quantization.get(layer)
        values = own if isinstance(own, dict) else self._quantization
        bits, group_size = values.get("bits"), values.get("group_size", 64)
        mode = values.get("mode", "affine")
        if mode != "affine" or bits not in (2, 3, 4, 5, 6, 8) or group_size not in (32, 64, 128):
            raise ModelFolderError(
                f"{layer} in {self._place(layer, 'weight')} is quantised with {mode!r}, {bits!r} "
                f"bits and groups of {group_size!r}, which is not known here; take another folder"
            )
        return bits, group_size
