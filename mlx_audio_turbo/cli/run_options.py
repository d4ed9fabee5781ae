"""The run options of every model as arguments of a command, from their one definition."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlx_audio_turbo

from ..errors import ModelFolderError, OptionError
from ..options import RUN_OPTIONS, PauseOptions, TrimOptions, resolve
from ..options.definition import Definition, definitions

if TYPE_CHECKING:
    from ..models.turbo import ChatterboxTurbo

_METAVARS = {int: "N", float: "X", str: "CODE"}
_FIELDS = {
    "sentence_pause": (PauseOptions, "sentence"),
    "paragraph_pause": (PauseOptions, "paragraph"),
    "trim_margin": (TrimOptions, "margin"),
    "trim_threshold": (TrimOptions, "threshold_db"),
}
"""Arguments that set a field of an options object."""
_EXCLUDING = (
    ("voice", "ref_audio"),
    ("stream", "watermark"),
    ("stream", "plot"),
    ("stream", "resume"),
    ("resume", "restart"),
    ("quiet", "verbose"),
)
_OF_A_CLIP = ("ref_start", "save_voice")


def models() -> Mapping[str, type]:
    """The options of each model that there is, by the name of its class."""
    return {name: kind for name, kind in RUN_OPTIONS.items() if name in mlx_audio_turbo.__all__}


def run_options() -> dict[str, Definition]:
    """The options of all models that are one number or word."""
    found: dict[str, Definition] = {}
    for kind in models().values():
        for name, definition in definitions(kind).items():
            if definition.kind in _METAVARS:
                found.setdefault(name, definition)
    return found


def add_run_options(out: argparse.ArgumentParser) -> None:
    """Add an argument for each option; one that is not given is None, and the model's default."""
    sampling = out.add_argument_group("sampling")
    for name, definition in run_options().items():
        _add(sampling, name, definition, of=_models_with(name))
    long = out.add_argument_group("pauses and endings")
    for name, (kind, field) in _FIELDS.items():
        _add(long, name, definitions(kind)[field])
    long.add_argument("--no_trim", action="store_true", help="keep what follows the speech")


def check(args: argparse.Namespace) -> None:
    """Refuse options out of their ranges, and options that contradict each other.

    Raises:
        OptionError: one line that says what to give.
    """
    for name, definition in run_options().items():
        if getattr(args, name) is not None:
            definition.check(getattr(args, name))
    given_options(args)
    check_exclusions(args)
    if args.steady and not args.stream:
        raise OptionError("--steady sets how a stream is cut; give --stream too")


def check_exclusions(args: argparse.Namespace) -> None:
    """Refuse arguments that contradict each other, of any command.

    Raises:
        OptionError: one line that says what to give.
    """
    if args.seed is not None:
        run_options()["seed"].check(args.seed)
    for one, other in _EXCLUDING:
        if getattr(args, one) and getattr(args, other):
            raise OptionError(f"--{one} and --{other} exclude each other; give one of them")
    for name in _OF_A_CLIP:
        if getattr(args, name) is not None and not args.ref_audio:
            raise OptionError(f"--{name} needs a clip; give --ref_audio")


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, as the models' calls take them.

    Raises:
        OptionError: a value is out of its range.
    """
    given = {name: getattr(args, name) for name in run_options()}
    options = {name: value for name, value in given.items() if value is not None}
    fields: dict[type, dict[str, float]] = {PauseOptions: {}, TrimOptions: {}}
    for name, (kind, field) in _FIELDS.items():
        if getattr(args, name) is not None:
            fields[kind][field] = getattr(args, name)
    trim = TrimOptions(**fields[TrimOptions])
    return options | {
        "pauses": PauseOptions(**fields[PauseOptions]),
        "trim": None if args.no_trim else trim,
    }


def model_class(folder: Path) -> type[ChatterboxTurbo]:
    """The class that loads a model folder."""
    from ..models import load
    from ..models.turbo import ChatterboxTurbo

    try:
        return cast("type[ChatterboxTurbo]", load.model_class(folder))
    except ModelFolderError:
        return ChatterboxTurbo  # its loading says what is wrong with the folder


def all_options(
    model: type, given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a run with a model: given, else the folder's default, else ours.

    Args:
        model: a class of models; defaults: of the model's folder.

    Raises:
        OptionError: the model does not have an option; the message says which model has it.
    """
    return resolve(models()[model.__name__], given, defaults=defaults)


def _models_with(name: str) -> str:
    """The models that have an option, for its help; empty where all of them do."""
    having = [model for model, kind in models().items() if name in definitions(kind)]
    short = (each.removeprefix("Chatterbox").lower() or "original" for each in having)
    return "" if len(having) == len(models()) else ", ".join(short)


def _add(out: argparse._ArgumentGroup, name: str, definition: Definition, *, of: str = "") -> None:
    notes = [of] if of else []
    if definition.default is not None:
        notes.append(f"default: {definition.default:g}")
    help = definition.option.help.replace("%", "%%")
    out.add_argument(
        f"--{name}",
        metavar=_METAVARS[definition.kind],
        type=definition.kind,
        help=f"{help} ({'; '.join(notes)})" if notes else help,
    )
