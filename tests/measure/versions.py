"""The least MLX that pyproject.toml allows and the newest of the registry: both must work.

Run: ``make versions``, or ``python -m tests.measure.versions floor newest``. Each version gets a
virtual environment of its own, ``.venv-mlx-…``, where the command and the Python API speak, each
five times and in processes of their own, quick files of tests run five times, and then all tests
once, which takes half an hour on two cores. What is counted are exit codes: versions below the
floor spoke and then aborted at the end of the process.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "tests" / "data" / "1069-133699-0000.flac"
BAD = re.compile("traceback|terminate called|libc.*abi|fatal|segmentation", re.IGNORECASE)
"""What a process that ends badly says, whatever its exit code."""
QUICK = ("t3", "hift", "ops", "goldens", "every_tensor", "decoding", "engine", "processes")
"""The files ``tests/test_….py`` that run several times: kernels, caches, threads, processes."""
API = """
import sys, threading
from mlx_audio_turbo import ChatterboxTurbo
model = ChatterboxTurbo.from_pretrained("tiny")
voice = model.encode_voice(sys.argv[1])
speech = model.generate("Hello there, this is said.", voice=voice, seed=1, max_tokens=40)
begun = model.stream("This is not heard to its end.", voice=voice, seed=1, max_tokens=60)
next(begun)
sizes = []
other = threading.Thread(target=lambda: sizes.append(
    model.generate("Hello.", voice=voice, seed=2, max_tokens=10).audio.size))
other.start()
other.join()
assert speech.audio.size > 0 and sizes[0] > 0
print("spoken")
"""
"""The model stays open and a stream unread, as in a script that ends after its last line."""


def floor() -> str:
    """The version in pyproject.toml."""
    found = re.search(r'^  "mlx>=([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert found is not None
    return found[1]


def environment(version: str, *, tests: bool) -> Path:
    """The Python of an environment with this version, or with the newest; made where it is not."""
    folder = ROOT / f".venv-mlx-{version}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    extras = [*(["cpu"] if sys.platform == "linux" else []), *(["dev"] if tests else [])]
    package = f".[{','.join(extras)}]" if extras else "."
    mlx = ["--upgrade", "mlx"] if version == "newest" else [f"mlx=={version}"]
    install = [python, "-m", "pip", "install", "--quiet", *mlx, "--editable", package]
    subprocess.run(list(map(str, install)), cwd=ROOT, check=True)
    return python


def installed(python: Path) -> str:
    """The version of MLX that ``python`` imports."""
    code = "import mlx.core as mx; print(mx.__version__)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout


def ends_well(command: Sequence[str | Path], environ: dict[str, str], code: int = 0) -> bool:
    """Whether ``command`` exits with ``code`` and without a trace of an abort."""
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environ, capture_output=True, text=True
    )
    well = done.returncode == code and not BAD.search(done.stderr)
    if not well:
        print(f"exit code {done.returncode}, not {code}: {done.stderr.strip()[-2000:]}")
    return well


def spoken(python: Path, runs: int) -> dict[str, int]:
    """How many of ``runs`` end well, for each way to speak."""
    with tempfile.TemporaryDirectory() as place:
        environ = {**os.environ, "MLX_AUDIO_TURBO_CACHE": place, "HF_HUB_OFFLINE": "1"}
        tts = [python.with_name("mlx_audio_turbo.tts"), "--model", "tiny"]
        tts += ["--text", "Hello there, this is said.", "--output", f"{place}/speech.wav"]
        ways = {
            "the command": ([*tts, "--ref_audio", CLIP], 0),
            "the Python API": ([python, "-c", API, CLIP], 0),
            "a mistake": ([*tts, "--ref_audio", "no such clip.wav"], 2),
        }
        return {
            way: sum(ends_well(command, environ, code) for _ in range(runs))
            for way, (command, code) in ways.items()
        }


def passes(python: Path, tests: Sequence[str]) -> bool:
    """Whether ``tests`` pass, in two processes as in ``make test``."""
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *tests]
    return subprocess.run(list(map(str, command)), cwd=ROOT).returncode == 0


def main() -> int:
    """Print a line for each version and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=["floor", "newest"])
    parser.add_argument(
        "--runs", type=int, default=5, help="of each way to speak and of quick tests (default 5)"
    )
    parser.add_argument(
        "--tests",
        choices=("none", "quick", "all"),
        default="all",
        help="none, the quick ones, or also all of them once (default all)",
    )
    args = parser.parse_args()
    good = True
    for named in args.versions:
        version = floor() if named == "floor" else named
        python = environment(version, tests=args.tests != "none")
        label = f"MLX {installed(python).strip()}"
        for way, count in spoken(python, args.runs).items():
            print(f"{label}: {way} ends well {count} of {args.runs} times", flush=True)
            good &= count == args.runs
        if args.tests != "none":
            files = [f"tests/test_{name}.py" for name in QUICK]
            count = sum(passes(python, files) for _ in range(args.runs))
            print(f"{label}: quick tests pass {count} of {args.runs} times", flush=True)
            good &= count == args.runs
        if args.tests == "all":
            well = passes(python, ["tests"])
            print(f"{label}: the tests {'pass' if well else 'fail'}", flush=True)
            good &= well
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
