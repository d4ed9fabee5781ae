"""The work of ``mlx_audio_turbo.tts``: text and voice in, audio out, and what to tell of it."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from .. import voice_library as voices
from ..audio.files import check_samples, load_audio, write_blocks
from ..config import SAMPLE_RATE
from ..errors import OptionError, TextError, VoiceError
from ..loading import catalog
from ..models.turbo import ChatterboxTurbo
from ..ops import blas
from ..speech import Speech
from ..text.normalize import normalize_text
from ..text.segments import split_text
from ..voice import Voice
from . import text_source as texts
from .checks import check, speaking_options
from .destination import Place, find_place, write_stdout
from .player import Player
from .resume import Journal
from .summary import Told, joined
from .terminal import Terminal

_PLOTTED = 60.0
"""Seconds that ``--plot`` shows."""


class Speaking:
    """One run of the command."""

    def __init__(self, args: argparse.Namespace, terminal: Terminal):
        self._args, self._terminal = args, terminal
        self._journal: Journal | None = None
        self._told = Told()
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
        return f"; {done} are kept in {self._journal.folder}, and --resume goes on"

    def run(self) -> None:
        """Speak."""
        args = self._args
        lines = texts.line_by_line(args)
        text = "" if lines else texts.read_text(args)
        # What can be refused is refused before gigabytes are read.
        check(args)
        if not lines:
            normalize_text(text)
        place = self._place()
        if place.path is not None and not args.stream:
            Journal.check(place.path, resume=args.resume, restart=args.restart)
        voice = self._given_voice()
        seed = self._seed(place)
        plot = self._check_plot()
        options = speaking_options(args)
        with ExitStack() as stack:
            player = stack.enter_context(Player(SAMPLE_RATE)) if args.play else None
            model, voice = self._load(voice)
            options |= {"voice": voice, "seed": seed}
            if lines:
                audio = self._speak_lines(model, options)
            elif args.stream:
                audio = self._stream(model, text, options)
            else:
                audio = self._speak_text(model, text, options, place.path)
            self._deliver(audio, place, player)
        if plot is not None:
            self._plot(plot)
        if self._journal is not None:
            self._journal.remove()
        self._told.note(self._terminal)
        if args.json:
            more = {
                "plot": str(plot) if plot else None,
                "seed": seed,
                "model": str(args.model),
                "voice": voice.fingerprint,
                "watermarked": bool(args.watermark),
            }
            print(self._told.json(place.path, **more), flush=True)
        elif place.path is not None and not args.quiet:
            print(f"{place.path}  {self._told.duration:.2f} s  seed {seed}", flush=True)

    def _place(self) -> Place:
        args = self._args
        stem = Path(args.file).stem if args.file not in (None, "-") else "speech"
        place = find_place(
            args.output, format=args.format, play=args.play, stem=stem, resume=args.resume
        )
        if place.stdout and args.json:
            raise OptionError("--json and --output - both want standard output")
        return place

    def _seed(self, place: Place) -> int:
        if self._args.seed is not None:
            return self._args.seed
        kept = Journal.seed(place.path) if place.path and self._args.resume else None
        return kept if kept is not None else secrets.randbits(32)

    def _check_plot(self) -> Path | None:
        if self._args.plot is None:
            return None
        from .. import plotting as plot

        plot.check_installed()
        return plot.check_image(self._args.plot)

    def _given_voice(self) -> Voice | np.ndarray | None:
        """A kept voice, or the samples of the clip to make one of."""
        args = self._args
        if args.watermark:
            from ..audio import watermark

            watermark.check_installed()
        if args.voice is not None:
            return voices.find(args.voice).voice
        if args.ref_audio is not None:
            return load_audio(args.ref_audio, sample_rate=SAMPLE_RATE, start=args.ref_start)
        if args.model in (catalog.DEFAULT_MODEL, "tiny"):
            raise VoiceError("nobody to speak; give --voice NAME or --ref_audio CLIP")
        return None

    def _load(self, voice: Voice | np.ndarray | None) -> tuple[ChatterboxTurbo, Voice]:
        args, terminal = self._args, self._terminal
        started = time.perf_counter()
        model = ChatterboxTurbo.from_pretrained(
            catalog.resolve(args.model, progress=terminal.byte_bar("converting"))
        )
        self._told.time({"loading": time.perf_counter() - started})
        terminal.note(f"matrix products: {blas.active()}")
        for note in model.notes:
            terminal.note(note)
        if not model.trained:
            terminal.say("The weights of this model are random, not trained: the output is noise.")
        started = time.perf_counter()
        if voice is None:
            voice = model.builtin_voice
            if voice is None:
                raise VoiceError(
                    "this model has no voice of its own; give --voice NAME or --ref_audio CLIP"
                )
        elif not isinstance(voice, Voice):
            voice = model.encode_voice(
                check_samples(voice, args.ref_audio),
                sample_rate=SAMPLE_RATE,
                normalize_loudness=not args.no_loudness,
            )
        elif voice.family != model.family:
            raise VoiceError(
                f"the voice {args.voice!r} was made for {voice.family!r} and the model is "
                f"{model.family!r}; make it again with this model"
            )
        if args.save_voice:
            voice.save(args.save_voice)
        self._told.time({"voice": time.perf_counter() - started})
        return model, voice

    def _speak_text(
        self, model: ChatterboxTurbo, text: str, options: dict[str, Any], output: Path | None
    ) -> Iterator[np.ndarray]:
        """Audio of the text, segment by segment; what is long and goes to a file is kept."""
        # The same segments as the model makes, to count them and measure the progress.
        segments = split_text(text)
        journal = None
        if len(segments) > 1 and output is not None:
            journal = self._journal = Journal.open(
                output,
                self._identity(text, options, len(segments)),
                resume=self._args.resume,
                restart=self._args.restart,
            )
            for finished in journal.finished:
                self._told.count(finished.samples, len(finished.tokens), finished.seconds)
                self._told.notes += [f"{finished.text[:60]!r} {note}" for note in finished.notes]
        first = len(journal.finished) if journal else 0
        if first:
            self._terminal.say(f"going on after {first} of {len(segments)} segments")
        lengths = [len(segment.text) for segment in segments]
        with self._terminal.bar(
            "speaking", total=sum(lengths), done=sum(lengths[:first]), unit=" characters"
        ) as step:
            if first < len(segments):
                parts = model.generate_parts(
                    text, first=first, batch_size=self._args.batch_size, **options
                )
                for speech, length in zip(parts, lengths[first:], strict=True):
                    speech = self._finish(speech)
                    step(length)
                    if journal is not None:
                        journal.add(speech)
                    yield speech.audio

    def _speak_lines(self, model: ChatterboxTurbo, options: dict[str, Any]) -> Iterator[np.ndarray]:
        """Each line in its turn; line n, from 0 on, has the seed + n.

        A line that cannot be spoken must not end the run: whoever writes to it would have to know
        what the model refuses.
        """
        seed = options["seed"]
        for count, line in enumerate(texts.read_lines(self._args)):
            try:
                yield from self._stream(
                    model, line.text, options | {"seed": (seed + count) % 2**64}
                )
            except TextError as error:
                note = f"line {line.number} is left out: {error}"
                self._terminal.say(note)
                self._told.notes.append(note)
        if not self._told.segments:
            raise TextError("standard input has no line to speak; give at least one with a word")

    def _stream(
        self, model: ChatterboxTurbo, text: str, options: dict[str, Any]
    ) -> Iterator[np.ndarray]:
        started = time.perf_counter()
        for chunk in model.stream(text, **options):
            if self._told.first_audio is None and len(chunk.audio):
                self._told.first_audio = time.perf_counter() - self._started
            self._told.samples += len(chunk.audio)
            yield chunk.audio
        self._told.segments += 1
        self._told.time({"speech": time.perf_counter() - started})

    def _finish(self, speech: Speech) -> Speech:
        if self._args.watermark:
            speech = speech.with_watermark()
        self._told.count(len(speech.audio), len(speech.tokens), speech.seconds)
        self._told.notes += [f"{speech.text[:60]!r} {note}" for note in speech.notes]
        if self._args.plot and sum(each.duration for each in self._shown) < _PLOTTED:
            self._shown.append(speech)
        return speech

    def _identity(self, text: str, options: dict[str, Any], segments: int) -> dict[str, Any]:
        """What an interrupted run must have in common with the one that goes on with it."""
        kept = {
            name: repr(value) for name, value in options.items() if name not in ("voice", "seed")
        }
        return {
            "text": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
            "segments": segments,
            "voice": options["voice"].fingerprint,
            "model": str(self._args.model),
            "seed": options["seed"],
            "watermark": bool(self._args.watermark),
            **kept,
        }

    def _deliver(self, audio: Iterator[np.ndarray], place: Place, player: Player | None) -> None:
        if player is not None:
            audio = _played(audio, player)
        if place.stdout:
            write_stdout(audio, place.format, sys.stdout.buffer)
            return
        first = next(audio, np.zeros(0, np.float32))
        if place.path is not None and self._journal is None:
            write_blocks(place.path, itertools.chain([first], audio), SAMPLE_RATE)
            return
        for _ in audio:
            pass
        if place.path is not None and self._journal is not None:
            write_blocks(place.path, self._journal.audio(), SAMPLE_RATE)

    def _plot(self, path: Path) -> None:
        from .. import plotting as plot

        parts = self._journal.parts(_PLOTTED) if self._journal else self._shown
        plot.compare(joined(parts), path=path)


def _played(audio: Iterator[np.ndarray], player: Player) -> Iterator[np.ndarray]:
    for block in audio:
        player.play(block)
        yield block
