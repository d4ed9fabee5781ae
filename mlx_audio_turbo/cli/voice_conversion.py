"""The command ``mlx_audio_turbo.vc``: a recording and a voice in, the recording in it out."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .completion import complete
from .options import underscored, vc_parser
from .process import run
from .terminal import Terminal

_PLOTTED = 60.0
"""Seconds that ``--plot`` shows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    parser = vc_parser()
    complete(parser)
    args = parser.parse_args(underscored(sys.argv[1:] if argv is None else argv))
    terminal = Terminal("mlx_audio_turbo.vc", quiet=args.quiet, verbose=args.verbose)
    if not terminal.bars:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return run(terminal, lambda: _convert(args, terminal), kept=str)


def _convert(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..audio import watermark
    from ..loading import catalog
    from ..models.voice_conversion import VoiceConverter
    from ..options import resolve_seed
    from .destination import deliver
    from .outputs import find_outputs
    from .player import Player
    from .run_options import check_exclusions
    from .summary import RunSummary
    from .voice_choice import given_voice, made_voice

    check_exclusions(args)
    outputs = find_outputs(args)
    if args.watermark:
        watermark.check_installed()
    source = "/dev/stdin" if args.source == "-" else args.source
    given, seed, summary = given_voice(args), resolve_seed(args.seed), RunSummary()
    started = time.perf_counter()
    model = VoiceConverter.from_pretrained(
        catalog.resolve(args.model, progress=terminal.byte_bar("converting"))
    )
    summary.time({"loading": time.perf_counter() - started})
    for note in model.notes:
        terminal.note(note)
    if not model.trained:
        terminal.say("The weights of this model are random, not trained: the output is noise.")
    started = time.perf_counter()
    voice = made_voice(given, model, args, save=outputs.save_voice)
    summary.time({"voice": time.perf_counter() - started})
    shown: list[np.ndarray] = []
    tokens: list[np.ndarray] = []

    def audio() -> Iterator[np.ndarray]:
        begun = time.perf_counter()
        if args.watermark:
            chunks = iter([model.convert(source, voice=voice, seed=seed, watermark=True)])
        elif args.stream:
            chunks = model.stream(source, voice=voice, seed=seed)
        else:
            chunks = model.stream(source, voice=voice, seed=seed, chunks=model.WHOLE)
        with terminal.bar("converting", unit=" s of audio") as step:
            for chunk in chunks:
                if summary.first_audio is None:
                    summary.first_audio = time.perf_counter() - begun
                if args.plot and sum(map(len, shown)) < _PLOTTED * chunk.sample_rate:
                    shown.append(chunk.audio)
                before = summary.samples // chunk.sample_rate
                summary.samples += len(chunk.audio)
                step(summary.samples // chunk.sample_rate - before)
                tokens.append(chunk.tokens)
                yield chunk.audio
        summary.tokens, summary.segments = sum(map(len, tokens)), 1
        summary.time({"conversion": time.perf_counter() - begun})

    if args.play:
        from ..config import SAMPLE_RATE

        with Player(SAMPLE_RATE) as player:
            deliver(audio(), outputs.audio, play=player.play)
    else:
        deliver(audio(), outputs.audio)
    if outputs.plot is not None:
        _plot(outputs.plot, shown, np.concatenate(tokens), seed)
    summary.note(terminal)
    more = {"source": args.source, "plot": outputs.plot, "model": args.model}
    summary.report(
        outputs.audio.path,
        args,
        seed=seed,
        voice=voice.fingerprint,
        watermarked=args.watermark,
        **{name: None if value is None else str(value) for name, value in more.items()},
    )


def _plot(path: Path, blocks: list[np.ndarray], tokens: np.ndarray, seed: int) -> None:
    from .. import plotting
    from ..config import SAMPLE_RATE, TOKENS_PER_SECOND
    from ..speech import Speech

    audio = np.concatenate(blocks)[: round(_PLOTTED * SAMPLE_RATE)]
    count = -(-len(audio) * TOKENS_PER_SECOND // SAMPLE_RATE)
    plotting.compare(Speech(audio=audio, text="", tokens=tokens[:count], seed=seed), path=path)
