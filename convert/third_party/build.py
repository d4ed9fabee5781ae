"""Folders of other MLX converters, brought into our layout once.

Quantised weights are expanded. The S3 tokenizer, which such folders lack, comes from its own
repository. Where that cannot be had, or where another network is missing or wrong, the new folder
says so: it speaks with saved voices and makes no new ones.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mlx_audio_turbo.config import to_json
from mlx_audio_turbo.loading.networks import LISTENERS, parameter_shapes
from mlx_audio_turbo.presets import TURBO_TYPE

from .. import builtin_voice, card, rules
from ..atomic_folder import new_folder
from ..cache import cache_key, make_once, states
from ..folder import VERSION
from ..precision import STORED, cast, stored_as
from ..published import MODELS
from ..safetensors_writer import Tensor, write
from ..tokenizer import write_tokenizer
from . import s3_tokenizer
from .mlx_weights import Weights
from .recognise import B, ThirdPartyFolder, recognise

NAMES: Mapping[str, str] = {
    "ve": "VoiceEncoder",
    "s3gen.speaker_encoder": "CAM++",
    "s3tokenizer": "S3 tokenizer",
}
S3_TOKENIZER = "s3tokenizer"


def resolve(folder: Path, cache: Path) -> Path:
    """``folder`` itself, or where it is another converter's, our form of it in ``cache``."""
    source = recognise(folder)
    return folder if source is None else ensure(source, cache)


def ensure(source: ThirdPartyFolder, cache: Path) -> Path:
    """The float16 model folder of ``source``, made once in ``cache``.

    Where the S3 tokenizer could not be had, the next call looks for it again, but only on this
    machine.

    Raises:
        ModelFolderError: as for :func:`convert`.
        UserWarning: (warned, not raised) what the new folder's users should know.
    """
    key = cache_key(source.config, source.layout.name, states(source.weights))
    whole = cache / f"third-party-float16-{key}"
    if (whole / "config.json").is_file():
        return whole
    without = whole.with_name(f"{whole.name}-without-{S3_TOKENIZER}")
    found = find_s3_tokenizer(source, network=not without.exists())
    output = whole if found or S3_TOKENIZER not in lacking(source) else without
    if not (output / "config.json").is_file():
        notes: list[str] = []
        make_once(output, lambda: notes.extend(convert(source, output, fallback=found)))
        if notes:
            warnings.warn("; ".join(notes), stacklevel=2)
    return output


def find_s3_tokenizer(source: ThirdPartyFolder, *, network: bool = True) -> Path | None:
    """The file of the S3 tokenizer, where ``source`` lacks it and it can be had.

    Args:
        network: download it where it is not on this machine.
    """
    if S3_TOKENIZER not in lacking(source):
        return None
    # Without the network first, which may take half a minute to fail.
    near = s3_tokenizer.find(source.folder, network=False)
    return near or (s3_tokenizer.find(source.folder, network=True) if network else None)


def convert(
    source: ThirdPartyFolder,
    output: Path,
    *,
    dtype: str = "float16",
    fallback: Path | None = None,
    include_voice: bool = False,
    force: bool = False,
) -> list[str]:
    """Write our form of ``source`` at ``output``, whole or not at all.

    Args:
        dtype: a key of ``STORED``; see ``precision.stored_as`` for the tensors that differ.
        fallback: file of the S3 tokenizer, from :func:`find_s3_tokenizer`.
        include_voice: keep the voice that came with the folder.
        force: replace the model folder at ``output``.

    Returns:
        What the new folder's users should know, which stands in its ``config.json`` too.

    Raises:
        ModelFolderError: the folder is damaged or does not fit the layout; or ``output`` exists or
            cannot be written.
    """
    reasons = lacking(source)
    notes = _notes(source, reasons, fallback)
    missing = {
        name: _remedy(name, why)
        for name, why in reasons.items()
        if name != S3_TOKENIZER or fallback is None
    }
    with new_folder(output, force=force) as folder:
        _write_weights(source, folder / "model.safetensors", STORED[dtype], fallback, missing)
        write_tokenizer(source.folder, folder, source.config.t3)
        if include_voice:
            builtin_voice.copy_voice(
                source.folder / builtin_voice.TARGET, folder / builtin_voice.TARGET
            )
        config = {
            "model_type": TURBO_TYPE,
            "version": VERSION,
            "variant": "turbo",
            "family": MODELS["turbo"].family,
            "dtype": dtype,
            "source": {
                "repository": source.repository,
                "revision": source.revision,
                "trained": True,
            },
            "notes": notes,
            "missing": missing,
            **to_json(source.config),
        }
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", "utf-8")
        card.write(folder)
    return notes


def lacking(source: ThirdPartyFolder) -> dict[str, str]:
    """The networks that are not there or not to be trusted, and why."""
    names = Weights(source.weights, source.quantization, remedy=source.remedy).names
    reasons = {}
    for network in LISTENERS:
        if network in source.layout.suspect:
            reasons[network] = f"that of {source.name} {source.layout.suspect[network]}"
        elif not any(name.startswith(f"{network}.") for name in names):
            reasons[network] = f"{source.name} has none"
    return reasons


def _remedy(network: str, why: str) -> str:
    if network == S3_TOKENIZER:
        return f"for {why} and none could be had; {s3_tokenizer.REMEDY}, and load the model again"
    return f"for {why}; use a saved voice, or the published model: --model turbo"


def _notes(
    source: ThirdPartyFolder, reasons: Mapping[str, str], fallback: Path | None
) -> list[str]:
    notes = []
    count = len(Weights(source.weights, source.quantization, remedy=source.remedy).quantised)
    if count:
        where = "T3's blocks" if source.layout is B else "every network, the vocoder's too"
        notes.append(
            f"{source.name} has {source.quantization.get('bits')}-bit weights in {count} layers "
            f"({where}); expanding them does not bring back what was lost"
        )
    for network, why in reasons.items():
        if network == S3_TOKENIZER and fallback:
            notes.append(f"{NAMES[network]} is taken from {s3_tokenizer.REPOSITORY}, for {why}")
        else:
            notes.append(f"there is no {NAMES[network]}, {_remedy(network, why)}")
    return notes


def _write_weights(
    source: ThirdPartyFolder,
    path: Path,
    stored: str,
    fallback: Path | None,
    missing: Mapping[str, str],
) -> None:
    shapes = parameter_shapes(source.config, missing=missing)
    given: dict[str, tuple[int, ...]] = {}
    if fallback:
        given = {name: x for name, x in shapes.items() if name.startswith(f"{S3_TOKENIZER}.")}
    weights = Weights(source.weights, source.quantization, remedy=source.remedy)
    plan = rules.plan(source.rules(weights.names), weights.names)
    own = {name: shape for name, shape in shapes.items() if name not in given}
    made = [rules.apply(plan, weights.read, own)]
    if fallback:
        made.append(s3_tokenizer.tensors(fallback, given))
    targets = {
        name: Tensor(stored_as(name, shape, stored), shape) for name, shape in shapes.items()
    }

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for name, array in itertools.chain.from_iterable(made):
            yield name, cast(array, targets[name].dtype, name=name)

    write(path, targets, arrays(), metadata={"format": "mlx"})
