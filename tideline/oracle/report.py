"""What a verification found, as values, text and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tideline.types import json_value

SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """One answer that is not what the log says; `measure` is `(key)` where a whole row is missing or extra."""

    key: dict[str, Any]
    bucket: Any
    measure: str
    expected: Any
    found: Any

    def to_json(self) -> dict[str, Any]:
        return {
            "key": _plain(self.key),
            "bucket": json_value(self.bucket),
            "measure": self.measure,
            "expected": _plain(self.expected),
            "found": _plain(self.found),
        }

    def __str__(self) -> str:
        key = ", ".join(f"{name}={json_value(value)}" for name, value in self.key.items()) or "(no key)"
        at = "" if self.bucket is None else f" at {json_value(self.bucket)}"
        return f"{key}{at}: {self.measure}: expected {_plain(self.expected)}, found {_plain(self.found)}"


@dataclass(frozen=True)
class ViewReport:
    """One view's outcome. `values` counts the answers compared, `differences` all that were wrong, `first`
    the first ten.

    `unchecked` names measures for which the oracle had no rule, `reason` says why DuckDB could not compute
    the view.
    """

    view: str
    oracle: str
    keys: int
    measures: int
    values: int
    seconds: float
    differences: int
    first: tuple[Difference, ...] = ()
    unchecked: tuple[str, ...] = ()
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether every measure was checked and nothing differs."""
        return not self.differences and not self.unchecked

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "equal": self.ok,
            "oracle": self.oracle,
            "keys": self.keys,
            "measures": self.measures,
            "values": self.values,
            "seconds": round(self.seconds, 3),
            "differences": self.differences,
            "first": [difference.to_json() for difference in self.first],
            "unchecked": list(self.unchecked),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class LogReport:
    """One source's log before the cut, and the faults in it: differences between Kafka and the master."""

    source: str
    cut: dict[str, dict[str, int]]
    records: int
    events: int
    duplicates: int
    dead_letters: int
    from_kafka: int
    from_master: int
    compared: int
    seconds: float
    faults: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "seconds": round(self.seconds, 3), "faults": list(self.faults)}


@dataclass(frozen=True)
class Report:
    """A verification of some views at one snapshot."""

    views: tuple[ViewReport, ...]
    logs: tuple[LogReport, ...]
    seconds: float = field(default=0.0)

    @property
    def keys(self) -> int:
        """How many keys and buckets were compared."""
        return sum(view.keys for view in self.views)

    @property
    def ok(self) -> bool:
        """Whether something was compared and all of it is equal."""
        return self.keys > 0 and all(view.ok for view in self.views) and not any(log.faults for log in self.logs)

    def to_json(self) -> dict[str, Any]:
        """`{"equal", "keys", "seconds", "views", "logs"}`."""
        return {
            "equal": self.ok,
            "keys": self.keys,
            "seconds": round(self.seconds, 3),
            "views": [view.to_json() for view in self.views],
            "logs": [log.to_json() for log in self.logs],
        }

    def to_text(self) -> str:
        """Tables for people: the logs, the views, and what differs."""
        lines = _table(
            [
                (
                    "source",
                    "records",
                    "events",
                    "duplicates",
                    "dead letters",
                    "from Kafka",
                    "from master",
                    "in both",
                ),
                *(
                    (
                        log.source,
                        log.records,
                        log.events,
                        log.duplicates,
                        log.dead_letters,
                        log.from_kafka,
                        log.from_master,
                        log.compared,
                    )
                    for log in self.logs
                ),
            ]
        )
        lines += [
            "",
            *_table(
                [
                    ("view", "result", "oracle", "keys", "measures", "values", "seconds"),
                    *(
                        (
                            v.view,
                            "equal" if v.ok else "DIFFERENT" if v.differences else "NOT CHECKED",
                            v.oracle,
                            v.keys,
                            v.measures,
                            v.values,
                            f"{v.seconds:.2f}",
                        )
                        for v in self.views
                    ),
                ]
            ),
            "",
        ]
        lines += [f"{log.source}: {fault}" for log in self.logs for fault in log.faults]
        for view in self.views:
            lines += [f"{view.view}: no check for {name}" for name in view.unchecked]
            lines += [f"{view.view}: {difference}" for difference in view.first]
            if view.differences > len(view.first):
                lines.append(f"{view.view}: and {view.differences - len(view.first)} more")
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        if self.ok:
            what = f"all {self.keys} keys of {len(self.views)} views"
            return f"{what} equal a recompute from the log ({self.seconds:.1f} s)"
        if not self.keys:
            return "nothing was compared"
        wrong = [view.view for view in self.views if not view.ok]
        where = f"views that do not equal a recompute: {', '.join(wrong)}" if wrong else "the log's two copies differ"
        return f"{where} ({self.seconds:.1f} s)"


def _table(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """Text in columns, numbers to the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first = [len(cells) > 1 and cell[:1].isdigit() for cell in cells[-1]]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, first, strict=True)
        ).rstrip()
        for row in cells
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return json_value(value)
