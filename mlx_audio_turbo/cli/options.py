"""What the commands understand; docs/cli.md and the shells' completion are made of this."""

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
from .terminal import leave_unread, open_streams

EXIT_CODES = {
    0: "done",
    1: "an error of ours (--verbose shows where)",
    2: "something to put right (one line says what)",
    130: "Ctrl-C",
    141: "nobody reads the output any more",
    143: "terminated",
}
_EXAMPLES = {
    "tts": (
        'mlx_audio_turbo.tts "Good morning." --ref_audio clip.wav --output hello.wav',
        "mlx_audio_turbo.tts --file book.txt --voice anna --output book.mp3",
        'mlx_audio_turbo.tts "Good morning." --ref_audio clip.wav --play --stream',
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
    """Says what is wrong in one line, without the whole usage."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs |= {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        # Python's own words for choices and counts may run over lines.
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


def file_path(text: str) -> Path:
    """The type of an argument that is a path; ``~`` is expanded."""
    try:
        return user_path(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def underscored(arguments: Sequence[str]) -> list[str]:
    """Options as people know them from elsewhere: ``--ref-audio`` is ``--ref_audio``."""

    def rename(argument: str) -> str:
        if not argument.startswith("--") or any(map(str.isspace, argument.partition("=")[0])):
            return argument
        name, equals, value = argument[2:].partition("=")
        return f"--{name.replace('-', '_')}{equals}{value}"

    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    return [*map(rename, arguments[:end]), *arguments[end:]]


def tts_parser() -> argparse.ArgumentParser:
    """Options of ``mlx_audio_turbo.tts``."""
    out = Parser(
        prog="mlx_audio_turbo.tts",
        usage="%(prog)s TEXT (--voice NAME | --ref_audio CLIP) [options]\n"
        "       %(prog)s --file FILE --voice NAME [options]",
        description="Speak a text in the voice of a clip, with Chatterbox Turbo on MLX.",
        epilog=_epilog("tts"),
    )
    what = out.add_argument_group("what to say")
    what.add_argument(
        "words", nargs="?", metavar="TEXT", help="the text, or - to read standard input"
    )
    what.add_argument("--text", help="the same as an option; tags like [laugh] are performed")
    what.add_argument("--file", metavar="FILE", help="a text file in UTF-8, of any length")
    who = out.add_argument_group("who speaks")
    who.add_argument(
        "--voice", metavar="NAME|FILE", help="a voice that is kept: see mlx_audio_turbo.voices"
    )
    who.add_argument("--ref_audio", metavar="CLIP", help="a clip of the voice, more than 5 s")
    _add_clip_options(who)
    who.add_argument("--save_voice", metavar="FILE", help="keep the clip's voice in a file as well")
    _add_model(out)

    where = out.add_argument_group("where to")
    where.add_argument(
        "--output",
        metavar="PATH",
        help="file, folder, or - for standard output (default: speech.wav, none with --play)",
    )
    where.add_argument(
        "--format",
        choices=FORMATS,
        help="kind of file, unless the name tells (default: wav)",
    )
    where.add_argument("--play", action="store_true", help="play it (wants mlx-audio-turbo[play])")
    where.add_argument(
        "--stream",
        action="store_true",
        help="give audio as it is made; with - as TEXT, speak each line as it comes",
    )
    where.add_argument(
        "--resume", action="store_true", help="go on with a long text that was interrupted"
    )
    where.add_argument("--restart", action="store_true", help="begin an interrupted long text anew")
    where.add_argument(
        "--plot",
        metavar="IMAGE",
        help="draw its first minute (wants mlx-audio-turbo[plot])",
    )
    where.add_argument(
        "--watermark",
        action="store_true",
        help="put Perth's mark in (wants mlx-audio-turbo[watermark])",
    )

    draw = out.add_argument_group("how tokens are drawn")
    draw.add_argument("--seed", metavar="N", type=int, help="the same seed gives the same audio")
    numbers: list[tuple[str, str, type, float, str]] = [
        ("--temperature", "X", float, 0.8, "0 takes the likeliest token"),
        ("--top_k", "N", int, 1000, "among the N likeliest"),
        ("--top_p", "X", float, 0.95, "among those that make up this share"),
        ("--repetition_penalty", "X", float, 1.2, "against repetition; 1 for none"),
        ("--max_tokens", "N", int, 1000, "at most, a segment; 25 are one second"),
        ("--batch_size", "N", int, 4, "segments that are made together"),
    ]
    for name, metavar, kind, default, text in numbers:
        draw.add_argument(
            name, metavar=metavar, type=kind, default=default, help=f"{text} (default: %(default)s)"
        )

    end = out.add_argument_group("long text and endings")
    for name, default, text in (
        ("--sentence_pause", 0.2, "seconds between segments"),
        ("--paragraph_pause", 0.7, "seconds between paragraphs"),
        ("--trim_margin", 0.2, "seconds kept past the last speech"),
        ("--trim_threshold", -35.0, "silence is so many dB below speech"),
    ):
        end.add_argument(
            name, metavar="X", type=float, default=default, help=f"{text} (default: %(default)s)"
        )
    end.add_argument("--no_trim", action="store_true", help="keep what comes after the speech")

    tell = out.add_argument_group("what it tells")
    _add_talk(tell)
    tell.add_argument("--json", action="store_true", help="print one JSON object about the speech")
    tell.add_argument("--list_tags", action="store_true", help="print the tags, and end")
    tell.add_argument(
        "--detect", metavar="FILE", help="tell whether FILE has Perth's watermark, and end"
    )
    _add_completion(tell)
    return out


def voices_parser() -> argparse.ArgumentParser:
    """Options of ``mlx_audio_turbo.voices``."""
    out = Parser(
        prog="mlx_audio_turbo.voices",
        description="Keep voices by name: made once of a clip, then used without it.",
        epilog=_epilog("voices"),
    )
    _add_completion(out)
    commands = out.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        description = f"{help[0].upper()}{help[1:]}."
        return commands.add_parser(name, help=help, description=description)

    add = command("add", "make a voice of a clip and keep it")
    add.add_argument("name", metavar="NAME", help="what to call it: letters, digits and . _ + -")
    add.add_argument(
        "clip", metavar="CLIP", help="more than 5 s; 10 to 15 s of one speaker are best"
    )
    add.add_argument("--consent", metavar="NOTE", default="", help="who allowed it, and how")
    _add_clip_options(add)
    _add_model(add)
    add.add_argument(
        "--replace", action="store_true", help="take the place of a voice of this name"
    )

    show = command("list", "print the names, dates and clips of all voices")
    show.add_argument("--names", action="store_true", help="print the names only, a line each")
    _add_json(show)

    one = command("show", "print all that is known of a voice")
    one.add_argument("name", metavar="NAME|FILE", help="a kept voice, or the file of any")
    _add_json(one)

    remove = command("remove", "delete a voice")
    remove.add_argument("name", metavar="NAME", help="of a kept voice")

    export = command("export", "copy a voice to a file or into a folder")
    export.add_argument("name", metavar="NAME", help="of a kept voice")
    export.add_argument("path", metavar="PATH", help="the new file, or a folder")

    take = command("import", "keep a voice that comes as a file")
    take.add_argument("path", metavar="FILE", help="as export or Voice.save wrote it")
    take.add_argument("--name", metavar="NAME", help="what to call it (default: as the file)")
    take.add_argument(
        "--replace", action="store_true", help="take the place of a voice of this name"
    )
    for each in (add, show, one, remove, export, take):
        _add_talk(each)
    return out


_Options = argparse._ActionsContainer  # parsers and their groups alike


def _add_model(out: _Options) -> None:
    out.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="folder, Hub id, or 'tiny': untrained, made on the spot (default: %(default)s)",
    )


def _add_clip_options(out: _Options) -> None:
    out.add_argument(
        "--ref_start",
        metavar="SECONDS",
        type=float,
        help="of a long clip, take 30 s from here (default: best)",
    )
    out.add_argument(
        "--no_loudness",
        action="store_true",
        help="leave the clip as loud as it is",
    )


def _add_talk(out: _Options) -> None:
    out.add_argument("--verbose", action="store_true", help="say what ran and how long it took")
    out.add_argument("--quiet", action="store_true", help="say nothing but errors")


def _add_json(out: _Options) -> None:
    out.add_argument("--json", action="store_true", help="print JSON")


def _add_completion(out: _Options) -> None:
    out.add_argument(
        "--print_completion",
        choices=("bash", "zsh", "fish"),
        action=_PrintCompletion,
        help="print a script that completes the options in this shell, and end",
    )


class _PrintCompletion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        from .completion import script

        parser._print_message(script(parser, str(values)), sys.stdout)
        parser.exit(0)
