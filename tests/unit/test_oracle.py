"""The oracle: DuckDB's aggregates equal a naive fold in Python, and every planted difference is found."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from naive import Row, fold

from tideline.definition import ViewDefinition
from tideline.measures import (
    ApproxDistinct,
    Count,
    CountBy,
    First,
    Last,
    Max,
    Mean,
    Measure,
    Min,
    Quantiles,
    StdDev,
    Sum,
    TopK,
    Variance,
)
from tideline.oracle import compare
from tideline.oracle.check import Answered, check_view
from tideline.oracle.duck import Duck
from tideline.oracle.events import Events, arrow_type
from tideline.oracle.report import Report, ViewReport
from tideline.oracle.spark import Spark
from tideline.source import Source
from tideline.types import TIMESTAMP, Column, from_wire, parse_type, to_wire

SOURCE = Source(
    "s",
    schema="c string, n int, l bigint, x double, d decimal(10,2), day date, at timestamp",
    event_time="at",
).resolve()
HOUR = 3_600_000_000
TYPES = {column.name: column.type for column in SOURCE.schema}
MEASURES: dict[str, tuple[Measure, str]] = {
    "rows": (Count(), "int"),
    "positive": (Count(where="n > 0"), "int"),
    "known": (Count("n", where="x > 0"), "n"),
    "sum_int": (Sum("n"), "n"),
    "sum_long": (Sum("l"), "l"),
    "sum_decimal": (Sum("d", where="n > 0"), "d"),
    "sum_double": (Sum("x"), "x"),
    "mean_long": (Mean("l"), "l"),
    "mean_decimal": (Mean("d"), "d"),
    "mean_double": (Mean("x"), "x"),
    "variance": (Variance("n"), "n"),
    "variance_x": (Variance("x", population=True), "x"),
    "deviation": (StdDev("d"), "d"),
    "least": (Min("x"), "x"),
    "most": (Max("d"), "d"),
    "latest": (Max("at"), "at"),
    "word": (Min("c"), "c"),
    "day": (Max("day"), "day"),
    "first": (First("n"), "n"),
    "last": (Last("at", where="n > 0"), "at"),
    "last_d": (Last("d"), "d"),
    "by": (CountBy("c", where="n > 0"), "c"),
    "top": (TopK("c", k=2), "c"),
    "top_n": (TopK("c", k=3, weight="n"), "c"),
    "quantiles": (Quantiles("x", at=[0, 0.5, 0.9, 1]), "x"),
    "quantiles_d": (Quantiles("d"), "d"),
    "distinct": (ApproxDistinct("n"), "n"),
    "distinct_c": (ApproxDistinct("c"), "c"),
}


def view(**options: Any) -> ViewDefinition:
    measures = {name: measure.resolve(TYPES.get(kind)) for name, (measure, kind) in MEASURES.items()}
    whole = ViewDefinition("v", "s", "f" * 16, (Column("c", TYPES["c"]),), HOUR, None, measures, {}, {}, None)
    return replace(whole, **options)


def generate(count: int, seed: int, strange: bool = False) -> list[dict[str, Any]]:
    """Events in wire values (decimals as Decimal)."""
    chance = random.Random(seed)
    reals = [0.0, 1e-9, 1e9] + ([math.nan, math.inf, -math.inf] if strange else [])

    def one(offset: int) -> dict[str, Any]:
        values = {
            "c": chance.choice(["a", "b", "é", "", None]),
            "n": chance.choice([None, 0, 1, -5, chance.randint(-1000, 1000)]),
            "l": chance.choice([None, 2**63 - 1, -(2**63), chance.randint(-(2**62), 2**62)]),
            "x": chance.choice([None, *reals, chance.gauss(0, 100)]),
            "d": chance.choice([None, Decimal(chance.randint(-(10**10) + 1, 10**10 - 1)).scaleb(-2)]),
            "day": chance.choice([None, chance.randint(-1000, 20000)]),
            "at": chance.randint(-3 * HOUR, 3 * HOUR),
        }
        return {**values, "_partition": chance.randint(0, 2), "_offset": offset, "_at": values["at"]}

    return [one(offset) for offset in range(count)]


def table(events: list[dict[str, Any]]) -> Events:
    columns: dict[str, Any] = {}
    for name, kind in TYPES.items():
        raw = {"timestamp": pa.int64(), "date": pa.int32()}.get(kind.name, arrow_type(kind))
        columns[name] = pa.array([event[name] for event in events], raw).cast(arrow_type(kind))
    for name in ("_partition", "_offset", "_at"):
        columns[name] = pa.array([event[name] for event in events], pa.int64())
    columns["_timestamp"] = columns["_at"].cast(pa.timestamp("us"))
    return Events(pa.table(columns), len(events), len(events), 0, 0)


def answers(definition: ViewDefinition, events: list[dict[str, Any]], presented: bool = True) -> list[dict[str, Any]]:
    """What serving would say, computed row by row."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for event in events:
        bucket = None if definition.bucket is None else event["_at"] // definition.bucket * definition.bucket
        groups.setdefault((*(event[column.name] for column in definition.key), bucket), []).append(event)
    rows = []
    for group, members in groups.items():
        row = {column.name: value for column, value in zip(definition.key, group[:-1], strict=True)}
        if definition.bucket:
            row["bucket"] = from_wire(TIMESTAMP, group[-1])
        for name, measure in definition.measures.items():
            row[name] = measure.present(fold(measure, [naive_row(measure, event) for event in members]))
        rows.append(row)
    return rows


