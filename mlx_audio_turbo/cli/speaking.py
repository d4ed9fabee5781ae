"""One run of ``mlx_audio_turbo.tts``: text and voice in, audio out, and a summary of it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import watermark
from ..config import SAMPLE_RATE
from ..errors import TextError, VoiceError
from ..files.paths import user_path
from ..loading import catalog
from ..models.turbo import ChatterboxTurbo
from ..ops import blas
from ..options import SEGMENT_LIMIT, ChunkOptions
from ..speech import Speech
from ..synthesis.tasks import segments_of
from ..text.segments import Segment, split_text
from ..voice import Voice
from . import text_source
from .destination import Destination, deliver
from .outputs import find_outputs
from .player import Player
from .resume import Journal
from .run_options import all_options, check, given_options, model_class
from .summary import RunSummary, joined
from .terminal import Terminal
from .voice_choice import given_voice, made_voice

_PLOTTED = 60.0
"""Seconds that ``--plot`` shows."""


class Run:
    """One run of the command."""

    def __init__(self, args: argparse.Namespace, terminal: Terminal):
        self._args, self._terminal = args, terminal
        self._journal: Journal | None = None
        self._summary = RunSummary()
        self._shown: list[Speech] = []
        self._started = time.perf_counter()

    def kept(self) -> str:
        """What remains if the work ends now, as the end of a sentence."""
        if self._journal is None:
            return ""
        if not self._journal.finished:
            self._journal.remove()
            return ""
        done = f"{len(self._journal.finished)} of {self._journal.identity['segments']} segments"
        return f"; {done} are kept in {self._journal.folder}, and --resume continues"

    def close(self) -> None:
        """Let other runs have the folder of kept segments, whatever came of this one."""
        if self._journal is not None:
            self._journal.lock.release()

    def run(self) -> None:
        """Speak."""
        args = self._args
        text_source.check_one(args)
        # What can be refused is refused before anything is read, let alone gigabytes.
        check(args)
        outputs = find_outputs(args)
        destination, plot = outputs.audio, outputs.plot
        lines = text_source.line_by_line(args)
        text = "" if lines else text_source.read_text(args)
        segments: Sequence[Segment] = ()
        if not lines:
            segments = segments_of(text, SEGMENT_LIMIT)
        self._claim(destination, len(segments))
        if args.watermark:
            watermark.check_installed()
        voice = given_voice(args)
        seed = self._seed(destination)
        given = given_options(args) | {"seed": seed}
        with ExitStack() as stack:
            player = stack.enter_context(Player(SAMPLE_RATE)) if args.play else None
            model, voice = self._load(voice, outputs.save_voice)
            options = all_options(type(model), given, model.config.generation)
            if lines or args.stream:
                del options["batch_size"]
            else:
                segments = segments_of(text, options["segment_limit"])
            options["voice"] = voice
            if args.steady:
                options["chunks"] = self._steady(model, voice)
            if lines:
                audio = self._speak_lines(model, options)
            elif args.stream:
                audio = self._stream(model, text, options)
                self._summary.segments = len(segments)
            else:
                audio = self._speak_text(model, text, segments, options)
            self._deliver(audio, destination, player)
        if plot is not None:
            self._plot(plot)
        if self._journal is not None:
            self._journal.remove()
        self._summary.note(self._terminal)
        self._summary.report(
            destination.path,
            args,
            seed=seed,
            plot=str(plot) if plot else None,
            model=str(args.model),
            voice=voice.fingerprint,
            watermarked=bool(args.watermark),
        )

    def _claim(self, destination: Destination, segments: int) -> None:
        """Keep the segments of a long text, and leave the work of other runs alone."""
        path = destination.file
        if path is None or self._args.stream:
            return
        if segments < 2 and not Journal.place(path).exists():
            return
        journal = Journal.claim(path, resume=self._args.resume, restart=self._args.restart)
        if segments < 2:
            journal.lock.release()
            return
        self._journal = journal
        if not journal.lock.works:
            self._terminal.say(
                f"The disk of {journal.folder} has no locks: start no second run for this output."
            )
        if journal.damaged:
            self._terminal.say(f"{journal.damaged} kept segments are damaged and are spoken again")

    def _seed(self, destination: Destination) -> int:
        if self._args.seed is not None:
            return self._args.seed
        kept = self._journal.identity.get("seed") if self._journal else None
        return kept if isinstance(kept, int) else secrets.randbits(32)

    def _load(
        self, voice: Voice | np.ndarray | None, save_voice: Path | None
    ) -> tuple[ChatterboxTurbo, Voice]:
        args, terminal = self._args, self._terminal
        started = time.perf_counter()
        folder = catalog.resolve(args.model, progress=terminal.byte_bar("converting"))
        kind = model_class(folder)
        all_options(kind, given_options(args), {})  # an option of another model ends the run here
        model = kind.from_pretrained(folder)
        self._summary.time({"loading": time.perf_counter() - started})
        terminal.note(f"matrix products: {blas.active()}")
        for note in model.notes:
            terminal.note(note)
        if not model.trained:
            terminal.say("The weights of this model are random, not trained: the output is noise.")
        started = time.perf_counter()
        if isinstance(voice, Voice) and voice.family != model.family:
            raise VoiceError(
                f"the voice {args.voice!r} was made for {voice.family!r} and the model is "
                f"{model.family!r}; make it again with this model"
            )
        voice = made_voice(
            voice, model, args, save=save_voice, normalize_loudness=not args.no_loudness
        )
        self._summary.time({"voice": time.perf_counter() - started})
        return model, voice

    def _steady(self, model: ChatterboxTurbo, voice: Voice) -> ChunkOptions:
        """Chunks that play without a gap on this machine."""
        started = time.perf_counter()
        pace = model.measure_pace(voice)
        chunks = pace.chunks()
        self._summary.time({"measuring": time.perf_counter() - started})
        self._terminal.note(
            f"one second of speech takes {pace.real_time_factor:.2f} s here: chunks of "
            f"{', '.join(map(str, chunks.sizes))} tokens"
        )
        return chunks

    def _speak_text(
        self,
        model: ChatterboxTurbo,
        text: str,
        segments: Sequence[Segment],
        options: dict[str, Any],
    ) -> Iterator[np.ndarray]:
        """Audio of the text, segment by segment; what is long and goes to a file is kept."""
        journal = self._journal
        if journal is not None:
            journal.begin(self._identity(segments, options))
            for _, finished in sorted(journal.finished.items()):
                self._summary.count(finished.samples, len(finished.tokens), finished.seconds)
                self._summary.notes += [f"{finished.text[:60]!r} {note}" for note in finished.notes]
        kept = set(journal.finished) if journal else set()
        missing = list(journal.missing(len(segments))) if journal else [range(len(segments))]
        if kept:
            self._terminal.say(f"{len(kept)} of {len(segments)} segments are kept; continuing")
        lengths = [len(segment.text) for segment in segments]
        with self._terminal.bar(
            "speaking",
            total=sum(lengths),
            done=sum(lengths[index] for index in kept),
            unit=" characters",
        ) as step:
            for indices in missing:
                size = min(options["batch_size"], len(indices))
                parts = model.generate_parts(
                    text, first=indices.start, **(options | {"batch_size": size})
                )
                # The parts may go on past those that are missing.
                for index, speech in zip(indices, parts, strict=False):
                    speech = self._finish(speech)
                    step(lengths[index])
                    if journal is not None:
                        journal.add(index, speech)
                    yield speech.audio

    def _speak_lines(self, model: ChatterboxTurbo, options: dict[str, Any]) -> Iterator[np.ndarray]:
        """Each line in turn; line n, from 0, has the seed + n.

        A line that cannot be spoken is skipped, because the program that writes the lines cannot
        know what the model refuses.
        """
        seed = options["seed"]
        for count, line in enumerate(text_source.read_lines(self._args)):
            try:
                yield from self._stream(
                    model, line.text, options | {"seed": (seed + count) % 2**64}
                )
                self._summary.segments += len(split_text(line.text))
            except TextError as error:
                note = f"line {line.number} is left out: {error}"
                self._terminal.say(note)
                self._summary.notes.append(note)
        if not self._summary.segments:
            raise TextError("standard input has no line to speak; give at least one with a word")

    def _stream(
        self, model: ChatterboxTurbo, text: str, options: dict[str, Any]
    ) -> Iterator[np.ndarray]:
        started = time.perf_counter()
        for chunk in model.stream(text, **options):
            if self._summary.first_audio is None and len(chunk.audio):
                self._summary.first_audio = time.perf_counter() - self._started
            self._summary.samples += len(chunk.audio)
            self._summary.tokens += len(chunk.tokens)
            self._summary.notes += [f"{chunk.text[:60]!r} {note}" for note in chunk.notes]
            yield chunk.audio
        self._summary.time({"speech": time.perf_counter() - started})

    def _finish(self, speech: Speech) -> Speech:
        if self._args.watermark:
            speech = speech.with_watermark()
        self._summary.count(len(speech.audio), len(speech.tokens), speech.seconds)
        self._summary.notes += [f"{speech.text[:60]!r} {note}" for note in speech.notes]
        if self._args.plot and sum(each.duration for each in self._shown) < _PLOTTED:
            self._shown.append(speech)
        return speech

    def _identity(self, segments: Sequence[Segment], options: dict[str, Any]) -> dict[str, Any]:
        """What an interrupted run must have in common with the one that continues it."""
        # The segments, not the file: white space at line ends and a byte order mark are in none.
        spoken = json.dumps([(segment.text, segment.pause) for segment in segments])
        model = user_path(self._args.model)
        kept = {
            name: repr(value)
            for name, value in options.items()
            if name not in ("voice", "seed", "batch_size")
        }
        return {
            "text": hashlib.sha256(spoken.encode()).hexdigest(),
            "segments": len(segments),
            "voice": options["voice"].fingerprint,
            "model": os.path.realpath(model) if model.is_dir() else str(self._args.model),
            "seed": options["seed"],
            "watermark": bool(self._args.watermark),
            **kept,
        }

    def _deliver(
        self, audio: Iterator[np.ndarray], destination: Destination, player: Player | None
    ) -> None:
        play = player.play if player is not None else None
        if self._journal is None:
            deliver(audio, destination, play=play)
        else:
            for block in audio:
                if play is not None:
                    play(block)
            deliver(self._journal.audio(), destination)

    def _plot(self, path: Path) -> None:
        from .. import plotting as plot

        parts = self._journal.parts(_PLOTTED) if self._journal else self._shown
        plot.compare(joined(parts), path=path)
