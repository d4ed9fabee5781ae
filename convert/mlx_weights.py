"""The weights of an MLX folder, the quantised ones expanded.

MLX's affine quantisation: along the last dimension each group of ``group_size`` weights shares a
scale and a bias, weight = scale * q + bias, and the q of ``bits`` bits are packed into uint32. A
layer ``x`` is quantised where the file holds ``x.scales``; ``x.weight`` is then the packed q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.errors import ModelFolderError

from .safetensors_io import Reader


class Weights:
    """Tensors by name, read one at a time.

    Raises:
        ModelFolderError: a file is damaged, a name stands in two of them, or a quantised layer is
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
        """Every tensor, a quantised layer's three as the one weight that they stand for."""
        hidden = {f"{layer}.{leaf}" for layer in self.quantised for leaf in ("scales", "biases")}
        return [name for name in self._readers if name not in hidden]

    def read(self, name: str) -> np.ndarray:
        """The tensor ``name``; a quantised one expanded to float32."""
        layer = name.removesuffix(".weight")
        if not name.endswith(".weight") or layer not in self.quantised:
            return self._readers[name].read(name)
        settings = self._settings(layer)
        packed, scales, biases = (
            self._readers[f"{layer}.{leaf}"].read(f"{layer}.{leaf}")
            for leaf in ("weight", "scales", "biases")
        )
        bits, group_size = settings
        values = packed.shape[-1] * 32 // bits if packed.ndim == 2 else 0
        if packed.dtype != np.uint32 or values != scales.shape[-1] * group_size:
            raise ModelFolderError(
                f"{layer} in {self._place(layer, 'weight')} is not of {bits} bits in groups of "
                f"{group_size}, as its config.json says; {self._remedy}"
            )
        wide = mx.dequantize(
            mx.array(packed),
            # In float32, so that what is stored is rounded once.
            mx.array(scales.astype(np.float32)),
            mx.array(biases.astype(np.float32)),
            group_size=group_size,
            bits=bits,
        )
        return np.array(wide)

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
