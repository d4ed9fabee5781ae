"""Measured data beside the checkout, which not every machine has."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "tests" / "data" / "1069-133699-0000.flac"


def data_folder() -> Path | None:
    """Stand-in weights and more clips; ``MLX_AUDIO_TURBO_DATA`` names another place."""
    folder = Path(os.environ.get("MLX_AUDIO_TURBO_DATA", ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


def clips() -> list[Path]:
    """Clips of several speakers, or the one of the repository."""
    data = data_folder()
    return sorted((data / "speech").glob("*.flac")) if data else [CLIP]


def trained_checkpoint() -> Path | None:
    """The checkpoint that ``demo`` was first made of, in the upstream layout."""
    data = data_folder()
    folder = data.parent / "training" / "checkpoint" if data else None
    return folder if folder and folder.is_dir() else None
