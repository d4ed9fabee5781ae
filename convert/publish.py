"""A model folder to the Hub: the only code that writes there, and only after a confirmation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_audio_turbo.errors import DownloadError, ModelFolderError
from mlx_audio_turbo.loading import hub

from . import builtin_voice, card
from .safetensors_writer import Reader
from .tokenizer import CANGJIE_FILE, LEGACY_FILES

REQUIRED = ("model.safetensors", "config.json", "tokenizer.json", card.FILE)
FILES = (*REQUIRED, *LEGACY_FILES, CANGJIE_FILE, builtin_voice.TARGET)
"""All that is ever uploaded."""


def publish(
    folder: Path,
    repository: str,
    *,
    private: bool,
    confirm: Callable[[str], bool],
    api: Any = None,
) -> str | None:
    """Upload ``folder`` to the Hub as ``repository``.

    Args:
        repository: like ``owner/name``; made where it does not exist.
        confirm: gets what would be uploaded and where to; nothing is sent before it says True.
        api: in place of ``huggingface_hub.HfApi()``.

    Returns:
        The address of what was uploaded, or None where ``confirm`` said no.

    Raises:
        ModelFolderError: the folder is no whole model folder, or the name is none.
        DownloadError: the Hub refused or could not be reached.
    """
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ModelFolderError(f"{repository!r} is no name on the Hub; give owner/name")
    files = _files(folder)
    if not confirm(_summary(folder, repository, files, private=private)):
        return None
    try:
        if api is None:
            from huggingface_hub import HfApi

            api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            allow_patterns=[path.name for path in files],
            commit_message="Converted with mlx_audio_turbo.convert",
        )
    except BaseException as error:
        refused = hub.failure(error, repository, "written")
        if refused is None:
            raise
        raise DownloadError(f"{refused}, and check that `hf auth login` was done") from None
    return f"https://huggingface.co/{repository}"


def _files(folder: Path) -> list[Path]:
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise ModelFolderError(f"{folder} has no {name}; give a folder that build made")
    Reader(folder / "model.safetensors", remedy="convert it again")
    known = [folder / name for name in FILES if (folder / name).is_file()]
    others = sorted(path.name for path in folder.iterdir() if path.name not in FILES)
    if others:
        raise ModelFolderError(
            f"{folder} holds {others[0]}, which is no part of a model folder; move it away"
        )
    return known


def _summary(folder: Path, repository: str, files: list[Path], *, private: bool) -> str:
    sizes = [path.stat().st_size for path in files]
    seen = "private" if private else "PUBLIC"
    lines = [f"To https://huggingface.co/{repository} ({seen}):"]
    lines += [f"  {size:>15,} bytes  {path.name}" for path, size in zip(files, sizes, strict=True)]
    lines.append(f"  {sum(sizes):>15,} bytes  in {len(files)} files")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if not config.get("source", {}).get("trained", True):
        lines.append("The weights are random, not trained.")
    if (folder / builtin_voice.TARGET).is_file():
        lines.append(builtin_voice.WARNING)
    return "\n".join(lines)
