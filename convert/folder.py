"""An upstream checkpoint becomes a model folder, one tensor in memory at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.config import ModelConfig, to_dict
from mlx_audio_turbo.errors import ModelFolderError, OptionError
from mlx_audio_turbo.networks import parameter_shapes

from . import rules, upstream, voices
from .files import new_folder
from .mapping import RULES
from .safetensors_io import DTYPES, Reader, Tensor, to_bfloat16, write
from .tokenizer import write_tokenizer

MODEL_TYPE = "chatterbox_turbo"
VERSION = "1.0"
STORED: dict[str, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""The dtypes of ``config.json`` and their names in the file."""
_LARGEST = {"F32": np.inf, "F16": 65_504.0, "BF16": 3.389e38}
CACHE_VERSION = 1
"""Goes up when the same source would give another folder, so that caches are made again."""


def convert(
    source: upstream.Source,
    output: Path,
    *,
    dtype: str,
    include_voice: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the model folder of ``source`` at ``output``, whole or not at all.

    Args:
        dtype: of every weight: a key of ``STORED``.
        include_voice: keep the built-in voice, of which ``voices.WARNING`` speaks.
        force: replace the model folder at ``output``.
        progress: called with the bytes written so far and in all.

    Raises:
        OptionError: unknown ``dtype``.
        ModelFolderError: the source is damaged, does not fit the model, or holds a weight that is
            not finite or too large for ``dtype``; or ``output`` exists or cannot be written.
    """
    if dtype not in STORED:
        raise OptionError(f"no dtype {dtype!r}; choose one of {', '.join(STORED)}")
    with new_folder(output, force=force) as folder:
        _write_weights(source, folder / "model.safetensors", STORED[dtype], progress)
        write_tokenizer(source.folder, folder)
        if include_voice:
            voice = source.folder / voices.SOURCE
            voices.convert_voice(voice, folder / voices.TARGET, remedy=source.remedy)
        text = json.dumps(_config(source, dtype), indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", "utf-8")
        if not source.trained:
            (folder / "README.md").write_text(UNTRAINED.format(variant=source.variant), "utf-8")
    return output


def ensure(
    folder: Path, cache: Path, *, progress: Callable[[int, int], None] | None = None
) -> Path:
    """The float16 model folder of the upstream checkpoint in ``folder``, made once in ``cache``.

    Args:
        progress: called with the bytes done so far and in all, first of checking, then of writing.

    Raises:
        ModelFolderError: as for :func:`convert`; or a download is not what was published.
    """
    source = upstream.recognise(folder)
    states = [(str(path.resolve()), path.stat().st_mtime_ns) for path in source.weights]
    output = cache / f"{source.variant}-float16-{cache_key(source.config, states)}"
    if not (output / "config.json").is_file():
        if source.repository:
            repository = upstream.REPOSITORIES[source.repository]
            upstream.check_files(
                folder, repository, remedy=source.remedy, progress=progress
            )
        make_once(output, lambda: convert(source, output, dtype="float16", progress=progress))
    return output


def cache_key(config: ModelConfig, *sources: object) -> str:
    """Another key for other ``sources``, sizes, or tensors of a model folder."""
    parts = (CACHE_VERSION, to_dict(config), parameter_shapes(config), sources)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def make_once(output: Path, make: Callable[[], object]) -> None:
    """Call ``make``, unless another process makes the same folder first."""
    try:
        make()
    except ModelFolderError:
        if not (output / "config.json").is_file():
            raise


def _config(source: upstream.Source, dtype: str) -> dict[str, Any]:
    return {
        "model_type": MODEL_TYPE,
        "version": VERSION,
        "variant": source.variant,
        "family": source.family,
        "dtype": dtype,
        "source": {
            "repository": source.repository,
            "revision": source.revision,
            "trained": source.trained,
        },
        "architecture": to_dict(source.config),
    }


def _write_weights(
    source: upstream.Source,
    path: Path,
    stored: str,
    progress: Callable[[int, int], None] | None,
) -> None:
    readers: dict[str, Reader] = {}
    for file in source.weights:
        reader = Reader(file, remedy=source.remedy)
        for name in reader.tensors:
            if name in readers:
                raise ModelFolderError(
                    f"{name!r} is both in {readers[name].path} and {file}; {source.remedy}"
                )
            readers[name] = reader
    shapes = parameter_shapes(source.config)
    plan = rules.plan(RULES, readers)
    targets = {name: Tensor(stored, shape) for name, shape in shapes.items()}
    total, done = sum(tensor.bytes for tensor in targets.values()), 0

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal done
        made = rules.apply(plan, lambda name: readers[name].read(name), shapes)
        for name, array in made:
            yield name, cast(array, stored, name=name)
            done += targets[name].bytes
            if progress:
                progress(done, total)

    write(path, targets, arrays(), metadata={"format": "mlx"})


def cast(array: np.ndarray, stored: str, *, name: str) -> np.ndarray:
    """``array`` in the dtype ``stored``; bfloat16 as its bits.

    Raises:
        ModelFolderError: a value is not finite, or too large.
    """
    # min and max carry NaN and infinity through, without an array of booleans
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not np.isfinite(low) or not np.isfinite(high):
        raise ModelFolderError(f"{name} has weights that are not finite; download it again")
    if max(-low, high) > _LARGEST[stored]:
        raise ModelFolderError(
            f"{name} has the weight {high if high > -low else low:g}, too large for {stored}; "
            "choose float32"
        )
    if stored == "BF16":
        return to_bfloat16(array)
    return array.astype(DTYPES[stored], copy=False)


UNTRAINED = """\
# Untrained weights

The weights in this folder are **random** (model `{variant}`): what it generates is noise, not
speech. It is for tests, demonstrations and measurements of speed.
"""
