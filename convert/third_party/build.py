"""Folders that other converters published, brought into our layout once.

Which layout a folder has is known by its repository or by the marks that its writer left in it,
never by the shapes of its tensors. Quantised weights are expanded. A network that such a folder
lacks, or holds wrongly, comes from a :class:`Donor`; where none can be had the new folder says so,
speaks with ready voices, and refuses to make new ones.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.config import ModelConfig, to_json
from mlx_audio_turbo.errors import DownloadError, ModelFolderError
from mlx_audio_turbo.loading import hub
from mlx_audio_turbo.loading.networks import LISTENERS, parameter_shapes
from mlx_audio_turbo.presets import TURBO

from .. import builtin_voice as voices
from .. import card as cards
from .. import rules, upstream
from ..atomic_folder import new_folder
from ..folder import MODEL_TYPE, STORED, VERSION, cache_key, cast, make_once
from ..rules import Drop, Rule
from ..safetensors_writer import Tensor, write
from ..tokenizer import write_tokenizer
from . import mlx_audio_a, mlx_audio_b
from .fallbacks import DONORS, Donor, find
from .mlx_weights import Weights

S3_TOKENIZER_TYPE = "s3_tokenizer_v2"
SIZES: ModelConfig = TURBO
"""Such folders do not give their sizes; all that were published are Turbo's."""


@dataclass(frozen=True)
class Layout:
    """How one converter writes its folders.

    suspect: networks of such a folder that are not taken, with the reason.
    """

    name: str
    repositories: tuple[str, ...]
    rules: tuple[Rule | Drop, ...]
    suspect: Mapping[str, str]


A = Layout(
    "A",
    tuple(f"mlx-community/chatterbox-turbo-{kind}" for kind in ("fp16", "8bit", "6bit", "4bit")),
    tuple(mlx_audio_a.RULES),
    {},
)
B = Layout(
    "B",
    tuple(f"mlx-community/Chatterbox-Turbo-TTS-{kind}" for kind in ("fp16", "8bit", "4bit")),
    tuple(mlx_audio_b.RULES),
    {"ve": mlx_audio_b.SUSPECT},
)
LAYOUTS = (A, B)

NAMES: Mapping[str, str] = {
    "ve": "VoiceEncoder",
    "s3gen.speaker_encoder": "CAM++",
    "s3tokenizer": "S3 tokenizer",
}


@dataclass(frozen=True)
class Foreign:
    """A folder of another converter, ready to convert.

    repository, revision: where it was published; None where its place on the disk does not say.
    quantization: as its ``config.json`` gives it; empty where nothing is quantised.
    """

    folder: Path
    layout: Layout
    config: ModelConfig
    quantization: Mapping[str, Any]
    repository: str | None = None
    revision: str | None = None

    @property
    def weights(self) -> tuple[Path, ...]:
        return tuple(sorted(self.folder.glob("model*.safetensors")))

    @property
    def name(self) -> str:
        return self.repository or str(self.folder)

    @property
    def remedy(self) -> str:
        """How to get a damaged file again."""
        if self.repository is None:
            return "download it again"
        return f"fetch it with: hf download {self.repository} --force-download"


def recognise(folder: Path) -> Foreign | None:
    """What another converter wrote into ``folder``; None where it is none that is known here.

    Raises:
        ModelFolderError: the folder is the S3 tokenizer alone.
    """
    values = _read_config(folder)
    repository, revision = hub.snapshot_of(folder)
    if values is None or "architecture" in values:
        return None
    if values.get("model_type") == S3_TOKENIZER_TYPE:
        raise ModelFolderError(
            f"{folder} is the S3 tokenizer alone; give the folder of a whole model, and this one "
            "is found where it lies beside it or in the Hub's cache"
        )
    layout = next((layout for layout in LAYOUTS if repository in layout.repositories), None)
    if layout is None:
        if values.get("model_type") != MODEL_TYPE:
            return None
        layout = _layout(folder, values)
    quantization = values.get("quantization") or {}
    foreign = Foreign(folder, layout, SIZES, quantization, repository, revision)
    return foreign if foreign.weights else None


def _layout(folder: Path, config: Mapping[str, Any]) -> Layout:
    """Whose marks a folder of unknown origin bears; in doubt B, whose VoiceEncoder is not used."""
    card = folder / "README.md"
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    marks_of_b = "version" in config or "mlx-audio-plus" in text
    return A if not marks_of_b and (folder / "vocab.json").is_file() else B


def _read_config(folder: Path) -> dict[str, Any] | None:
    try:
        values = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def resolve(folder: Path, cache: Path) -> Path:
    """``folder`` itself, or where it is another converter's, our form of it in ``cache``."""
    foreign = recognise(folder)
    return folder if foreign is None else ensure(foreign, cache)


def ensure(foreign: Foreign, cache: Path) -> Path:
    """The float16 model folder of ``foreign``, made once in ``cache``.

    Where networks are lacking and no donor could be had, the next call looks for donors again, but
    only on this machine.

    Raises:
        ModelFolderError: as for :func:`convert`.
        UserWarning: (warned, not raised) what the new folder's users should know.
    """
    states = [(str(path.resolve()), path.stat().st_mtime_ns) for path in foreign.weights]
    key = cache_key(foreign.config, foreign.layout.name, states)
    whole = cache / f"foreign-float16-{key}"
    if (whole / "config.json").is_file():
        return whole
    wanted = _wanted(foreign)
    made = [path for path in sorted(cache.glob(f"{whole.name}-without-*"))]
    found = find_donors(wanted, foreign.folder, network=not made)
    lacking = sorted(set(wanted) - set(found))
    output = whole
    if lacking:
        output = whole.with_name("-".join([f"{whole.name}-without", *lacking]))
    if not (output / "config.json").is_file():
        notes: list[str] = []
        make_once(output, lambda: notes.extend(convert(foreign, output, donors=found)))
        if notes:
            warnings.warn("; ".join(notes), stacklevel=2)
    return output


