"""Kill conversions at random moments: what is left is no folder or a whole one.

    python -m tests.measure.stress.kills --count 200

The converter is loaded once; each attempt is a fork that is killed with SIGKILL while it writes,
and another fork loads what stands under the name. Every other attempt replaces a folder that is
there, which must stay whole under its name at all times.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlx_audio_turbo.config import Quantization
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert import folder
from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic


@dataclass
class Outcome:
    """How many attempts were killed, how many came through, and what stood there afterwards."""

    killed: int = 0
    finished: int = 0
    absent: int = 0
    whole: int = 0


def in_a_fork(work: Callable[[], object]) -> int:
    """Start ``work`` in a process of its own, which exits with 0 where nothing is raised."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def status(pid: int) -> int:
    """The exit code of a fork; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(count: int, place: Path, *, seed: int = 0) -> Outcome:
    """Try ``count`` times in the folder ``place``.

    Raises:
        AssertionError: a folder is there and cannot be loaded, one that was there is gone, or
            something half-made is never swept.
    """
    checkpoint = synthetic.write_checkpoint(place / "upstream", config=TINY, name="tiny")
    source = recognise(checkpoint)
    output = place / "output" / "model"
    chance = random.Random(seed)

    def convert() -> None:
        # MLX must not have started its threads before a fork, so only forks quantise and load.
        bits = chance.choice([None, None, 4])
        quantization = Quantization(bits, 32) if bits else None
        folder.convert(source, output, dtype="float16", quantization=quantization, force=True)

    started = time.monotonic()
    assert status(in_a_fork(convert)) == 0
    usual = time.monotonic() - started
    outcome = Outcome()
    for attempt in range(count):
        replaced = attempt % 2 == 1
        if not replaced:
            shutil.rmtree(output, ignore_errors=True)
        elif not output.exists():
            assert status(in_a_fork(convert)) == 0
        there = output.exists()
        pid = in_a_fork(convert)
        time.sleep(chance.uniform(0, 1.2 * usual))
        os.kill(pid, signal.SIGKILL)
        killed = status(pid) < 0
        outcome.killed += killed
        outcome.finished += not killed
        if output.exists():
            outcome.whole += 1
            assert status(in_a_fork(lambda: load(output))) == 0, f"attempt {attempt}: not whole"
        else:
            outcome.absent += 1
            assert killed and not there, f"attempt {attempt}: the folder is gone"
    assert status(in_a_fork(convert)) == 0
    left = sorted(path.name for path in output.parent.iterdir())
    assert left == ["model"], f"left behind: {left}"
    return outcome


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Kill conversions at random moments.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        outcome = check(args.count, Path(place), seed=args.seed)
    print(
        f"{args.count} attempts, {outcome.killed} killed, {outcome.finished} finished before: "
        f"{outcome.whole} whole folders, {outcome.absent} times none, 0 others"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
