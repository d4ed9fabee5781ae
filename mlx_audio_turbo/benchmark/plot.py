"""Time and memory against the length of the audio, as an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ExtraError


def save_plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the plot of what ``by_length`` gave.

    Raises:
        ExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise ExtraError("plots need matplotlib; pip install matplotlib") from None
    seconds = [run["seconds"] for run in runs]
    stages = {
        "T3": [run["stages"]["T3 prefill"] + run["stages"]["T3 decode"] for run in runs],
        "S3Gen": [run["stages"]["S3Gen"] for run in runs],
        "HiFT": [run["stages"]["HiFT"] for run in runs],
    }
    memory = [(run["memory"]["peak_resident"] - run["memory"]["weights"]) / 1e9 for run in runs]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3), dpi=100)
    left.stackplot(seconds, *stages.values(), labels=list(stages), alpha=0.8)
    left.plot(seconds, seconds, "k--", linewidth=1, label="real time")
    left.set(xlabel="seconds of audio", ylabel="seconds", ylim=(0, None))
    left.legend(loc="upper left", fontsize=8)
    right.plot(seconds, memory, "o-")
    right.set(xlabel="seconds of audio", ylabel="GB over the weights", ylim=(0, None))
    for axes in (left, right):
        axes.set_xlim(min(seconds), max(seconds))
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
