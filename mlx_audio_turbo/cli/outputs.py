"""All that a run writes, looked at before anything is read."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .. import voice_library
from ..errors import OptionError, TurboError
from ..files.paths import user_path
from ..voice import Voice
from .destination import Destination, check_apart, find_destination


@dataclass(frozen=True)
class Outputs:
    """Where a run writes: the audio, and the files of ``--plot`` and ``--save_voice``."""

    audio: Destination
    plot: Path | None
    save_voice: Path | None


def find_outputs(args: argparse.Namespace) -> Outputs:
    """Where a run writes; every place is tried.

    Raises:
        OptionError: options that contradict each other, or a file that is read would be replaced.
        TurboError: nothing can be written at one of the places.
    """
    outputs = Outputs(_destination(args), _plot(args), _save_voice(args))
    output = "--output" if args.output else f"--output (by default {outputs.audio.path})"
    written = {
        output: outputs.audio.path,
        "--save_voice": outputs.save_voice,
        "--plot": outputs.plot,
    }
    check_apart(_inputs(args), {name: path for name, path in written.items() if path is not None})
    return outputs


def _destination(args: argparse.Namespace) -> Destination:
    source = getattr(args, "source", None) or args.file
    default = "speech" if source == args.file else "converted"
    destination = find_destination(
        args.output,
        format=args.format,
        play=args.play,
        stem=Path(source).stem if source not in (None, "-") else default,
        resume=args.resume,
        default=default,
    )
    if destination.stdout and args.json:
        raise OptionError("--json and --output - both need standard output; leave one out")
    return destination


def _plot(args: argparse.Namespace) -> Path | None:
    if args.plot is None:
        return None
    from .. import plotting

    plotting.check_installed()
    return plotting.check_image(args.plot)


def _save_voice(args: argparse.Namespace) -> Path | None:
    """Where ``--save_voice`` writes; like ``--output`` it takes a name without suffix."""
    if args.save_voice is None:
        return None
    path = user_path(args.save_voice)
    plain = not path.exists() or path.is_file()
    if not path.suffix and path.name and plain:
        path = path.with_name(f"{path.name}{voice_library.SUFFIX}")
    return Voice.check_place(path)


def _inputs(args: argparse.Namespace) -> Mapping[str, Path]:
    """The files that the run reads, by what they are."""
    inputs: dict[str, Path] = {}
    source = getattr(args, "source", None)
    if source not in (None, "-"):
        inputs["the source"] = user_path(source)
    if args.ref_audio is not None:
        inputs["the clip of --ref_audio"] = user_path(args.ref_audio)
    if args.file not in (None, "-"):
        inputs["the text of --file"] = user_path(args.file)
    elif "-" in (args.words, args.file, source) and stat.S_ISREG(os.fstat(0).st_mode):
        inputs["the file on standard input"] = Path("/dev/stdin")
    if args.voice is not None:
        with suppress(TurboError):  # reading the voice raises it again
            inputs["the voice of --voice"] = voice_library.find(args.voice).path
    folder = user_path(args.model)
    if folder.is_dir():
        inputs |= {f"{path.name} of the model": path for path in folder.iterdir()}
    return inputs
