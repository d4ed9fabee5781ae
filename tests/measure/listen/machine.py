"""Times and sizes of ``demo`` as users meet them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mlx_audio_turbo import ChatterboxTurbo
from tests.wheel import ROOT, build_wheel

REPEATS = 5
CLOSED = "http://127.0.0.1:9"
"""A proxy that refuses every connection, as no network does."""


@dataclass(frozen=True)
class Work:
    """Seconds that a second of audio takes, and seconds of all processors together."""

    wall: float
    processors: float


def work(model: ChatterboxTurbo, text: str) -> Work:
    """The least of some runs: others may be busy on the machine."""
    runs = [_spoken(model, text) for _ in range(2 * REPEATS)]
    return Work(min(run.wall for run in runs), min(run.processors for run in runs))


def _spoken(model: ChatterboxTurbo, text: str) -> Work:
    wall, processors = time.perf_counter(), time.process_time()
    seconds = model.generate(text, seed=0).duration
    return Work(
        (time.perf_counter() - wall) / seconds, (time.process_time() - processors) / seconds
    )


def make_speak() -> float:
    """Seconds of ``make speak`` where the Hub does not answer, in the fastest of some runs."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), CLOSED)
    environment = {**os.environ, **proxies, "no_proxy": "", "NO_PROXY": ""}
    times = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speech.wav"
        # The set-up is not repeated, nor is it another one where this program was started so.
        installed = ("-o", f"{sys.prefix}/.installed")
        command = ["make", "speak", *installed, f"VENV={sys.prefix}", f"OUT={out}", "BACKEND=cpu"]
        for _ in range(REPEATS):
            out.unlink(missing_ok=True)
            start = time.perf_counter()
            said = subprocess.run(
                command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
            )
            times.append(time.perf_counter() - start)
            assert "demo" in said.stdout and out.stat().st_size > 10_000, said
    return min(times)


def wheel_sizes() -> tuple[float, float]:
    """Megabytes of the wheel, and of the model in it."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            model = sum(
                info.compress_size for info in archive.infolist() if "assets/demo/" in info.filename
            )
        return wheel.stat().st_size / 1e6, model / 1e6
