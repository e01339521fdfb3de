"""Verifying one view: recompute it, then compare every key, bucket and measure with what serving said."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.measures import ApproxDistinct
from tideline.oracle.arithmetic import Untranslatable
from tideline.oracle.compare import can_check, check, check_sketches
from tideline.oracle.duck import Duck, Expected, RowKey, row_key
from tideline.oracle.events import Events
from tideline.oracle.report import SHOWN, Difference, ViewReport
from tideline.oracle.spark import Spark
from tideline.types import TIMESTAMP, Column, bucket_start, from_wire, parse_time, to_wire

ALL_KEYS = "(all keys)"


@dataclass(frozen=True)
class Answered:
    """What serving said of one view at one snapshot: rows of Python values, and their proof.

    `kept` is the shortest retention that the view has had, in microseconds.
    """

    view: ViewDefinition
    rows: Sequence[Mapping[str, Any]]
    proof: Mapping[str, Any]
    kept: int | None = None

    @property
    def name(self) -> str:
        """The view's, with the version that was asked for, as in `revenue@7`."""
        return self.view.name if self.proof["mode"] == "live" else f"{self.view.name}@{self.proof['version']}"

    @property
    def cut(self) -> Cut:
        """Where the answer ends."""
        return Cut.from_json(self.proof["cut"])

    @property
    def floor(self) -> int | None:
        """The start of the earliest bucket that is answered, in microseconds."""
        floor = self.proof["floor"]
        return None if floor is None else parse_time(floor)


@dataclass
class _Findings:
    """Differences as they are found; only the first few are kept."""

    view: ViewDefinition
    values: int = 0
    count: int = 0
    first: list[Difference] = field(default_factory=list)

    def compare(self, right: bool, key: RowKey | None, measure: str, expected: Any, found: Any) -> None:
        """Count one comparison, and note it if it failed."""
        self.values += 1
        if right:
            return
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(Difference(*_readable(self.view, key), measure, expected, found))


def _readable(view: ViewDefinition, key: RowKey | None) -> tuple[dict[str, Any], Any]:
    if key is None:
        return {ALL_KEYS: ""}, None
    return {c.name: _read(c, value) for c, value in zip(view.key, key[0], strict=True)}, bucket_start(key[1])


def _read(column: Column, value: Any) -> Any:
    return float("nan") if value == "NaN" and column.type.is_floating else from_wire(column.type, value)


def check_view(answered: Answered, events: Events, duck: Duck, spark: Spark, counted: bool = True) -> ViewReport:
    """Recompute one view and compare; with its counts of records if `counted`."""
    began = time.monotonic()
    oracle, reason, expected = recompute(answered, duck, spark)
    findings = _Findings(answered.view)
    _compare_proof(findings, answered, events, expected, counted)
    keys = _compare_rows(findings, answered, expected)
    unchecked = tuple(name for name, measure in answered.view.shown.items() if not can_check(measure))
    return ViewReport(
        answered.name,
        oracle,
        keys,
        len(answered.view.shown) - len(unchecked),
        findings.values,
        time.monotonic() - began,
        findings.count,
        tuple(findings.first),
        unchecked,
        reason,
    )


def recompute(answered: Answered, duck: Duck, spark: Spark) -> tuple[str, str, Expected]:
    """The oracle's name, why it was not DuckDB, and the view as it should be."""
    view, oracle, reason = answered.view, "duckdb", ""
    try:
        duck.compute_rows(view)
    except Untranslatable as error:
        oracle, reason = "spark", str(error)
        duck.load_rows(spark.compute_inputs(view))
    return oracle, reason, duck.aggregate(view, answered.floor)


def _compare_proof(findings: _Findings, answered: Answered, events: Events, expected: Expected, counted: bool) -> None:
    truth = {"rejects": expected.rejects}
    if counted:
        truth |= {"events": events.events, "duplicates": events.duplicates, "dead_letters": events.dead}
    for name, count in truth.items():
        sides = answered.proof[name]
        findings.compare(sides["batch"] + sides["speed"] == count, None, f"proof.{name}", count, dict(sides))
    view, floor = answered.view, answered.floor
    if floor is not None:
        # Whatever begins within `keep` of the latest event must still be answered; a floor stays where `keep` grows.
        keep = min((kept for kept in (view.keep, answered.kept) if kept is not None), default=None)
        highest = None if keep is None else duck_floor(events, keep, view.bucket or 1)
        findings.compare(
            highest is not None and floor <= highest,
            None,
            "proof.floor",
            bucket_start(highest),
            bucket_start(floor),
        )


def duck_floor(events: Events, keep: int, bucket: int) -> int | None:
    """The highest floor that a view's retention allows: the first bucket that begins within `keep` of the
    latest event.
    """
    if not len(events.table):
        return None
    latest: int = max(chunk.to_numpy().max() for chunk in events.table["_at"].chunks if len(chunk))
    return -(-(int(latest) - keep) // bucket) * bucket


def _compare_rows(findings: _Findings, answered: Answered, expected: Expected) -> int:
    """Every row of either side; returns how many keys were compared."""
    view = answered.view
    found: dict[RowKey, Mapping[str, Any]] = {}
    for row in answered.rows:
        key = _key_of(view, row)
        if key in found:
            findings.compare(False, key, "(key)", "one row", "two rows")
        found[key] = row
    for key in expected.rows.keys() - found.keys():
        findings.compare(False, key, "(key)", "a row", "no row")
    for key in found.keys() - expected.rows.keys():
        findings.compare(False, key, "(key)", "no row", "a row")
    common = [key for key in expected.rows if key in found]
    for index, (name, measure) in enumerate(view.shown.items()):
        if not can_check(measure):
            continue
        for key in common:
            right, wanted = check(measure, expected.rows[key][index], found[key][name])
            findings.compare(right, key, name, wanted, found[key][name])
        if isinstance(measure, ApproxDistinct) and not measure.bound["exact"]:
            pairs = list(_pairs(common, expected, found, index, name))
            right, wanted = check_sketches(measure, pairs, expected.distinct[name])
            findings.compare(right, None, name, wanted, f"{len(pairs)} estimates")
    return len(expected.rows.keys() | found.keys())


def _pairs(
    keys: Sequence[RowKey],
    expected: Expected,
    found: Mapping[RowKey, Mapping[str, Any]],
    index: int,
    name: str,
) -> Iterator[tuple[int, int]]:
    for key in keys:
        if isinstance(found[key][name], int):
            yield expected.rows[key][index], found[key][name]


def _key_of(view: ViewDefinition, row: Mapping[str, Any]) -> RowKey:
    bucket = to_wire(TIMESTAMP, row["bucket"]) if view.bucket else None
    return row_key(view, [row[column.name] for column in view.key]), bucket
