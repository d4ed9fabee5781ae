"""Time by stage of each implementation, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

MARKERS = "osD^v"
"""One for each implementation, so that the picture does not need colour."""


def plot_stages(
    times: Mapping[str, Mapping[str, float]],
    titles: Mapping[str, str],
    stages: Sequence[str],
    *,
    seconds: float,
    path: Path,
) -> None:
    """Write a PNG with a line for each stage and a mark for each implementation.

    The axis is logarithmic: equal distances are equal ratios.

    Args:
        times: seconds by implementation and stage.
        titles: of the implementations, in the order of the legend.
        seconds: of speech, marked as real time.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    shown = [name for name in titles if name in times]
    for marker, name in zip(MARKERS, shown, strict=False):
        values = [times[name][stage] for stage in stages]
        axes.plot(values, range(len(stages)), marker, markersize=9, label=titles[name])
    axes.axvline(seconds, color="0.4", linewidth=1, linestyle="--")
    axes.text(seconds, -0.75, " real time", color="0.3", va="center", fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(stages)), stages)
    axes.set_ylim(len(stages) - 0.5, -1.1)
    axes.set_xlabel(f"seconds for {seconds:g} s of speech (logarithmic)")
    axes.grid(axis="x", which="both", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(shown), frameon=False)
    figure.savefig(path, dpi=110)
