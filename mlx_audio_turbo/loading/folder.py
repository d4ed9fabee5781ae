"""A model folder → networks, tokenizer and configuration."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from .. import ops
from ..config import ModelConfig, Quantization, from_dict, from_json
from ..encoders.s3_tokenizer import S3Tokenizer
from ..errors import ModelFolderError, OptionError
from ..files.safetensors_reader import Reader, stand_in
from ..ops import blas, compiled, cuda_kernels, lanes
from ..options import RUN_OPTIONS, definitions
from ..presets import MULTILINGUAL_TYPE, ORIGINAL_TYPE, TURBO, TURBO_TYPE, VOICE_FILE
from ..text.tokenizer import TextTokenizer
from ..voice import Voice
from . import hub
from .catalog import VOICES
from .later import Later
from .networks import (
    LISTENERS,
    Hearing,
    Networks,
    parameter_shapes,
    quantize,
    stored_tensors,
)
from .tokenizer import load_tokenizer
from .weights import REMEDY, load_weights, open_weights, stored_floats

logger = logging.getLogger("mlx_audio_turbo")

MODEL_TYPES = (TURBO_TYPE, ORIGINAL_TYPE, MULTILINGUAL_TYPE)
"""The values of ``model_type`` in ``config.json`` that this version loads."""


@dataclass(frozen=True)
class LoadedModel:
    """What a folder holds, ready to run.

    networks: all but the S3 tokenizer.
    s3_tokenizer: in memory only while a clip is read; None where the folder lacks it.
    quantization: how the folder holds the weights of some layers.
    expanded: they were made plain again on loading, as no kernel on this machine reads them.
    missing: why the folder lacks a network of ``LISTENERS``, by name; without all three there is
        no new voice.
    builtin_voice: the voice that speaks where none is given; most folders lack it.
    voices: the files of the voices that come with the model, by name.
    notes: what whoever made the folder wants its users to know.
    """

    model_type: str
    networks: Networks
    s3_tokenizer: Later[S3Tokenizer] | None
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
    voices: Mapping[str, Path]
    notes: tuple[str, ...]


def load(
    folder: Path, *, dtype: mx.Dtype | None = None, unused: Collection[str] = ()
) -> LoadedModel:
    """Read a model folder strictly.

    Args:
        dtype: of the arithmetic; by default float16 on a GPU and float32 on the CPU, where half
            precision has no fast path.
        unused: networks to leave out of memory, such as ``"t3"``.

    Raises:
        ModelFolderError: a file is absent or damaged; a tensor is missing, extra or misshapen.
    """
    blas.load()
    cuda_kernels.keep_compiled()
    try:
        _check_files(folder)
        return _load(folder, dtype=dtype, unused=unused)
    except ModelFolderError as error:
        raise hub.with_remedy(error, folder, converted=REMEDY) from None


def _check_files(folder: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", VOICE_FILE):
        path = folder / name
        if what := stand_in(path):
            raise ModelFolderError(f"{path} is {what}; {hub.remedy(path)}")
        if not path.is_file() and name != VOICE_FILE:
            raise ModelFolderError(f"{folder} has no {name}{_why(folder, name)}; {REMEDY}")


def _why(folder: Path, name: str) -> str:
    if hub.snapshot_of(folder)[0] is None:
        return ""
    if name == "config.json":
        return " (it is no model folder, or the download is not whole)"
    return " (the download is not whole)"


def _load(folder: Path, *, dtype: mx.Dtype | None, unused: Collection[str]) -> LoadedModel:
    values = _read_config(folder)
    config = from_json(values, absent=TURBO)
    _check_generation(config, folder)
    missing = _missing(values, folder)
    family = str(values.get("family", values["model_type"]))
    dtype = dtype or (mx.float16 if ops.on_gpu() else mx.float32)
    quantization = _quantization(values, folder)
    networks = Networks(config, missing={*missing, *unused, "s3tokenizer"})
    t3 = networks.t3 if "t3" not in {*missing, *unused} and not ops.on_gpu() else None
    reads_stored = t3 is not None and dtype == mx.float32 and t3.reads_stored()
    if t3 is not None and not reads_stored and (why := compiled.reason()):
        logger.info(f"T3 computes without compiled kernels: {why}")
    expanded = quantization is not None and not ops.on_gpu() and not reads_stored
    if quantization and not expanded:
        quantize(networks, quantization)
    if t3 is not None and reads_stored:
        t3.start_compiling(quantization, stored_floats(folder / "model.safetensors"))
    if dtype == mx.float32 and not ops.on_gpu():
        lanes.compile_in_background()
    if quantization and expanded:
        logger.info(
            f"the {quantization.bits}-bit weights are expanded to {str(dtype).rpartition('.')[2]}"
        )
    reader = open_weights(
        folder / "model.safetensors",
        parameter_shapes(config, missing=missing, quantization=quantization),
    )
    load_weights(
        networks,
        reader,
        dtype=dtype,
        quantization=quantization,
        as_stored=stored_tensors(networks) if reads_stored else (),
    )
    voice = folder / VOICE_FILE
    return LoadedModel(
        model_type=values["model_type"],
        networks=networks,
        s3_tokenizer=None if "s3tokenizer" in missing else _s3_tokenizer(reader, config, dtype),
        tokenizer=load_tokenizer(folder, config),
        config=config,
        folder=folder,
        family=family,
        trained=bool(values.get("source", {}).get("trained", True)),
        dtype=dtype,
        quantization=quantization,
        expanded=expanded,
        missing=missing,
        builtin_voice=Voice.load_builtin(voice, family=family) if voice.is_file() else None,
        voices={path.stem: path for path in sorted((folder / VOICES).glob("*.safetensors"))},
        notes=tuple(map(str, values.get("notes", ()))),
    )


def _s3_tokenizer(reader: Reader, config: ModelConfig, dtype: mx.Dtype) -> Later[S3Tokenizer]:
    """The S3 tokenizer, read from the open file when it is used."""

    def read() -> S3Tokenizer:
        hearing = Hearing(config)
        load_weights(hearing, reader, dtype=dtype)
        return hearing.s3tokenizer

    if reader.mapped:
        return Later(read)
    network = read()  # the reader holds the whole file
    return Later(lambda: network)


def _check_generation(config: ModelConfig, folder: Path) -> None:
    known = {
        name: each for kind in RUN_OPTIONS.values() for name, each in definitions(kind).items()
    }
    try:
        for name, value in config.generation.items():
            if name not in known:
                raise OptionError(f"{name} is no option")
            known[name].check(value)
    except OptionError as error:
        raise ModelFolderError(
            f"generation in {folder / 'config.json'}: {error}; convert the model again"
        ) from None


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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelFolderError(f"{path} cannot be read ({error}); convert it again") from None
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind not in MODEL_TYPES or "architecture" not in values:
        raise ModelFolderError(
            f"{path} describes {kind or 'no known model'}, not a {' or '.join(MODEL_TYPES)} "
            "folder of this converter; convert the model with mlx_audio_turbo.convert"
        )
    for key, known in (("source", dict), ("notes", list)):
        if not isinstance(values.get(key, known()), known):
            raise ModelFolderError(f"{key!r} in {path} is damaged; convert the model again")
    return values
