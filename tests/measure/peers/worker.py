"""What the peers' scripts share: requests on standard input, seconds on standard output.

Runs in the peers' environments, so it imports nothing of ours and nothing but NumPy.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Peer(Protocol):
    """An implementation that is loaded and ready."""

    def versions(self) -> dict[str, str]:
        """What runs, for people."""
        ...

    def tokens(self, count: int, prompt: int) -> list[float]:
        """Draw ``count`` tokens after ``prompt`` ones; gives the time at which each was there."""
        ...

    def audio(self, tokens: int, prompt: int) -> tuple[float, float]:
        """Render the first ``tokens`` behind ``prompt`` ones; seconds of the flow and of HiFT."""
        ...


@dataclass(frozen=True)
class Inputs:
    """What ``mlx_audio_turbo.benchmark.workload`` drew, arrays without a batch."""

    text_ids: np.ndarray
    tokens: np.ndarray
    speaker_embedding: np.ndarray
    t3_prompt_tokens: np.ndarray
    prompt_tokens: np.ndarray
    prompt_mel: np.ndarray
    x_vector: np.ndarray


class Stamps:
    """Notes the time after every call of a function."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def after(self, function: Any, finish: Any = None) -> Any:
        """``function``, its result finished and the time noted."""

        def noted(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if finish is not None:
                finish(result)
            self.times.append(time.perf_counter())
            return result

        return noted


@contextmanager
def quiet_output() -> Iterator[Any]:
    """Standard output for the answers alone: whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Line by line: the last message of a peer that fails must be its error.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    yield answers


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every peer has."""
    out = argparse.ArgumentParser(description=description)
    out.add_argument("--checkpoint", type=Path, required=True, help="upstream layout")
    out.add_argument("--workload", type=Path, required=True, help="the .npz of the utterance")
    return out


def inputs(path: Path) -> Inputs:
    """Read the utterance."""
    with np.load(path) as arrays:
        return Inputs(**{field.name: arrays[field.name] for field in fields(Inputs)})


def serve(peer: Peer, answers: Any) -> None:
    """Answer requests, a line of JSON each, until the input ends."""

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    answer({"versions": peer.versions()})
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        if request["stage"] == "tokens":
            stamps = peer.tokens(request["tokens"], request["prompt"])
            assert len(stamps) == request["tokens"], (len(stamps), request)
            answer({"T3 prefill": stamps[0] - started, "T3 decode": stamps[-1] - stamps[0]})
        else:
            flow, vocoder = peer.audio(request["tokens"], request["prompt"])
            answer({"S3Gen": flow, "HiFT": vocoder})
