"""A folder, a Hub repository or ``tiny`` → networks, tokenizer and configuration.

The only module of the library that reads the network.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import platformdirs

from .. import ops
from ..config import ModelConfig, Quantization, from_dict
from ..errors import DownloadError, ModelFolderError, OptionError
from ..text.tokenizer import TextTokenizer
from ..voice import Voice
from .networks import LISTENERS, Networks, parameter_shapes, quantize
from .weights import load_weights

logger = logging.getLogger("mlx_audio_turbo")

DEFAULT_MODEL = "ResembleAI/chatterbox-turbo"
"""The official checkpoint; converted once, then loaded from the cache."""
MODEL_TYPE = "chatterbox_turbo"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FOLDER_FILES = [
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
VOICE_FILE = "conds.safetensors"


@dataclass(frozen=True)
class LoadedModel:
    """What a folder holds, ready to run.

    quantization: how the folder holds the weights of some layers.
    expanded: they were made plain again on loading: a CPU has no fast quantised products.
    missing: why the folder lacks a network of ``LISTENERS``, by name; without all three there is
        no new voice.
    builtin_voice: who speaks when nobody is named; rarely there.
    notes: what whoever made the folder wants its users to know.
    """

    networks: Networks
    tokenizer: TextTokenizer
    config: ModelConfig
    folder: Path
    family: str
    trained: bool
    dtype: mx.Dtype
    quantization: Quantization | None
    expanded: bool
    missing: Mapping[str, str]
    builtin_voice: Voice | None
    notes: tuple[str, ...]


def cache_folder() -> Path:
    """Where converted models are kept: ``MLX_AUDIO_TURBO_CACHE`` or the user's cache."""
    chosen = os.environ.get("MLX_AUDIO_TURBO_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("mlx_audio_turbo"))


def resolve(
    model: str | Path,
    *,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of a model: a path as it is, ``tiny`` made on the spot, a Hub id downloaded.

    A checkpoint in the upstream layout or in another MLX layout, local or on the Hub, is converted
    once into the cache. Of the official ones what is there is taken without asking the Hub.

    Args:
        revision: commit of a Hub repository.
        progress: called with the bytes done so far and in all where a checkpoint is converted.

    Raises:
        ModelFolderError: no such folder, and not a name that the Hub could know.
        DownloadError: the Hub could not be reached and the cache does not hold the model.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise ModelFolderError(
            f"the model is a {type(model).__name__}; give a folder, a Hub id or 'tiny'"
        )
    if str(model) == "tiny":
        return _converter("synthetic.tiny").ensure(cache_folder())
    folder = Path(model).expanduser()
    if not str(model) or not folder.is_dir():
        if str(model) and folder.exists():
            raise ModelFolderError(f"{folder} is a file; give the folder that holds config.json")
        if not _HUB_ID.fullmatch(str(model)):
            raise ModelFolderError(
                f"no model folder at {folder}; give a folder, a Hub id like {DEFAULT_MODEL}, "
                "or 'tiny'"
            )
        if str(model) in _converter("upstream").REPOSITORIES:
            return _converter("folder").ensure_published(
                str(model), cache_folder(), revision=revision, progress=progress
            )
        folder = _download(str(model), revision=revision)
    if (folder / "model.safetensors").exists() or not any(folder.glob("t3_*.safetensors")):
        return _converter("third_party.build").resolve(folder, cache_folder())
    return _converter("folder").ensure(folder, cache_folder(), progress=progress)


def load(folder: Path, *, dtype: mx.Dtype | None = None) -> LoadedModel:
    """Read a model folder strictly.

    Args:
        dtype: of the arithmetic; by default float16 on a GPU and float32 on the CPU, where half
            precision has no fast path.

    Raises:
        ModelFolderError: a file is absent or damaged; a tensor is missing, extra or misshapen.
    """
    values = _read_config(folder)
    config = from_dict(ModelConfig, values["architecture"], where="architecture")
    missing = _missing(values, folder)
    family = str(values.get("family", MODEL_TYPE))
    dtype = dtype or (mx.float16 if ops.on_gpu() else mx.float32)
    quantization = _quantization(values, folder)
    networks = Networks(config, missing=missing)
    expanded = quantization is not None and not ops.on_gpu()
    if quantization and not expanded:
        quantize(networks, quantization)
    if quantization and expanded:
        logger.info(
            f"the {quantization.bits}-bit weights are expanded to {str(dtype).rpartition('.')[2]}: "
            "a CPU has no fast quantised products"
        )
    load_weights(
        networks,
        folder / "model.safetensors",
        parameter_shapes(config, missing=missing, quantization=quantization),
        dtype=dtype,
        quantization=quantization,
    )
    voice = folder / VOICE_FILE
    return LoadedModel(
        networks=networks,
        tokenizer=TextTokenizer(folder),
        config=config,
        folder=folder,
        family=family,
        trained=bool(values.get("source", {}).get("trained", True)),
        dtype=dtype,
        quantization=quantization,
        expanded=expanded,
        missing=missing,
        builtin_voice=Voice.load_builtin(voice, family=family) if voice.is_file() else None,
        notes=tuple(map(str, values.get("notes", ()))),
    )


def _quantization(values: dict[str, Any], folder: Path) -> Quantization | None:
    if values.get("quantization") is None:
        return None
    try:
        return from_dict(Quantization, values["quantization"], where="quantization")
    except OptionError as error:
        raise ModelFolderError(
            f"quantization in {folder / 'config.json'}: {error}, and convert the model again"
        ) from None


def _missing(values: dict[str, Any], folder: Path) -> dict[str, str]:
    missing = values.get("missing", {})
    if not isinstance(missing, dict) or not set(missing) <= set(LISTENERS):
        raise ModelFolderError(
            f'"missing" in {folder / "config.json"} names other networks than '
            f"{', '.join(LISTENERS)}; convert the model again"
        )
    return {name: str(reason) for name, reason in missing.items()}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelFolderError(f"{folder} has no config.json; convert the model again")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelFolderError(f"{path} cannot be read ({error}); convert it again") from None
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != MODEL_TYPE or "architecture" not in values:
        raise ModelFolderError(
            f"{path} describes {kind or 'no known model'}, not a {MODEL_TYPE} folder of this "
            "converter; convert the model with mlx_audio_turbo.convert"
        )
    for key, known in (("source", dict), ("notes", list)):
        if not isinstance(values.get(key, known()), known):
            raise ModelFolderError(f"{key!r} in {path} is damaged; convert the model again")
    return values


def _download(repository: str, *, revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_FOLDER_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DownloadError(
            f"{repository} could not be downloaded ({reason}); check the name and the network, or "
            "give a folder"
        ) from None


def _converter(module: str) -> Any:
    """A module of the converter, which the run time only knows when a model must be made."""
    return importlib.import_module(f"mlx_audio_turbo_convert.{module}")
