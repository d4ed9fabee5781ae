"""Downloads from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from ..errors import DownloadError

FOLDER_FILES = [
    "config.json",
    "README.md",
    "model*.safetensors",
    "conds.safetensors",
    "tokenizer*.json",
    # what folders of other writers have in place of tokenizer.json
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
]


def download(repository: str, *, revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=FOLDER_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DownloadError(
            f"{repository} could not be downloaded ({reason}); check the name and the network, or "
            "give a folder"
        ) from None
