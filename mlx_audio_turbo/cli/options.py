"""The arguments of the commands; docs/cli.md is made of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..audio.files import FORMATS
from ..errors import OptionError
from ..files.paths import user_path
from ..loading.catalog import DEFAULT_MODEL
from ..presets import BUNDLED, MADE, PUBLISHED
from .completion import SHELLS, script
from .run_options import add_run_options
from .terminal import leave_unread, open_streams

EXIT_CODES = {
    0: "done",
    1: "an unexpected error (--verbose shows where)",
    2: "a mistake that you can correct (one line says which)",
    130: "Ctrl-C",
    141: "the reader of the output has gone",
    143: "terminated",
}
_EXAMPLES = {
    "tts": (
        'mlx_audio_turbo.tts "Good morning." --ref_audio clip.wav --output hello.wav',
        "mlx_audio_turbo.tts --file book.txt --voice anna --output book.mp3",
        'mlx_audio_turbo.tts "Good morning." --ref_audio clip.wav --play --stream',
    ),
    "vc": (
        "mlx_audio_turbo.vc me.wav --voice anna --output me_as_anna.wav",
        "mlx_audio_turbo.vc talk.mp3 --ref_audio clip.wav --output talk.flac",
    ),
    "voices": (
        'mlx_audio_turbo.voices add anna clip.wav --consent "Anna, by mail, 3 May"',
        'mlx_audio_turbo.tts "Good morning." --voice anna',
    ),
}


def _epilog(command: str) -> str:
    lines = [f"  {line}" for line in _EXAMPLES[command]]
    codes = [f"  {code:<4} {text}" for code, text in EXIT_CODES.items()]
    return "\n".join(["examples:", *lines, "", "exit codes:", *codes])


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the whole usage."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs |= {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        # The messages of argparse may have several lines.
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: {line}; see --help\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        found, rest = self.parse_known_args(args, namespace)
        if rest and getattr(found, "words", None) and not any(word[:1] == "-" for word in rest):
            self.error("the text is more than one argument; put it in quotes")
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found

    def _print_message(self, message: str, file: Any = None) -> None:
        open_streams()
        file = file or sys.stderr
        try:
            file.write(message)
            file.flush()
        except BrokenPipeError:
            sys.exit(leave_unread(file))
        except OSError as error:
            leave_unread(file)
            if file is not sys.stderr:
                self.error(error.strerror or str(error))
            sys.exit(2)


def file_path(text: str) -> Path:
    """The type of an argument that is a path; ``~`` is expanded."""
    try:
        return user_path(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def underscored(arguments: Sequence[str]) -> list[str]:
    """The arguments with underscores in names: ``--ref-audio`` becomes ``--ref_audio``."""

    def rename(argument: str) -> str:
        if not argument.startswith("--") or any(map(str.isspace, argument.partition("=")[0])):
            return argument
        name, equals, value = argument[2:].partition("=")
        return f"--{name.replace('-', '_')}{equals}{value}"

    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    return [*map(rename, arguments[:end]), *arguments[end:]]


def tts_parser() -> argparse.ArgumentParser:
    """The parser of ``mlx_audio_turbo.tts``."""
    out = Parser(
        prog="mlx_audio_turbo.tts",
        usage="%(prog)s TEXT (--voice NAME | --ref_audio CLIP) [options]\n"
        "       %(prog)s --file FILE --voice NAME [options]",
        description="Speak a text in the voice of a clip, with a Chatterbox model on MLX.",
        epilog=_epilog("tts"),
    )
    what = out.add_argument_group("text")
    what.add_argument("words", nargs="?", metavar="TEXT", help="the text, or - for standard input")
    what.add_argument("--text", help="the text as an option; Turbo performs tags such as [laugh]")
    what.add_argument("--file", metavar="FILE", help="a plain text file in UTF-8, of any length")
    who = out.add_argument_group("voice and model")
    who.add_argument(
        "--voice", metavar="NAME|FILE", help="a saved voice: see mlx_audio_turbo.voices"
    )
    who.add_argument("--ref_audio", metavar="CLIP", help="a recording of the voice, more than 5 s")
    _add_clip_options(who)
    who.add_argument("--save_voice", metavar="FILE", help="save the clip's voice in a file too")
    _add_model(who)

    where = _add_output(out, "speech.wav")
    where.add_argument(
        "--stream",
        action="store_true",
        help="write audio while it is made; with - as TEXT, speak line by line",
    )
    where.add_argument(
        "--steady",
        action="store_true",
        help="with --stream: measure this machine first, and start so late that no gap is heard",
    )
    where.add_argument(
        "--resume", action="store_true", help="continue a long text that was interrupted"
    )
    where.add_argument(
        "--restart", action="store_true", help="discard an interrupted long text and begin again"
    )
    add_run_options(out)

    tell = out.add_argument_group("messages")
    _add_talk(tell)
    tell.add_argument("--json", action="store_true", help="print a summary as one JSON object")
    tell.add_argument("--list_tags", action="store_true", help="print the tags and exit")
    tell.add_argument(
        "--detect", metavar="FILE", help="report whether FILE has Perth's watermark, and exit"
    )
    _add_completion(tell)
    return out


def vc_parser() -> argparse.ArgumentParser:
    """The parser of ``mlx_audio_turbo.vc``."""
    out = Parser(
        prog="mlx_audio_turbo.vc",
        usage="%(prog)s SOURCE (--voice NAME | --ref_audio CLIP) [options]",
        description="Convert a recording into another voice; words, timing and melody stay.",
        epilog=_epilog("vc"),
    )
    out.set_defaults(words=None, file=None, resume=False, restart=False)
    who = out.add_argument_group("recording, voice and model")
    who.add_argument(
        "source", metavar="SOURCE", help="a recording of any length, or - for standard input"
    )
    who.add_argument(
        "--voice", metavar="NAME|FILE", help="a saved voice: see mlx_audio_turbo.voices"
    )
    who.add_argument("--ref_audio", metavar="CLIP", help="a recording of the voice, more than 5 s")
    _add_ref_start(who)
    who.add_argument("--save_voice", metavar="FILE", help="save the clip's voice in a file too")
    _add_model(who)
    where = _add_output(out, "converted.wav")
    where.add_argument("--stream", action="store_true", help="write audio while it is made")
    where.add_argument("--seed", metavar="N", type=int, help="the same seed gives the same audio")
    tell = out.add_argument_group("messages")
    _add_talk(tell)
    tell.add_argument("--json", action="store_true", help="print a summary as one JSON object")
    _add_completion(tell)
    return out


def voices_parser() -> argparse.ArgumentParser:
    """The parser of ``mlx_audio_turbo.voices``."""
    out = Parser(
        prog="mlx_audio_turbo.voices",
        description="Save voices by name: made once from a clip, then used without it.",
        epilog=_epilog("voices"),
    )
    _add_completion(out)
    commands = out.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        description = f"{help[0].upper()}{help[1:]}."
        return commands.add_parser(name, help=help, description=description)

    add = command("add", "make a voice from a clip and save it")
    add.add_argument("name", metavar="NAME", help="its name: letters, digits and . _ + -")
    add.add_argument(
        "clip", metavar="CLIP", help="more than 5 s; 10 to 15 s of one speaker are best"
    )
    add.add_argument(
        "--consent", metavar="NOTE", default="", help="who allowed the use of the voice, and how"
    )
    _add_clip_options(add)
    _add_model(add)
    add.add_argument("--replace", action="store_true", help="replace a voice of this name")

    show = command("list", "print the names, dates and clips of all voices")
    show.add_argument("--names", action="store_true", help="print only the names, one per line")
    _add_json(show)

    one = command("show", "print the details of a voice")
    one.add_argument("name", metavar="NAME|FILE", help="a saved voice, or a voice file")
    _add_json(one)

    remove = command("remove", "delete a voice")
    remove.add_argument("name", metavar="NAME", help="a saved voice")

    export = command("export", "copy a voice to a file or into a folder")
    export.add_argument("name", metavar="NAME", help="a saved voice")
    export.add_argument("path", metavar="PATH", help="the new file, or a folder")

    take = command("import", "save a voice from a file")
    take.add_argument("path", metavar="FILE", help="a file of export, --save_voice or Voice.save")
    take.add_argument("--name", metavar="NAME", help="its name (default: that of the file)")
    take.add_argument("--replace", action="store_true", help="replace a voice of this name")
    for each in (add, show, one, remove, export, take):
        _add_talk(each)
    return out


_Options = argparse._ActionsContainer  # parsers and their groups alike


def _add_model(out: _Options) -> None:
    out.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help=f"{', '.join((*PUBLISHED, *BUNDLED, *MADE))}, or a folder or Hub id "
        "(default: %(default)s)",
    )


def _add_output(out: argparse.ArgumentParser, default: str) -> argparse._ArgumentGroup:
    where = out.add_argument_group("output")
    where.add_argument(
        "--output",
        metavar="PATH",
        help=f"file, folder, pipe, or - for standard output (default: {default}; none "
        "with --play); never a file that is read",
    )
    where.add_argument(
        "--format",
        choices=FORMATS,
        help="format of the file (default: that of its name, or wav)",
    )
    where.add_argument(
        "--play", action="store_true", help="play the audio (needs mlx-audio-turbo[play])"
    )
    where.add_argument(
        "--plot", metavar="IMAGE", help="plot the first minute (needs mlx-audio-turbo[plot])"
    )
    where.add_argument(
        "--watermark",
        action="store_true",
        help="add Perth's watermark (needs mlx-audio-turbo[watermark])",
    )
    return where


def _add_ref_start(out: _Options) -> None:
    out.add_argument(
        "--ref_start",
        metavar="SECONDS",
        type=float,
        help="of a long clip, use 30 s from here (default: the best)",
    )


def _add_clip_options(out: _Options) -> None:
    _add_ref_start(out)
    out.add_argument("--no_loudness", action="store_true", help="keep the loudness of the clip")


def _add_talk(out: _Options) -> None:
    out.add_argument("--verbose", action="store_true", help="print what ran and how long it took")
    out.add_argument("--quiet", action="store_true", help="print only errors")


def _add_json(out: _Options) -> None:
    out.add_argument("--json", action="store_true", help="print JSON")


def _add_completion(out: _Options) -> None:
    out.add_argument(
        "--print_completion",
        choices=SHELLS,
        action=_PrintCompletion,
        help="print a script that completes arguments in this shell, and exit",
    )


class _PrintCompletion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        parser._print_message(script(parser.prog, str(values)), sys.stdout)
        parser.exit(0)
