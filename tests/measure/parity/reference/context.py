"""What the reference's side of the parity command is given. Runs under torch, without MLX."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Context:
    """One recording.

    checkpoint: folder in the upstream layout, with a ``config.json`` whose ``"architecture"`` holds
        the sizes (the fields of ``mlx_audio_turbo.config.ModelConfig``).
    clips: reference clips, any length over 5 s.
    stand_ins: folder with trained weights for the two speaker networks, or None.
    small: record few frames and steps, for the tensors kept in the repository.
    tokenizer: folder with the text tokenizer's files, where they are not in the checkpoint.
    own: leave out what does not depend on the checkpoint.
    """

    checkpoint: Path
    clips: list[Path]
    stand_ins: Path | None = None
    small: bool = False
    tokenizer: Path | None = None
    own: bool = False
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        return json.loads((self.checkpoint / "config.json").read_text())

    @property
    def architecture(self) -> dict[str, Any]:
        return self.settings["architecture"]

    def weights(self, filename: str) -> dict[str, Any]:
        """A checkpoint file's tensors as torch tensors, float32."""
        from safetensors.torch import load_file

        tensors = load_file(str(self.checkpoint / filename))
        return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}

    @property
    def tokenizer_folder(self) -> Path:
        """Where the text tokenizer's files lie: the checkpoint, unless they were given apart."""
        return self.tokenizer or self.checkpoint

    @property
    def language_table(self) -> Path | None:
        """An older tokenizer of the multilingual model, where it lies beside ours."""
        path = self.tokenizer_folder.parent / "tokenizer_original" / "mtl_tokenizer_v1.json"
        return path if path.is_file() else None

    @property
    def t3_file(self) -> str:
        (path,) = sorted(self.checkpoint.glob("t3_*.safetensors"))
        return path.name

    @property
    def s3gen_file(self) -> str:
        (path,) = sorted(self.checkpoint.glob("s3gen*.safetensors"))
        return path.name

    def random(self, *shape: int, seed: int, scale: float = 1.0) -> np.ndarray:
        """Normal float32 inputs, the same on both sides."""
        return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
