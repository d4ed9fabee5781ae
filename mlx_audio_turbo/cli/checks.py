"""Options that contradict each other, and what they mean for the model."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import OptionError
from ..options import MAX_BATCH, MAX_TOKENS, PauseOptions, SamplingOptions, TrimOptions

_EXCLUDING = (
    ("voice", "ref_audio"),
    ("stream", "watermark"),
    ("stream", "plot"),
    ("stream", "resume"),
    ("resume", "restart"),
    ("quiet", "verbose"),
)
_OF_A_CLIP = ("ref_start", "save_voice")


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before gigabytes are read.

    Raises:
        OptionError: with the one line that says why.
    """
    SamplingOptions(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        repetition_penalty=args.repetition_penalty,
    )
    for name, most in (("max_tokens", MAX_TOKENS), ("batch_size", MAX_BATCH)):
        if not 1 <= getattr(args, name) <= most:
            raise OptionError(f"{name} is {getattr(args, name)}; choose 1 to {most}")
    if args.seed is not None and not 0 <= args.seed < 2**64:
        raise OptionError(f"seed is {args.seed}; choose a whole number from 0 to 2**64 - 1")
    for one, other in _EXCLUDING:
        if getattr(args, one) and getattr(args, other):
            raise OptionError(f"--{one} and --{other} exclude each other")
    for name in _OF_A_CLIP:
        if getattr(args, name) is not None and not args.ref_audio:
            raise OptionError(f"--{name} wants a clip; give --ref_audio")
    for name, value in vars(args).items():
        if isinstance(value, str) and "\0" in value and name not in ("words", "text"):
            raise OptionError(f"--{name} has a zero byte in it")


def speaking_options(args: argparse.Namespace) -> dict[str, Any]:
    """Those of ``ChatterboxTurbo.generate`` and ``stream`` alike.

    Raises:
        OptionError: out of range.
    """
    names = ("temperature", "top_k", "top_p", "repetition_penalty", "max_tokens")
    trim = TrimOptions(margin=args.trim_margin, threshold_db=args.trim_threshold)
    pauses = PauseOptions(sentence=args.sentence_pause, paragraph=args.paragraph_pause)
    options = {name: getattr(args, name) for name in names}
    return options | {"trim": None if args.no_trim else trim, "pauses": pauses}
