"""Many listeners at one server: speed, waiting and health; writes its tables into docs/server.md.

    python -m tests.measure.load [--model FOLDER]

It measures ``tiny`` and a folder of the published sizes, by default one of random weights in 8 bits
that it makes in ``.parity``. That one never samples the stop token, so that each utterance is as
long as it may be. Each number of listeners asks the same texts with the same seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_audio_turbo import Voice
from mlx_audio_turbo.benchmark.measure import voice_of
from mlx_audio_turbo.benchmark.workload import workload
from mlx_audio_turbo.config import STOP_SPEECH, Quantization
from mlx_audio_turbo.loading import catalog
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo_convert import folder
from mlx_audio_turbo_convert.source import recognise

from .pages import DOCS, measured_on, table, write_part
from .parity.__main__ import ROOT, checkpoint
from .server_process import ServerProcess, ask, connect

LISTENERS = (1, 4, 8, 16)
REQUESTS = 8
"""Requests of 1 to 8 listeners; 16 send one each."""
TOKENS = {"tiny": 40, "full": 100}
"""Of a request, at most: 100 are a sentence of 4 s."""
ROUNDS = {"tiny": 3, "full": 2}
"""Runs of each number of listeners."""
HEALTH_SECONDS = 0.02
"""Between two looks at the server's health."""


@dataclass(frozen=True)
class Heard:
    """One answer: seconds to its first audio, and its speech tokens."""

    first: float
    tokens: int


@dataclass(frozen=True)
class Run:
    """So many listeners at once.

    seconds, cpu_seconds: of the whole; cpu of the server.
    first: seconds to the first audio, of each request.
    health: seconds of each look at ``/health``.
    steps, decoding, rendering: of the model; the last two in seconds.
    """

    listeners: int
    tokens: int
    seconds: float
    cpu_seconds: float
    first: tuple[float, ...]
    health: tuple[float, ...]
    steps: float
    decoding: float
    rendering: float

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def hear(port: int, number: int, tokens: int) -> Heard:
    """Hear one request as events, which tell the tokens."""
    body: dict[str, Any] = {
        "input": f"Listener number {number} hears a sentence of its own.",
        "seed": number,
        "max_tokens": tokens,
        "response_format": "pcm",
        "stream_format": "sse",
    }
    started, first, last = time.monotonic(), 0.0, b""
    connection, answer = connect(port, "POST", "/v1/audio/speech", body)
    try:
        assert answer.status == 200, answer.read()
        while line := answer.readline():
            first = first or time.monotonic() - started
            last = line if line.startswith(b"data:") else last
    finally:
        connection.close()
    return Heard(first, json.loads(last[5:])["usage"]["output_tokens"])


