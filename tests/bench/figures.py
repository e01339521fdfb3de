"""Figures of a benchmark: what was measured, against which floor and target, kept as JSON and resumed from it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table. `value` is the median of `runs`; floor and target are bounds, of which less is better
    unless `more` is set; None where there is none."""

    part: str
    figure: str
    unit: str
    runs: list[float]
    floor: float | None = None
    target: float | None = None
    more: bool = False
    peers: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.runs)

    @property
    def spread(self) -> float:
        """Half the distance between the least and the most of the runs, as a share of the median."""
        return (max(self.runs) - min(self.runs)) / 2 / self.value if self.value else 0.0

    def holds(self, bound: float | None) -> bool | None:
        """Whether the value lies within a bound; None without one."""
        return None if bound is None else self.value >= bound if self.more else self.value <= bound

    def to_json(self) -> dict[str, Any]:
        """As it stands in `docs/benchmarks.json`."""
        return {
            **asdict(self),
            "value": round(self.value, 4),
            "spread": round(self.spread, 3),
            "met": {"floor": self.holds(self.floor), "target": self.holds(self.target)},
        }


class Runs:
    """What was measured so far, a line of JSON each: a benchmark that was broken off goes on behind it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        self._found: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def add(self, part: str, name: str, **values: Any) -> dict[str, Any]:
        """Keeps one measurement."""
        line = {"part": part, "name": name, **values}
        self._found.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        return line

    def of(self, part: str, name: str) -> list[dict[str, Any]]:
        """The measurements of one name, in order."""
        return [line for line in self._found if (line["part"], line["name"]) == (part, name)]

    def values(self, part: str, name: str, value: str) -> list[float]:
        """One value of each of them."""
        return [line[value] for line in self.of(part, name) if value in line]


def save(path: Path, figures: Iterable[Figure], machine: dict[str, Any], parts: Sequence[str]) -> None:
    """Writes `docs/benchmarks.json`; figures of other parts stay."""
    old: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    kept = [figure for figure in old.get("figures", ()) if figure["part"] not in parts]
    machines = {**old.get("machine", {}), **dict.fromkeys(parts, machine)}
    data = {"machine": machines, "figures": [*kept, *(figure.to_json() for figure in figures)]}
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
