"""Whose model folder it is, where another converter wrote it.

The layout is known by the repository or by the marks that its writer left, never by the shapes of
its tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_audio_turbo.config import ModelConfig
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.loading import hub
from mlx_audio_turbo.presets import MULTILINGUAL_TYPE, ORIGINAL_TYPE, TURBO, TURBO_TYPE

from ..rules import Drop, Rule
from . import mlx_audio, s3_tokenizer

SIZES: ModelConfig = TURBO
"""Such folders do not give their sizes; all that were published are Turbo's."""


@dataclass(frozen=True)
class Layout:
    """How one converter writes its folders.

    suspect: networks of such a folder that are not taken, with the reason.
    """

    name: str
    repositories: tuple[str, ...]
    rules: tuple[Rule | Drop, ...]
    suspect: Mapping[str, str]


A = Layout(
    "A",
    tuple(f"mlx-community/chatterbox-turbo-{kind}" for kind in ("fp16", "8bit", "6bit", "4bit")),
    tuple(mlx_audio.RULES_A),
    {},
)
B = Layout(
    "B",
    tuple(f"mlx-community/Chatterbox-Turbo-TTS-{kind}" for kind in ("fp16", "8bit", "4bit")),
    tuple(mlx_audio.RULES_B),
    {"ve": mlx_audio.GATES},
)
LAYOUTS = (A, B)


@dataclass(frozen=True)
class ThirdPartyFolder:
    """A folder of another converter, ready to convert.

    repository, revision: where it was published; None where its place on the disk does not say.
    quantization: as its ``config.json`` gives it; empty where nothing is quantised.
    """

    folder: Path
    layout: Layout
    config: ModelConfig
    quantization: Mapping[str, Any]
    repository: str | None = None
    revision: str | None = None

    @property
    def weights(self) -> tuple[Path, ...]:
        """The files of tensors."""
        return tuple(sorted(self.folder.glob("model*.safetensors")))

    @property
    def name(self) -> str:
        """The repository, or the place of the folder."""
        return self.repository or str(self.folder)

    @property
    def remedy(self) -> str:
        """How to get a damaged file again."""
        return hub.remedy(self.folder / "model.safetensors")

    def rules(self, names: Iterable[str]) -> tuple[Rule | Drop, ...]:
        """The layout's table; of A's two the one that names CAM++ as this file does."""
        if self.layout is A and any(map(mlx_audio.is_upstream_campplus, names)):
            return tuple(mlx_audio.RULES_A_UPSTREAM_CAMPPLUS)
        return self.layout.rules


def recognise(folder: Path) -> ThirdPartyFolder | None:
    """What another converter wrote into ``folder``; None where it is none that is known here.

    Raises:
        ModelFolderError: the folder is the S3 tokenizer alone, or holds another converter's form of
            the original or multilingual model.
    """
    values = _read_config(folder)
    repository, revision = hub.snapshot_of(folder)
    if values is None or "architecture" in values:
        return None
    if values.get("model_type") == s3_tokenizer.MODEL_TYPE:
        raise ModelFolderError(
            f"{folder} is the S3 tokenizer alone; give the folder of a whole model, which takes "
            "this one from beside it or from the Hub's cache"
        )
    layout = next((layout for layout in LAYOUTS if repository in layout.repositories), None)
    if layout is None:
        _refuse_original(folder, values, repository)
        if values.get("model_type") != TURBO_TYPE:
            return None
        layout = _layout(folder, values)
    quantization = values.get("quantization") or {}
    found = ThirdPartyFolder(folder, layout, SIZES, quantization, repository, revision)
    return found if found.weights else None


def _refuse_original(folder: Path, values: Mapping[str, Any], repository: str | None) -> None:
    """Other converters' layouts of these models have no table here."""
    kind = values.get("model_type")
    named = str(repository or "").lower()
    if kind not in (ORIGINAL_TYPE, MULTILINGUAL_TYPE) and "chatterbox" not in named:
        return
    if kind == TURBO_TYPE or "turbo" in named:
        return
    model = "multilingual" if kind == MULTILINGUAL_TYPE or "multilingual" in named else "original"
    raise ModelFolderError(
        f"{repository or folder} is another converter's form of the {model} model, which is not "
        f"read here; use the published one: --model {model}"
    )


def _layout(folder: Path, config: Mapping[str, Any]) -> Layout:
    """Whose marks a folder of unknown origin bears; in doubt B, whose VoiceEncoder is not used."""
    card = folder / "README.md"
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    marks_of_b = "version" in config or "mlx-audio-plus" in text
    return A if not marks_of_b and (folder / "vocab.json").is_file() else B


def _read_config(folder: Path) -> dict[str, Any] | None:
    try:
        values = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
