"""An upstream checkpoint becomes a model folder, one tensor in memory at a time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.config import Quantization, to_json
from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.presets import MULTILINGUAL_TYPE

from . import builtin_voice, card, quantize
from .atomic_folder import new_folder
from .precision import STORED, cast
from .safetensors_writer import Tensor, write
from .source import Source
from .source_tensors import SourceTensors
from .tokenizer import write_tokenizer

VERSION = "1.0"
LEFT_OUT = (
    "which was left out when the folder was made; use a saved voice, or convert again without "
    "--no-s3tokenizer"
)


def convert(
    source: Source,
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
        dtype: a key of ``STORED``; see ``precision.stored_as`` for the tensors that differ.
        quantization: how T3's blocks are stored.
        s3_tokenizer: keep the S3 tokenizer, which makes voices; saved voices work without it.
        include_voice: keep the built-in voice; see ``builtin_voice.WARNING``.
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
        errors = write_weights(
            SourceTensors(source, missing=missing),
            folder / "model.safetensors",
            quantize.targets(
                source.config, STORED[dtype], missing=missing, quantization=quantization
            ),
            STORED[dtype],
            quantization,
            progress,
        )
        write_tokenizer(
            source.folder,
            folder,
            source.config.t3,
            multilingual=source.model_type == MULTILINGUAL_TYPE,
        )
        if include_voice:
            voice = source.folder / builtin_voice.SOURCE
            builtin_voice.convert_voice(
                voice, folder / builtin_voice.TARGET, remedy=source.remedy(voice.name)
            )
        card.write(folder, errors=errors)
    return output


def _config(
    source: Source,
    dtype: str,
    quantization: Quantization | None,
    missing: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "model_type": source.model_type,
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


def write_weights(
    tensors: Iterable[tuple[str, np.ndarray]],
    path: Path,
    targets: Mapping[str, Tensor],
    stored: str,
    quantization: Quantization | None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Write ``tensors`` as ``targets`` wants them: floats, or codes made of floats as ``stored``.

    Args:
        targets: every tensor of the file; see ``quantize.targets``.

    Returns:
        The relative error of each quantised layer.

    Raises:
        ModelFolderError: a weight is not finite or too large for ``stored``.
    """
    errors: dict[str, float] = {}
    total, done = sum(tensor.bytes for tensor in targets.values()), 0

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal done
        for name, array in tensors:
            coded = quantization is not None and targets[name].dtype == quantize.CODES
            plain = cast(array, stored if coded else targets[name].dtype, name=name)
            layer = name.removesuffix(".weight")
            if quantization and coded:
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