def naive_row(measure: Measure, event: dict[str, Any]) -> Row:
    conditions: dict[str | None, Callable[[], bool | None]] = {
        None: lambda: True,
        "n > 0": lambda: None if event["n"] is None else event["n"] > 0,
        "x > 0": lambda: None if event["x"] is None else event["x"] > 0 or math.isnan(event["x"]),
    }
    kind = TYPES.get(measure.expression or "")
    value = event[measure.expression] if measure.expression else None
    weight = event[measure.weight] if isinstance(measure, TopK) and measure.weight else None
    return Row(
        to_wire(kind, value) if kind and kind.is_decimal else value,
        conditions[measure.where](),
        weight,
        event["_at"],
        event["_partition"],
        event["_offset"],
    )


def proof(events: int) -> dict[str, Any]:
    sides = {"events": events, "duplicates": 0, "dead_letters": 0, "rejects": 0}
    return {**{name: {"batch": count, "speed": 0} for name, count in sides.items()}, "floor": None, "mode": "live"}


def judge(definition: ViewDefinition, rows: list[dict[str, Any]], found: Events, /, **changed: Any) -> ViewReport:
    duck = Duck(SOURCE, found.table)
    try:
        answered = Answered(definition, rows, {**proof(len(found.table)), **changed})
        return check_view(answered, found, duck, Spark(found.table, Path("/nowhere")))
    finally:
        duck.close()


@pytest.mark.parametrize("bucket", [HOUR, None])
@pytest.mark.parametrize("key", [("c",), (), ("c", "day")])
@pytest.mark.parametrize("strange", [False, True])
def test_every_measure_equals_a_naive_fold(bucket: int | None, key: tuple[str, ...], strange: bool) -> None:
    definition = view(bucket=bucket, key=tuple(Column(name, TYPES[name]) for name in key))
    events = generate(400, seed=len(key), strange=strange)
    rows = answers(definition, events)
    report = judge(definition, rows, table(events))
    assert report.first == ()
    assert (report.ok, report.oracle, report.keys) == (True, "duckdb", len(rows))
    assert report.values >= len(rows) * len(MEASURES)


def test_no_events_and_no_rows_are_equal_but_nothing_is_compared() -> None:
    report = judge(view(), [], table([]))
    assert report.ok
    assert not report.keys
    assert not Report((report,), ()).ok
    assert "nothing was compared" in Report((report,), ()).to_text()


EVENTS = generate(300, seed=7)
RIGHT = answers(view(), EVENTS)


