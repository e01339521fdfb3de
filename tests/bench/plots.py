"""The plots of `docs/benchmarks.md`, made from what was measured, each where its part has been."""

from __future__ import annotations

from pathlib import Path

import drain
import freshness
import matplotlib as mpl
import numpy as np
import recompute
from figures import Runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.rcParams.update({"svg.hashsalt": "tideline", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
_OURS, _OTHERS = "#0b7285", "#adb5bd"


def write(folder: Path, runs: Runs) -> list[str]:
    """Writes the plots there; the names of the files."""
    found = []
    for name, draw in (("drain", _drain), ("freshness", _freshness), ("recompute", _recompute)):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        if draw(figure.add_subplot(), runs):
            figure.savefig(folder / f"benchmarks-{name}.svg", metadata={"Date": None})
            found.append(f"benchmarks-{name}.svg")
    return found


def _drain(axes: Axes, runs: Runs) -> bool:
    names = ["reading", "tideline", *drain.PEERS]
    times = {name: float(np.median(found)) for name in names if (found := runs.values(drain.PART, name, "seconds"))}
    ordered = sorted(times, key=lambda name: -times[name])
    colours = [_OURS if name == "tideline" else _OTHERS for name in ordered]
    bars = axes.barh(ordered, [times[name] for name in ordered], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("seconds for the backlog")
    return "tideline" in times


def _freshness(axes: Axes, runs: Runs) -> bool:
    seen = False
    for name, colour in (("tideline", _OURS), ("by hand", _OTHERS)):
        for share, style in (("p50", "-"), ("p99", "--")):
            found = {rate: runs.values(freshness.PART, f"{name}, {rate}/s", share) for rate in freshness.RATES}
            points = [(rate, float(np.median(values))) for rate, values in found.items() if values]
            if points:
                seen = True
                axes.plot(*zip(*points, strict=True), style, marker="o", color=colour, label=f"{name}, {share}")
    if seen:
        axes.set(xscale="log", xlabel="events a second", ylabel="ms to an answer", ylim=(0, None))
        axes.legend()
    return seen


def _recompute(axes: Axes, runs: Runs) -> bool:
    seen = False
    for name, colour in (("full", _OURS), ("incremental", "#66d9e8"), ("spark", _OTHERS), ("duckdb", "#495057")):
        found = {size: runs.values(recompute.PART, f"{name}, {size} M", "seconds") for size in recompute.MILLIONS}
        points = [(size, float(np.median(values))) for size, values in found.items() if values]
        if points:
            seen = True
            axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=name)
    if seen:
        axes.set(xlabel="million events in the master", ylabel="seconds", xlim=(0, None), ylim=(0, None))
        axes.legend()
    return seen
