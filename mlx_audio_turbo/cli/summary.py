"""The summary of a run: the lines of ``--verbose``, the JSON object, the speech of the plot."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import SAMPLE_RATE, TOKENS_PER_SECOND
from ..speech import Speech
from .terminal import Terminal


@dataclass
class RunSummary:
    """Counts over a run.

    seconds: of work, by stage.
    first_audio: seconds from the start to the first streamed samples.
    """

    samples: int = 0
    tokens: int = 0
    segments: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    first_audio: float | None = None

    @property
    def duration(self) -> float:
        """Seconds of audio."""
        return self.samples / SAMPLE_RATE

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio, without loading."""
        work = sum(value for stage, value in self.seconds.items() if stage != "loading")
        return work / self.duration if self.samples else 0.0

    def time(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by stage."""
        for stage, value in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value

    def count(self, samples: int, tokens: int, seconds: Mapping[str, float]) -> None:
        """Add a segment."""
        self.samples += samples
        self.tokens += tokens
        self.segments += 1
        self.time(seconds)

    def note(self, terminal: Terminal) -> None:
        """The lines of ``--verbose``."""
        for stage, seconds in self.seconds.items():
            terminal.note(f"{stage} {seconds:.2f} s")
        if self.first_audio is not None:
            terminal.note(f"first audio after {self.first_audio:.2f} s")
        terminal.note(f"{self.tokens} tokens, real-time factor {self.real_time_factor:.2f}")

    def report(
        self, path: Path | None, args: argparse.Namespace, *, seed: int, **more: Any
    ) -> None:
        """Print the result: the object of ``--json``, or one line, or with ``--quiet`` nothing."""
        if args.json:
            print(self.json(path, seed=seed, **more), flush=True)
        elif path is not None and not args.quiet:
            print(f"{path}  {self.duration:.2f} s  seed {seed}", flush=True)

    def json(self, path: Path | None, **more: Any) -> str:
        """The object of ``--json``."""
        values = {
            "path": str(path) if path else None,
            "duration": round(self.duration, 4),
            "sample_rate": SAMPLE_RATE,
            "segments": self.segments,
            "tokens": self.tokens,
            **more,
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "first_audio": self.first_audio,
            "real_time_factor": round(self.real_time_factor, 4),
            "notes": self.notes,
        }
        return json.dumps(values)


def joined(parts: list[Speech]) -> Speech:
    """The parts of a text as one, tokens in step with the audio (-1 where there is none)."""
    if len(parts) == 1:
        return parts[0]
    tokens: list[np.ndarray] = []
    samples = 0
    for part in parts:
        gap = round(samples / SAMPLE_RATE * TOKENS_PER_SECOND) - sum(map(len, tokens))
        tokens += [np.full(max(0, gap), -1, np.int32), part.tokens]
        samples += len(part.audio)
    return replace(
        parts[0],
        audio=np.concatenate([part.audio for part in parts]),
        tokens=np.concatenate(tokens),
        text=" ".join(part.text for part in parts),
    )