@pytest.fixture(scope="module")
def judged() -> Iterator[Callable[..., ViewReport]]:
    """A judge of answers about the same events."""
    events = table(EVENTS)
    return lambda rows, **changed: judge(view(), rows, events, **changed)


def wrong(value: Any) -> Any:
    """An answer just outside of its bound."""
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, dict):
        name, inner = next(iter(value.items()))
        return {**value, name: wrong(inner)}
    if isinstance(value, list):
        return list(reversed(value)) if len(value) > 1 else []
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, float):
        return value * 1.02 + 1e-4
    if isinstance(value, int):
        return value + 2
    if isinstance(value, Decimal):
        return value + Decimal("0.01")
    return value.replace(year=value.year + 1)


@pytest.mark.parametrize("measure", list(MEASURES))
def test_one_wrong_answer_is_found(judged: Callable[..., ViewReport], measure: str) -> None:
    rows = copy.deepcopy(RIGHT)
    place = max(range(len(rows)), key=lambda index: rows[index]["rows"])
    rows[place][measure] = wrong(rows[place][measure])
    report = judged(rows)
    assert not report.ok
    assert report.differences >= 1
    assert report.first[0].measure == measure
    assert report.first[0].key == {"c": rows[place]["c"]}
    assert report.first[0].bucket == rows[place]["bucket"]
    assert report.first[0].found == rows[place][measure]


def test_a_missing_key_an_extra_key_and_a_row_twice_are_found(judged: Callable[..., ViewReport]) -> None:
    missing = judged(RIGHT[1:])
    assert [(d.measure, d.expected, d.found) for d in missing.first] == [("(key)", "a row", "no row")]
    extra = judged([*RIGHT, {**RIGHT[0], "c": "nobody"}])
    assert [(d.key, d.found) for d in extra.first] == [({"c": "nobody"}, "a row")]
    assert [d.found for d in judged([*RIGHT, RIGHT[0]]).first] == ["two rows"]
    assert judged([]).differences == len(RIGHT) == judged([]).keys


@pytest.mark.parametrize("count", ["events", "duplicates", "dead_letters", "rejects"])
def test_a_wrong_count_in_the_proof_is_found(judged: Callable[..., ViewReport], count: str) -> None:
    sides = {"batch": proof(len(EVENTS))[count]["batch"], "speed": 1}
    report = judged(RIGHT, **{count: sides})
    assert [(d.measure, d.found) for d in report.first] == [(f"proof.{count}", sides)]


def test_an_error_of_one_part_in_a_billion_is_told_from_a_larger_one() -> None:
    double = Sum("x", input=parse_type("double"))
    made = {"n": 3, "total": 1.0, "size": 1e6}
    assert compare.check(double, made, 1.0 + 0.9e-3)[0]
    assert not compare.check(double, made, 1.0 + 1.1e-3)[0]
    spread = Variance("x", input=parse_type("double"))
    moments = {"n": 10, "strange": 0, "variance": 2.0, "square": 1e6}
    right = 2.0 * 10 / 9
    assert compare.check(spread, moments, right + 1e-3)[0]
    assert not compare.check(spread, moments, right + 1.2e-3)[0]


def test_sketches_are_judged_one_by_one_and_together() -> None:
    sketch = ApproxDistinct("x", input=parse_type("int"))
    assert compare.check(sketch, 100, 100)[0]
    assert not compare.check(sketch, 100, 104)[0]
    assert compare.check(sketch, 100_000, 105_000)[0]
    assert not compare.check(sketch, 100_000, 112_000)[0]
    biased = [(100_000, 105_000)] * 50
    assert compare.check_sketches(sketch, biased[:1], 100_000)[0], "one key may be three standard errors off"
    assert not compare.check_sketches(sketch, biased, 5_000_000)[0], "fifty of their own may not"
    assert compare.check_sketches(sketch, biased, 100_000)[0], "fifty of the same values are one"


