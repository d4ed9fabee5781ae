"""From the start of the command to the first audio, with a saved voice, stage by stage.

    python -m tests.measure.start [--model FOLDER] [--kernels warm cold] [--repeats N]

Runs ``mlx_audio_turbo.tts --stream`` in processes of its own and prints the medians, in seconds. By
default on an 8-bit folder of random weights, which it makes in ``.parity``. ``cold`` is a run that
finds no compiled kernels. Files are in the page cache: the first run of each kind is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from .data import ROOT

TEXT = "The quick brown fox jumps over the lazy dog, again and again, until the sun goes down."
STAGES = ("imports", "load", "prefix", "tokens", "S3Gen", "vocoder")
"""In this order: each ends where the next begins."""


def measure(model: Path, *, cold: bool = False) -> dict[str, float]:
    """Seconds of each of :data:`STAGES`, ``first audio``, and ``processor``: its time until then,
    with that of the processes that compiled for it.

    Args:
        cold: in an empty cache of compiled kernels.
    """
    with tempfile.TemporaryDirectory() as place:
        voice = Path(place, "voice.safetensors")
        _save_voice(model, voice)
        environment = dict(os.environ)
        if cold:
            environment["NUMBA_CACHE_DIR"] = str(Path(place, "kernels"))
        command = [sys.executable, "-m", "tests.measure.start", "--child", "--model", str(model)]
        started = time.time()
        run = subprocess.run(
            [*command, "--voice", str(voice), "--output", str(Path(place, "speech.wav"))],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        raise RuntimeError(run.stderr)
    answer = json.loads(run.stdout.splitlines()[-1])
    ends, found, before = answer["ends"], {}, started
    for stage in STAGES:
        found[stage] = ends[stage] - before
        before = ends[stage]
    return {**found, "first audio": before - started, "processor": answer["processor"]}


def medians(model: Path, *, cold: bool = False, repeats: int = 3) -> dict[str, float]:
    """:func:`measure` so many times, after one that is not counted."""
    runs = [measure(model, cold=cold) for _ in range(repeats + 1)][1:]
    return {name: median(run[name] for run in runs) for name in runs[0]}


def _save_voice(model: Path, path: Path) -> None:
    from mlx_audio_turbo.benchmark.measure import voice_of
    from mlx_audio_turbo.benchmark.workload import workload
    from mlx_audio_turbo.config import from_json
    from mlx_audio_turbo.presets import TURBO

    values = json.loads((model / "config.json").read_text())
    voice_of(workload(from_json(values, absent=TURBO), 10.0), values["family"]).save(path)


def _child(model: Path, voice: str, output: str) -> int:
    """The command, with the times of its stages on standard output."""
    from mlx_audio_turbo.cli import tts

    ends: dict[str, float] = {"imports": time.time()}
    used: list[float] = []
    with ExitStack() as stack:
        stack.enter_context(_watched(ends, used))
        code = tts.main(
            [
                *("--model", str(model), "--text", TEXT, "--voice", voice, "--stream", "--quiet"),
                *("--seed", "1", "--max_tokens", "40", "--output", output),
            ]
        )
    print(json.dumps({"ends": ends, "processor": used[0]}))
    return code


@contextmanager
def _watched(ends: dict[str, float], used: list[float]) -> Iterator[None]:
    """While it is open, ``ends`` gets the end of each stage, once."""
    import mlx.core as mx

    from mlx_audio_turbo.models import base
    from mlx_audio_turbo.s3gen.model import TokenToMel
    from mlx_audio_turbo.synthesis import scheduler
    from mlx_audio_turbo.synthesis.token_to_wav import TokenToWav
    from mlx_audio_turbo.t3.decoder import Decoder
    from mlx_audio_turbo.t3.prefix_cache import PrefixCache

    def ended(stage: str) -> Callable[[Any], None]:
        def end(result: Any) -> None:
            if isinstance(result, mx.array):
                mx.eval(result)
            ends.setdefault(stage, time.time())

        return end

    def first_audio(piece: Any) -> None:
        if "vocoder" not in ends:
            ends["vocoder"] = time.time()
            used.append(sum(os.times()[:4]))  # of the processes that compiled too

    def after(owner: Any, name: str, end: Callable[[Any], None], before: str = "") -> Any:
        original = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            if before:
                ended(before)(None)
            result = original(*args, **options)
            if not isinstance(result, Iterator):
                end(result)
                return result
            return _each(result, end)

        return mock.patch.object(owner, name, call)

    with ExitStack() as stack:
        for watch in (
            after(base, "open_model", ended("load")),
            after(PrefixCache, "get", ended("prefix")),
            after(TokenToMel, "__call__", ended("S3Gen")),
            after(TokenToWav, "push", first_audio, before="tokens"),
            # Random weights stop by chance.
            mock.patch.object(scheduler, "Decoder", partial(Decoder, stop=False)),
        ):
            stack.enter_context(watch)
        yield


def _each(values: Iterator[Any], end: Callable[[Any], None]) -> Iterator[Any]:
    for value in values:
        end(value)
        yield value


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a model folder")
    parser.add_argument("--kernels", nargs="+", choices=("warm", "cold"), default=("warm", "cold"))
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many (%(default)s)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--voice", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return _child(args.model, args.voice, args.output)
    model = args.model
    if model is None:
        from mlx_audio_turbo.presets import TURBO

        from .folders import stored
        from .peers.process import ready

        work = ROOT / ".parity"
        model = stored(ready(work / "turbo", TURBO), "8 bits", work=work)
    found = {
        kind: medians(model, cold=kind == "cold", repeats=args.repeats) for kind in args.kernels
    }
    print(f"{'seconds':14}" + "".join(f"{f'{kind} kernels':>14}" for kind in found))
    for name in (*STAGES, "first audio", "processor"):
        print(f"{name:14}" + "".join(f"{each[name]:14.2f}" for each in found.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
