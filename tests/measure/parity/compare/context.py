"""What our side of the parity command is given."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from safetensors import safe_open

from mlx_audio_turbo.config import ModelConfig, from_json
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo_convert import folder
from mlx_audio_turbo_convert import rules as conversion
from mlx_audio_turbo_convert.source import recognise


@dataclass
class Context:
    """The same checkpoint and clips as the reference had, and the tensors that it recorded.

    own: leave out what does not depend on the checkpoint.
    converted: where the model folder of the checkpoint goes; by default beside it.
    """

    checkpoint: Path
    clips: list[Path]
    stand_ins: Path | None
    recorded: Path
    small: bool = False
    tokenizer: Path | None = None
    own: bool = False
    converted: Path | None = None

    @cached_property
    def config(self) -> ModelConfig:
        values = json.loads((self.checkpoint / "config.json").read_text())
        return from_json(values, absent=TURBO)

    def reference(self, part: str) -> dict[str, np.ndarray]:
        """What the reference's ``record`` of ``part`` gave."""
        with np.load(self.recorded / f"{part}.npz") as file:
            return dict(file)

    def random(self, *shape: int, seed: int, scale: float = 1.0) -> np.ndarray:
        """The normal float32 inputs of the reference's side."""
        return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)

    @property
    def tokenizer_folder(self) -> Path:
        """Where the text tokenizer's files lie: the checkpoint, unless they were given apart."""
        return self.tokenizer or self.checkpoint

    @cached_property
    def folder(self) -> Path:
        """The checkpoint through the converter, in float32."""
        beside = self.checkpoint.with_name(self.checkpoint.name + "-float32")
        output = self.converted or beside
        if not output.exists():
            folder.convert(recognise(self.checkpoint), output, dtype="float32")
        return output

    @property
    def language_table(self) -> Path | None:
        """An older tokenizer of the multilingual model, where it lies beside ours."""
        path = self.tokenizer_folder.parent / "tokenizer_original" / "mtl_tokenizer_v1.json"
        return path if path.is_file() else None

    @property
    def t3_file(self) -> str:
        (path,) = sorted(self.checkpoint.glob("t3_*.safetensors"))
        return path.name


def load_network(
    module: nn.Module,
    rules: Sequence[conversion.Rule | conversion.Drop],
    path: Path,
    *,
    source_prefix: str = "",
    target_prefix: str = "",
    left_out: Collection[str] = (),
) -> None:
    """Fill ``module`` from an upstream file through the converter's own rules, strictly.

    Only the tensors under ``source_prefix`` and not ``left_out`` are read; targets lose
    ``target_prefix``.
    """
    with safe_open(path, "np") as file:
        names = [name for name in file.keys() if name.startswith(source_prefix)]  # noqa: SIM118
        names = [name for name in names if name not in left_out]
        shapes = {
            target_prefix + name: tuple(array.shape)
            for name, array in cast(list[tuple[str, mx.array]], tree_flatten(module.parameters()))
        }
        plan = conversion.plan(rules, names)
        loaded = [
            (name.removeprefix(target_prefix), mx.array(array.astype(np.float32)))
            for name, array in conversion.apply(plan, file.get_tensor, shapes)
        ]
    module.load_weights(loaded, strict=True)
