"""An upstream checkpoint becomes a model folder, one tensor in memory at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.config import ModelConfig, Quantization, to_dict, to_json
from mlx_audio_turbo.errors import ModelFolderError, OptionError
from mlx_audio_turbo.loading.networks import parameter_shapes

from . import builtin_voice as voices
from . import card, quantize, upstream
from .atomic_folder import new_folder
from .safetensors_writer import DTYPES, Tensor, to_bfloat16, write
from .source_tensors import Originals, is_finite
from .tokenizer import write_tokenizer

MODEL_TYPE = "chatterbox_turbo"
VERSION = "1.0"
STORED: dict[str, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""The dtypes of ``config.json`` and their names in the file."""
_LARGEST = {"F32": np.inf, "F16": 65_504.0, "BF16": 3.389e38}
LEFT_OUT = (
    "which was left out when the folder was made; use a ready voice, or convert again without "
    "--no-s3tokenizer"
)
CACHE_VERSION = 2
"""Goes up when the same source would give another folder, so that caches are made again."""


def convert(
    source: upstream.Source,
    output: Path,
    *,
    dtype: str,
    quantization: Quantization | None = None,
    s3_tokenizer: bool = True,
    include_voice: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the model folder of ``source`` at ``output``, whole or not at all.

    Args:
        dtype: of every weight: a key of ``STORED``; with ``quantization``, of those that are not.
        quantization: how T3's blocks are stored.
        s3_tokenizer: keep the S3 tokenizer, without which the folder speaks with ready voices only.
        include_voice: keep the built-in voice, of which ``voices.WARNING`` speaks.
        force: replace the model folder at ``output``.
        progress: called with the bytes written so far and in all.

    Raises:
        OptionError: unknown ``dtype``, or a group size that does not fit.
        ModelFolderError: the source is damaged, does not fit the model, or holds a weight that is
            not finite or too large for ``dtype``; or ``output`` exists or cannot be written.
    """
    if dtype not in STORED:
        raise OptionError(f"no dtype {dtype!r}; choose one of {', '.join(STORED)}")
    missing = {} if s3_tokenizer else {"s3tokenizer": LEFT_OUT}
    if quantization:
        quantize.layers(source.config, quantization)
    with new_folder(output, force=force) as folder:
        config = _config(source, dtype, quantization, missing)
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", "utf-8")
        errors = _write_weights(
            Originals(source, missing=missing),
            folder / "model.safetensors",
            quantize.targets(
                source.config, STORED[dtype], missing=missing, quantization=quantization
            ),
            STORED[dtype],
            quantization,
            progress,
        )
        write_tokenizer(source.folder, folder)
        if include_voice:
            voice = source.folder / voices.SOURCE
            voices.convert_voice(voice, folder / voices.TARGET, remedy=source.remedy(voice.name))
        card.write(folder, errors=errors)
    return output


def ensure_published(
    repository: str,
    cache: Path,
    *,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The float16 model folder of a published checkpoint, downloaded and made once in ``cache``.

    One that was made is taken as it is, and the Hub is not asked.

    Args:
        repository: a key of ``upstream.REPOSITORIES``.
        revision: a commit; by default the one whose files are known, or the newest.
        progress: called with the bytes done so far and in all, first of checking, then of writing.

    Raises:
        DownloadError: it was not made yet, and the Hub could not be reached.
        ModelFolderError: as for :func:`convert`; or a download is not what was published.
    """
    known = upstream.REPOSITORIES[repository]
    commit = revision or known.revision
    sums = [(file.name, file.sha256) for file in known.files]
    key = cache_key(known.config, repository, commit, sums)
    output = cache / f"{known.variant}-float16-{key}"
    if not (output / "config.json").is_file():
        source = upstream.resolve(repository, revision=revision, progress=progress)
        make_once(output, lambda: convert(source, output, dtype="float16", progress=progress))
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
            upstream.check_files(folder, repository, remedy=source.remedy, progress=progress)
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


def _config(
    source: upstream.Source,
    dtype: str,
    quantization: Quantization | None,
    missing: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "model_type": MODEL_TYPE,
        "version": VERSION,
        "variant": source.variant,
        "family": source.family,
        "dtype": dtype,
        **({"quantization": dataclasses.asdict(quantization)} if quantization else {}),
        **({"missing": dict(missing)} if missing else {}),
        "source": {
            "repository": source.repository,
            "revision": source.revision,
            "trained": source.trained,
        },
        **to_json(source.config),
    }


def _write_weights(
    originals: Originals,
    path: Path,
    targets: Mapping[str, Tensor],
    stored: str,
    quantization: Quantization | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, float]:
    """Gives the relative error of each quantised layer."""
    errors: dict[str, float] = {}
    total, done = sum(tensor.bytes for tensor in targets.values()), 0

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal done
        for name, array in originals:
            plain = cast(array, stored, name=name)
            layer = name.removesuffix(".weight")
            if quantization and targets[name].dtype == quantize.CODES:
                values = quantize.quantize(plain, quantization, stored)
                made = [
                    (f"{layer}.{part}", x) for part, x in zip(quantize.PARTS, values, strict=True)
                ]
                errors[layer] = quantize.relative_error(array, values, quantization)
            else:
                made = [(name, plain)]
            for target, values in made:
                yield target, values
                done += targets[target].bytes
                if progress:
                    progress(done, total)

    write(path, targets, arrays(), metadata={"format": "mlx"})
    return errors


def cast(array: np.ndarray, stored: str, *, name: str) -> np.ndarray:
    """``array`` in the dtype ``stored``; bfloat16 as its bits.

    Raises:
        ModelFolderError: a value is not finite, or too large.
    """
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not is_finite(array):
        raise ModelFolderError(f"{name} has weights that are not finite; download it again")
    if max(-low, high) > _LARGEST[stored]:
        raise ModelFolderError(
            f"{name} has the weight {high if high > -low else low:g}, too large for {stored}; "
            "choose float32"
        )
    if stored == "BF16":
        return to_bfloat16(array)
    return array.astype(DTYPES[stored], copy=False)