def test_rejects_are_counted_and_left_out() -> None:
    definition = view(
        columns={"share": "100 / n"},
        where="n is not null",
        bucket=None,
        key=(),
        measures={"rows": Count(), "share": Sum("share", input=parse_type("double"))},
    )
    known = [event for event in EVENTS if event["n"] is not None]
    kept = [event for event in known if event["n"]]
    rows = [{"rows": len(kept), "share": math.fsum(100 / event["n"] for event in kept)}]
    sides = {"batch": 0, "speed": len(known) - len(kept)}
    assert sides["speed"] > 0
    assert judge(definition, rows, table(EVENTS), rejects=sides).ok
    assert not judge(definition, rows, table(EVENTS)).ok


@pytest.mark.integration
def test_spark_computes_what_does_not_translate(tmp_path: Path) -> None:
    names = {
        "back": First("reverse(c)", input=TYPES["c"]),
        "half": Sum("n / cast(d as double)", input=parse_type("double")),
    }
    definition = view(
        measures={"rows": Count(), **names, "seen": Last("at", input=TYPES["at"])},
        key=(),
        bucket=None,
        where="d is not null and n is not null and l <> 0",
    )
    kept = [e for e in EVENTS if e["d"] is not None and e["n"] is not None and e["l"] is not None]
    failing = [event for event in kept if not event["d"]]
    ordered = sorted((e for e in kept if e["d"]), key=lambda e: (e["_at"], e["_partition"], e["_offset"]))
    first = next(event for event in ordered if event["c"] is not None)
    rows = [
        {
            "rows": len(ordered),
            "back": first["c"][::-1],
            "seen": from_wire(TIMESTAMP, ordered[-1]["at"]),
            "half": math.fsum(event["n"] / float(event["d"]) for event in ordered),
        }
    ]
    events = table(EVENTS)
    duck, spark = Duck(SOURCE, events.table), Spark(events.table, tmp_path)
    told = {**proof(len(EVENTS)), "rejects": {"batch": len(failing), "speed": 0}}
    try:
        report = check_view(Answered(definition, rows, told), events, duck, spark)
    finally:
        spark.close()
        duck.close()
    assert report.first == ()
    assert (report.oracle, report.keys) == ("spark", 1)
    assert "Reverse" in report.reason or "reverse" in report.reason


def test_what_lies_before_the_floor_is_not_expected_and_the_floor_may_not_be_too_high() -> None:
    definition = view(keep=2 * HOUR)
    latest = max(event["_at"] for event in EVENTS)
    floor = -(-(latest - 2 * HOUR) // HOUR) * HOUR
    rows = [row for row in RIGHT if to_wire(TIMESTAMP, row["bucket"]) >= floor]
    text = from_wire(TIMESTAMP, floor).isoformat()
    assert len(rows) < len(RIGHT)
    assert judge(definition, rows, table(EVENTS), floor=text).ok
    assert not judge(definition, RIGHT, table(EVENTS), floor=text).ok
    later = from_wire(TIMESTAMP, floor + HOUR)
    fewer = [row for row in RIGHT if row["bucket"] >= later]
    assert [d.measure for d in judge(definition, fewer, table(EVENTS), floor=later.isoformat()).first] == [
        "proof.floor"
    ]


def test_a_measure_without_a_rule_is_not_passed_over() -> None:
    class Mode(Count):
        kind = "mode_of_a_test"

    try:
        report = judge(
            view(measures={"mode": Mode(), "rows": Count()}),
            [{**row, "mode": 1} for row in RIGHT],
            table(EVENTS),
        )
    finally:
        del Measure.registry["mode_of_a_test"]
    assert report.unchecked == ("mode",)
    assert not report.ok
    assert not report.differences
    assert "no check for mode" in Report((report,), ()).to_text()


def test_a_report_says_the_same_in_text_and_in_json(judged: Callable[..., ViewReport]) -> None:
    good, bad = Report((judged(RIGHT),), (), 1.0), Report((judged(RIGHT[1:]),), (), 1.0)
    assert good.ok
    assert good.to_json()["equal"]
    assert "equal a recompute" in good.to_text()
    assert not bad.ok
    assert bad.to_json()["views"][0]["first"][0]["found"] == "no row"
    assert "DIFFERENT" in bad.to_text()