def find_donors(
    wanted: Iterable[str], folder: Path, *, network: bool = True
) -> dict[str, tuple[Donor, Path]]:
    """A donor and its file for each network of ``wanted`` that can be had.

    Args:
        folder: beside it a folder S3TokenizerV2 may lie.
        network: download what is not on this machine.
    """
    found: dict[str, tuple[Donor, Path]] = {}
    places = [(name, donor) for name in wanted for donor in DONORS[name]]
    # Without the network first: the Hub's silence takes half a minute.
    for asked in (False, True)[: 1 + network]:
        for name, donor in places:
            if name in found:
                continue
            try:
                path = find(donor, folder, network=asked)
            except DownloadError:
                return found
            if path:
                found[name] = donor, path
    return found


def convert(
    foreign: Foreign,
    output: Path,
    *,
    dtype: str = "float16",
    donors: Mapping[str, tuple[Donor, Path]] | None = None,
    include_voice: bool = False,
    force: bool = False,
) -> list[str]:
    """Write our form of ``foreign`` at ``output``, whole or not at all.

    Args:
        dtype: of every weight: a key of ``STORED``.
        donors: from :func:`find_donors`; looked for where None.
        include_voice: keep the voice that came with the folder.
        force: replace the model folder at ``output``.

    Returns:
        What the new folder's users should know, which stands in its ``config.json`` too.

    Raises:
        ModelFolderError: the folder is damaged or does not fit the layout; or ``output`` exists or
            cannot be written.
    """
    wanted = _wanted(foreign)
    if donors is None:
        donors = find_donors(wanted, foreign.folder)
    notes = _notes(foreign, wanted, donors)
    missing = {name: _lack(name, why) for name, why in wanted.items() if name not in donors}
    with new_folder(output, force=force) as folder:
        _write_weights(foreign, folder / "model.safetensors", STORED[dtype], donors, missing)
        write_tokenizer(foreign.folder, folder)
        if include_voice:
            voices.copy_voice(foreign.folder / voices.TARGET, folder / voices.TARGET)
        config = {
            "model_type": MODEL_TYPE,
            "version": VERSION,
            "variant": "turbo",
            "family": upstream.FAMILY,
            "dtype": dtype,
            "source": {
                "repository": foreign.repository,
                "revision": foreign.revision,
                "trained": True,
            },
            "notes": notes,
            "missing": missing,
            **to_json(foreign.config),
        }
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", "utf-8")
        cards.write(folder)
    return notes


def _wanted(foreign: Foreign) -> dict[str, str]:
    """The networks that a donor must give, and why."""
    names = Weights(foreign.weights, foreign.quantization, remedy=foreign.remedy).names
    wanted = {}
    for network in LISTENERS:
        if network in foreign.layout.suspect:
            wanted[network] = f"that of {foreign.name} {foreign.layout.suspect[network]}"
        elif not any(name.startswith(f"{network}.") for name in names):
            wanted[network] = f"{foreign.name} has none"
    return wanted


def _lack(network: str, why: str) -> str:
    commands = " or ".join(
        f"hf download {donor.repository} {donor.file.name}" for donor in DONORS[network]
    )
    return (
        f"for {why} and no {NAMES[network]} could be had elsewhere; fetch one with: {commands}, "
        "and load the model again"
    )


def _notes(
    foreign: Foreign, wanted: Mapping[str, str], donors: Mapping[str, tuple[Donor, Path]]
) -> list[str]:
    notes = []
    count = len(Weights(foreign.weights, foreign.quantization, remedy=foreign.remedy).quantised)
    if count:
        where = "T3's blocks" if foreign.layout is B else "every network, the vocoder's too"
        notes.append(
            f"{foreign.name} has {foreign.quantization.get('bits')}-bit weights in {count} layers "
            f"({where}); expanding them does not bring back what was lost"
        )
    for network, why in wanted.items():
        if network in donors:
            donor, _ = donors[network]
            notes.append(f"{NAMES[network]} is taken from {donor.repository}, for {why}")
        else:
            notes.append(f"there is no {NAMES[network]}, {_lack(network, why)}")
    return notes


def _write_weights(
    foreign: Foreign,
    path: Path,
    stored: str,
    donors: Mapping[str, tuple[Donor, Path]],
    missing: Mapping[str, str],
) -> None:
    shapes = parameter_shapes(foreign.config, missing=missing)
    given = {
        network: {name: shape for name, shape in shapes.items() if name.startswith(f"{network}.")}
        for network in donors
    }
    own = {
        name: shape
        for name, shape in shapes.items()
        if not any(name in part for part in given.values())
    }
    weights = Weights(foreign.weights, foreign.quantization, remedy=foreign.remedy)
    plan = rules.plan(_rules(foreign, weights.names), weights.names)
    made = [rules.apply(plan, weights.read, own)]
    for network, (donor, file) in donors.items():
        made.append(donor.tensors(file, given[network]))
    targets = {name: Tensor(stored, shape) for name, shape in shapes.items()}

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for name, array in itertools.chain.from_iterable(made):
            yield name, cast(array, stored, name=name)

    write(path, targets, arrays(), metadata={"format": "mlx"})


def _rules(foreign: Foreign, names: Iterable[str]) -> tuple[Rule | Drop, ...]:
    """The layout's table; for A that one of two which names CAM++ as this file does."""
    if foreign.layout is A and any(map(mlx_audio_a.is_upstream_campplus, names)):
        return tuple(mlx_audio_a.RULES_UPSTREAM_CAMPPLUS)
    return foreign.layout.rules
