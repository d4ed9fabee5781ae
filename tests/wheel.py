"""The wheel of this checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def build_wheel(folder: Path) -> Path:
    """Built from a copy of the tree, below ``folder``, which keeps build files out of this one."""
    source = folder / "source"
    for name in ("mlx_audio_turbo", "convert"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--no-deps", "-q", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel
