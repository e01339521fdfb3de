"""The tables of `docs/benchmarks.md`, made from `docs/benchmarks.json`; the text around them is written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: scripts/bench writes these lines -->", "<!-- end of figures -->"
COLUMNS = ("figure", "value", "unit", "spread", "floor", "target", "met", "others")


def write(page: Path, figures: Path, plots: Sequence[str] = ()) -> None:
    """Puts the tables into the page, between its two marks, each part's with the plot of that name."""
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    data = json.loads(figures.read_text("utf-8"))
    page.write_text(f"{before}{BEGIN}\n\n{chr(10).join(_lines(data, plots))}\n{END}{after}", "utf-8")


def _lines(data: dict[str, Any], plots: Sequence[str]) -> Iterator[str]:
    parts = dict.fromkeys(figure["part"] for figure in data["figures"])
    for part in parts:
        machine = data["machine"].get(part, {})
        yield f"### {part}"
        yield ""
        if f"benchmarks-{part}.svg" in plots:
            yield f"![{part}](benchmarks-{part}.svg)"
            yield ""
        yield f"On {', '.join(f'{name} {value}' for name, value in machine.items())}."
        yield ""
        yield f"| {' | '.join(COLUMNS)} |"
        yield f"|{' --- |' * len(COLUMNS)}"
        for figure in data["figures"]:
            if figure["part"] == part:
                yield f"| {' | '.join(_cells(figure))} |"
        yield ""


def _cells(figure: dict[str, Any]) -> Iterator[str]:
    yield figure["figure"]
    yield _number(figure["value"])
    yield figure["unit"]
    yield f"± {figure['spread']:.0%} of {len(figure['runs'])}"
    for bound in ("floor", "target"):
        yield _number(figure[bound])
    met = {name: "yes" if found else "no" for name, found in figure["met"].items() if found is not None}
    yield ", ".join(f"{name}: {said}" for name, said in met.items())
    yield ", ".join(f"{name} {_number(value)}" for name, value in figure["peers"].items())


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
