"""The command ``mlx_audio_turbo.tts``: parse, call, write."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import OptionError, TurboError

EXIT_USAGE = 2
"""For everything that the user can put right; 0 is success, 130 is Ctrl-C."""
EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    from .pipeline import DEFAULT_MODEL, MAX_TOKENS

    out = argparse.ArgumentParser(
        prog="mlx_audio_turbo.tts",
        usage="%(prog)s --text TEXT --ref_audio CLIP [options]",
        description="Speak a text in the voice of a reference clip, with Chatterbox Turbo on MLX.",
        epilog="Exit codes: 0 done, 2 something to put right (one line says what), 130 Ctrl-C.",
    )
    out.add_argument("--text", required=True, help="what to say; tags like [laugh] are performed")
    who = out.add_mutually_exclusive_group(required=True)
    who.add_argument("--ref_audio", metavar="CLIP", help="a clip of the voice, > 5 s")
    who.add_argument("--voice", metavar="FILE", help="a voice saved with --save_voice")
    out.add_argument("--output", default="speech.wav", help="file to write (%(default)s)")
    out.add_argument("--save_voice", metavar="FILE", help="keep the voice as well")
    out.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="folder, Hub id, or 'tiny' (untrained, offline) (%(default)s)",
    )
    out.add_argument("--seed", metavar="N", type=int, help="the same seed gives the same audio")
    draw = out.add_argument_group("sampling")
    draw.add_argument("--temperature", metavar="X", type=float, default=0.8, help="%(default)s")
    draw.add_argument("--top_k", metavar="N", type=int, default=1000, help="%(default)s")
    draw.add_argument("--top_p", metavar="X", type=float, default=0.95, help="%(default)s")
    draw.add_argument(
        "--repetition_penalty", metavar="X", type=float, default=1.2, help="%(default)s"
    )
    draw.add_argument(
        "--max_tokens",
        metavar="N",
        type=int,
        default=MAX_TOKENS,
        help="25 are one second (%(default)s)",
    )
    out.add_argument(
        "--no_loudness",
        action="store_true",
        help="take the clip as loud as it is",
    )
    out.add_argument("--verbose", action="store_true", help="say what ran and how long it took")
    return out


def underscored(arguments: Sequence[str]) -> list[str]:
    """Options as people know them from elsewhere: ``--ref-audio`` is ``--ref_audio``."""

    def rename(argument: str) -> str:
        if not argument.startswith("--"):
            return argument
        name, equals, value = argument[2:].partition("=")
        return f"--{name.replace('-', '_')}{equals}{value}"

    return [rename(argument) for argument in arguments]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    try:
        return _speak(parser().parse_args(underscored(sys.argv[1:] if argv is None else argv)))
    except TurboError as error:
        print(f"mlx_audio_turbo.tts: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("mlx_audio_turbo.tts: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _speak(args: argparse.Namespace) -> int:
    from .audio.files import check_writable
    from .pipeline import ChatterboxTurbo
    from .text import normalize_text
    from .voice import Voice

    # What can be refused is refused before gigabytes are read.
    normalize_text(args.text)
    check_writable(args.output)
    if args.ref_audio is not None and not Path(args.ref_audio).is_file():
        raise OptionError(f"no reference clip at {args.ref_audio}; check the path")
    voice = Voice.load(args.voice) if args.voice else None

    started = time.perf_counter()
    model = ChatterboxTurbo.from_pretrained(args.model)
    loaded = time.perf_counter()
    if not model.trained:
        _say("The weights of this model are random, not trained: the output is noise.")
    if voice is None:
        voice = model.encode_voice(args.ref_audio, normalize_loudness=not args.no_loudness)
    if args.save_voice:
        voice.save(args.save_voice)
    speech = model.generate(
        args.text,
        voice=voice,
        seed=args.seed,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        repetition_penalty=args.repetition_penalty,
        max_tokens=args.max_tokens,
    )
    path = speech.save(args.output)
    if args.verbose:
        _report(speech, loaded - started)
    print(f"{path}  {speech.duration:.2f} s  seed {speech.seed}")
    return 0


def _report(speech: object, loading: float) -> None:
    from . import blas
    from .speech import Speech

    assert isinstance(speech, Speech)
    _say(f"matrix products: {blas.active()}")
    _say(f"loading {loading:.2f} s")
    for stage, seconds in speech.seconds.items():
        _say(f"{stage} {seconds:.2f} s")
    total = sum(speech.seconds.values())
    _say(f"{len(speech.tokens)} tokens, real-time factor {total / speech.duration:.2f}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
