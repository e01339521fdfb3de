"""Samples of what Python processes did, as an icicle plot and as a table of the functions that took most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

Stack = tuple[str, ...]
"""Functions from the outermost to the innermost, each as `name (file)`."""
PRODUCT = re.compile(r"\((tideline|batch_layer|speed_layer|serving_layer)/")
WAITS = re.compile(
    r"^(.*\.)?(readinto \(socket|select \(selectors|poll \(pyspark/accumulators|run \(py4j/|wait \(threading"
    r"|_worker \(concurrent/|manager \(daemon|send_command \(py4j/|_wait_for_tstate_lock \(threading"
    r"|poll_select|poll \(selectors|get \(queue|accept \(socket|<lambda> \(confluent|wait_for_commands \(py4j/)"
)
"""Innermost functions of threads that wait: they say nothing of where a processor works."""
OUTER = re.compile(r"\((daemon|runpy|threading|<frozen runpy>|tests/bench/[^)]*|engine[^)]*)\)|^<module>|^_bootstrap")
"""Functions that all others are within."""
FRAMEWORKS = {"fastapi": "FastAPI", "starlette": "Starlette", "uvicorn": "uvicorn"}
_FRAMEWORK = re.compile(rf"\(({'|'.join(FRAMEWORKS)})/")
_LEAST = 0.002  # of all samples; less is not drawn


def read_samples(raw: Iterable[str]) -> Counter[Stack]:
    """The samples of py-spy's `raw` format: a line is functions, outermost first, and how often."""
    found: Counter[Stack] = Counter()
    for line in raw:
        text, _, count = line.rstrip("\n").rpartition(" ")
        frames = tuple(
            frame for frame in text.split(";") if not OUTER.search(frame) and not frame.startswith("process ")
        )
        if frames and not WAITS.search(frames[-1]):
            found[frames] += int(count)
    return found


def top(samples: Counter[Stack], count: int) -> list[tuple[str, float]]:
    """(function, share) of the innermost functions of the product, with what they call of libraries; a web framework's
    own work stands by itself."""
    shares: Counter[str] = Counter()
    for stack, seen in samples.items():
        shares[next(filter(None, map(_owner, reversed(stack))), "Spark's and Python's own")] += seen
    whole = samples.total() or 1
    return [(name, seen / whole) for name, seen in shares.most_common(count)]


def _owner(frame: str) -> str | None:
    if PRODUCT.search(frame):
        return frame
    framework = _FRAMEWORK.search(frame)
    return FRAMEWORKS[framework[1]] if framework else None


def draw(target: Path, samples: Counter[Stack], depth: int = 28) -> None:
    """An icicle: what calls stands above what is called, as wide as it takes time."""
    mpl.rcParams.update({"svg.hashsalt": "tideline", "svg.fonttype": "none"})
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(-depth, 0))
    _level(axes, samples, 0.0, 0, samples.total() or 1, depth)
    figure.savefig(target, metadata={"Date": None})


def _level(axes: Axes, samples: Counter[Stack], left: float, level: int, whole: int, depth: int) -> None:
    inner: dict[str, Counter[Stack]] = {}
    for stack, seen in samples.items():
        if len(stack) > level:
            inner.setdefault(stack[level], Counter())[stack] += seen
    for name, found in sorted(inner.items()):
        width = found.total() / whole
        if width < _LEAST or level >= depth:
            continue
        colour = "#66d9e8" if PRODUCT.search(name) else "#dee2e6"
        axes.add_patch(Rectangle((left, -level - 1), width, 1, facecolor=colour, edgecolor="white", linewidth=0.5))
        room = int(width * 165)
        if room > 3:
            axes.text(left + 0.002, -level - 0.5, name[:room], va="center", fontsize=6, clip_on=True)
        _level(axes, found, left, level + 1, whole, depth)
        left += width
