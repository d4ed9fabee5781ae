"""The work of ``mlx_audio_turbo.voices``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..audio.files import load_audio
from ..config import SAMPLE_RATE
from ..errors import VoiceError
from ..files.paths import user_path
from ..loading import catalog
from ..voice import Voice
from ..voice_library import SavedVoice, VoiceLibrary, find
from .completion import complete
from .destination import check_apart
from .options import underscored, voices_parser
from .process import run
from .terminal import Terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    parser = voices_parser()
    complete(parser)
    args = parser.parse_args(underscored(sys.argv[1:] if argv is None else argv))
    terminal = Terminal("mlx_audio_turbo.voices", quiet=args.quiet, verbose=args.verbose)
    if not terminal.bars:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    work = {
        "add": _add,
        "list": _list,
        "show": _show,
        "remove": _remove,
        "export": _export,
        "import": _import,
    }[args.command]
    return run(terminal, lambda: work(args, terminal), kept=str)


def _add(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..models.turbo import ChatterboxTurbo

    library = VoiceLibrary()
    place = library.check_free(args.name, replace=args.replace)
    check_apart({"the clip": user_path(args.clip)}, {"the voice": place})
    samples = load_audio(args.clip, sample_rate=SAMPLE_RATE, start=args.ref_start)
    folder = catalog.resolve(args.model, progress=terminal.byte_bar("converting"))
    model = ChatterboxTurbo.from_pretrained(folder)
    if not model.trained:
        terminal.say("The weights of this model are random, not trained: the voice means nothing.")
    voice = model.encode_voice(
        samples, sample_rate=SAMPLE_RATE, normalize_loudness=not args.no_loudness
    )
    saved = library.add(
        args.name, voice, clip=args.clip, consent=args.consent, replace=args.replace
    )
    if not args.consent:
        terminal.say("No consent is noted; --consent says who allowed the use of this voice.")
    if not args.quiet:
        print(saved.path)


def _list(args: argparse.Namespace, terminal: Terminal) -> None:
    library = VoiceLibrary()
    if args.names:
        print("".join(f"{name}\n" for name in library.names()), end="")
        return
    saved, damaged = [], False
    for name in library.names():
        try:
            saved.append(library.get(name))
        except VoiceError as error:  # the others can be listed all the same
            damaged = True
            terminal.error(str(error))
    if args.json:
        print(json.dumps([_values(each) for each in saved], indent=2))
    elif not (saved or damaged):
        terminal.say(f"no voices in {library.folder}; make one with: add NAME CLIP")
    else:
        width = max((len(each.name) for each in saved), default=0)
        for each in saved:
            line = f"{each.name:{width}}  {each.created[:10]:10}  {each.family}  {each.clip}"
            print(line.rstrip())


def _show(args: argparse.Namespace, terminal: Terminal) -> None:
    saved = find(args.name)
    values = _values(saved) | _contents(saved.voice)
    if args.json:
        print(json.dumps(values, indent=2))
        return
    width = max(map(len, values))
    for key, value in values.items():
        print(f"{key:{width}}  {value if value != '' else 'not noted'}")


def _remove(args: argparse.Namespace, terminal: Terminal) -> None:
    VoiceLibrary().remove(args.name)


def _export(args: argparse.Namespace, terminal: Terminal) -> None:
    path = VoiceLibrary().export(args.name, args.path)
    if not args.quiet:
        print(path)


def _import(args: argparse.Namespace, terminal: Terminal) -> None:
    saved = VoiceLibrary().import_file(args.path, name=args.name, replace=args.replace)
    if not args.quiet:
        print(saved.path)


def _values(saved: SavedVoice) -> dict[str, Any]:
    names = ("name", "family", "created", "clip", "clip_sha256", "consent")
    return {name: getattr(saved, name) for name in names} | {"path": str(saved.path)}


def _contents(voice: Voice) -> dict[str, Any]:
    return {
        "fingerprint": voice.fingerprint,
        "t3_prompt": f"{len(voice.t3_prompt_tokens)} tokens",
        "s3gen_prompt": f"{len(voice.s3gen_prompt_tokens)} tokens",
    }