@contextmanager
def watched(port: int, seconds: list[float]) -> Iterator[None]:
    """Look at ``/health`` all the time while it is open."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(HEALTH_SECONDS):
            started = time.monotonic()
            assert ask(port, "GET", "/health")[0] == 200
            seconds.append(time.monotonic() - started)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


COUNTERS = ("steps", "decoding_seconds", "rendering_seconds")


def run(server: ServerProcess, listeners: int, tokens: int) -> Run:
    """All requests of so many listeners."""
    before = [server.metric(f"{name}_total") for name in COUNTERS]
    cpu, health = server.cpu_seconds, []
    with watched(server.port, health), ThreadPoolExecutor(listeners) as pool:
        started = time.monotonic()
        numbers = range(max(REQUESTS, listeners))
        heard = list(pool.map(lambda number: hear(server.port, number, tokens), numbers))
        seconds = time.monotonic() - started
    steps, decoding, rendering = (
        server.metric(f"{name}_total") - value for name, value in zip(COUNTERS, before, strict=True)
    )
    return Run(
        listeners,
        tokens=sum(each.tokens for each in heard),
        seconds=seconds,
        cpu_seconds=server.cpu_seconds - cpu,
        first=tuple(each.first for each in heard),
        health=tuple(health),
        steps=steps,
        decoding=decoding,
        rendering=rendering,
    )


def measure(model: str, voice: Voice, *, rounds: int, tokens: int, place: Path) -> list[Run]:
    """The fastest run of each number of listeners; health is that of all runs."""
    server = ServerProcess(model, place, voice)
    runs: list[Run] = []
    try:
        hear(server.port, 0, tokens)
        for number in range(rounds):
            # Back and forth, so that what disturbs the machine disturbs all.
            for listeners in LISTENERS if number % 2 == 0 else LISTENERS[::-1]:
                runs.append(run(server, listeners, tokens))
                print(line(runs[-1]), file=sys.stderr)
    finally:
        server.kill()
    best = []
    for listeners in LISTENERS:
        own = [each for each in runs if each.listeners == listeners]
        health = tuple(seconds for each in own for seconds in each.health)
        best.append(replace(max(own, key=lambda each: each.speed), health=health))
    return best


def line(found: Run) -> str:
    """A run as it ends."""
    return (
        f"{found.listeners} listeners: {found.tokens} tokens in {found.seconds:.1f} s, "
        f"{found.cpu_seconds:.1f} s of processor, decoding {found.decoding:.1f} s, "
        f"rendering {found.rendering:.1f} s, health {1000 * max(found.health):.0f} ms at worst"
    )


def tables(runs: list[Run]) -> str:
    """What listeners notice, and where the time goes."""
    alone = runs[0]
    heard: list[tuple[object, ...]] = [
        (
            each.listeners,
            f"{each.speed:.1f}",
            f"{each.speed / alone.speed:.2f}",
            f"{statistics.median(each.first):.2f} s",
            f"{max(each.first):.2f} s",
            f"{1000 * statistics.quantiles(each.health, n=100)[98]:.0f} ms",
            f"{1000 * max(each.health):.0f} ms",
        )
        for each in runs
    ]
    spent: list[tuple[object, ...]] = [
        (
            each.listeners,
            f"{each.tokens / each.steps:.1f}",
            f"{1000 * each.decoding / each.steps:.1f} ms",
            f"{each.tokens / each.decoding / (alone.tokens / alone.decoding):.2f}",
            f"{1000 * each.rendering / each.tokens:.1f} ms",
            f"{each.rendering / (each.rendering + each.decoding):.0%}",
            f"{1000 * each.cpu_seconds / each.tokens:.1f} ms",
        )
        for each in runs
    ]
    head = ("listeners", "tokens/s", "× one after another", "first audio", "worst")
    head += ("`/health`, 99 of 100", "worst")
    more = ("listeners", "tokens a step", "a step", "decoding × alone", "rendering a token")
    return f"{table(head, heard)}\n{table((*more, 'its share', 'processor time a token'), spent)}"


def endless_folder(place: Path) -> Path:
    """A folder of the published sizes with random weights, which never samples the stop token."""
    made = place / "turbo-8bit-endless"
    if not made.exists():
        source = checkpoint(place / "turbo", TURBO)
        with tempfile.TemporaryDirectory(dir=place) as temporary:
            draft = Path(temporary, made.name)
            quantization = Quantization(8, 64)
            folder.convert(recognise(source), draft, dtype="float16", quantization=quantization)
            weights = draft / "model.safetensors"
            tensors: Any = mx.load(str(weights))
            tensors["t3.speech_head.bias"][STOP_SPEECH] = -100
            mx.eval(tensors)
            mx.save_safetensors(str(weights), tensors)
            draft.rename(made)
    return made


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a folder of the published sizes")
    parser.add_argument("--rounds", type=int, help="runs of each")
    parser.add_argument("--tokens", type=int, help="a request")
    parser.add_argument("--only", choices=("tiny", "full"), help="leave the other as it is")
    args = parser.parse_args()
    full = args.model
    if full is None and args.only != "tiny":
        full = endless_folder(ROOT / ".parity")
    for name, model in (("tiny", Path("tiny")), ("full", full)):
        if args.only not in (None, name):
            continue
        loaded = load(catalog.resolve(str(model)))
        voice = voice_of(workload(loaded.config, 1.0), loaded.family)
        del loaded
        with tempfile.TemporaryDirectory() as place:
            runs = measure(
                *(str(model), voice),
                rounds=args.rounds or ROUNDS[name],
                tokens=args.tokens or TOKENS[name],
                place=Path(place, "server"),
            )
        text = f"{tables(runs)}\n{measured_on()}"
        print(text)
        write_part(DOCS / "server.md", f"load-{name}", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
