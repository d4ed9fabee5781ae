"""Time and memory by the length of the audio, each length in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import OptionError


def by_length(model: str, lengths: Sequence[float], *, passes: int = 1) -> list[dict[str, Any]]:
    """For each length in seconds what ``--brief --json`` says of it, the fastest of ``passes``.

    A process's peak of memory only ever grows, so that none measures two lengths.
    """
    return [
        min((_run(model, seconds) for _ in range(passes)), key=lambda run: run["stages"]["whole"])
        for seconds in sorted(lengths)
    ]


def _run(model: str, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "mlx_audio_turbo.benchmark", "--model", str(model)]
    command += ["--seconds", str(seconds), "--brief", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise OptionError(f"{seconds} s of audio: {run.stderr.strip().splitlines()[-1]}")
    return json.loads(run.stdout)


def lines(runs: Sequence[dict[str, Any]]) -> str:
    """A line for each length."""
    heads = f"{'audio, s':>9} {'time, s':>9} {'T3':>7} {'S3Gen':>7} {'HiFT':>7}"
    out = [f"{heads} {'peak over weights':>19}"]
    for run in runs:
        stages = run["stages"]
        tokens = stages["T3 prefill"] + stages["T3 decode"]
        over = run["memory"]["peak_resident"] - run["memory"]["weights"]
        out.append(
            f"{run['seconds']:9.0f} {stages['whole']:9.2f} {tokens:7.2f} {stages['S3Gen']:7.2f} "
            f"{stages['HiFT']:7.2f} {over / 1e6:16,.0f} MB"
        )
    return "\n".join(out)
