"""The oracle where rows may be retracted: its recompute is the naive one over the rows that are left."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from naive import Row, fold
from test_oracle import HOUR, MEASURES, SOURCE, TYPES, generate, naive_row, proof, table, view, wrong

from tideline.definition import ROWS, ViewDefinition
from tideline.measures import ApproxDistinct, Count, First, Last, Measure
from tideline.oracle.check import Answered, check_view
from tideline.oracle.duck import Duck
from tideline.oracle.events import Events
from tideline.oracle.report import ViewReport
from tideline.oracle.spark import Spark
from tideline.types import TIMESTAMP, Column, from_wire, parse_type

CORRECTED = replace(SOURCE, schema=(*SOURCE.schema, Column("op", parse_type("string"))), operation="op")
Event = dict[str, Any]
Signed = list[tuple[Event, int]]


def signed(count: int, seed: int, strange: bool = False) -> tuple[list[Event], Signed]:
    """The rows that are left, and a log of insertions and retractions in any order that leaves them."""
    chance = random.Random(seed)
    rows = generate(count, seed, strange)
    rows += [dict(chance.choice(rows)) for _ in range(count // 4)]
    taken = set(chance.sample(range(len(rows)), len(rows) // 3))
    taken |= {place for place, row in enumerate(rows) if row["c"] == "é"}
    log = [(row, 1) for row in rows] + [(rows[place], -1) for place in taken]
    return [row for place, row in enumerate(rows) if place not in taken], chance.sample(log, len(log))


def events_of(log: Signed) -> Events:
    found = table([event for event, _ in log])
    said = pa.array(["retract" if sign < 0 else random.choice([None, "insert"]) for _, sign in log], pa.string())
    whole = found.table.append_column("op", said).append_column("_sign", pa.array([s for _, s in log], pa.int8()))
    return replace(found, table=whole)


def corrected(**options: Any) -> ViewDefinition:
    plain = view(**options)
    return replace(plain, measures={n: m.retractable() for n, m in {**plain.measures, ROWS: Count()}.items()})


def answers(definition: ViewDefinition, left: list[Event]) -> list[dict[str, Any]]:
    """What serving would say of the rows that are left, computed row by row with the plain measures."""
    groups: dict[tuple[Any, ...], list[Event]] = {}
    for event in left:
        bucket = None if definition.bucket is None else event["_at"] // definition.bucket * definition.bucket
        groups.setdefault((*(event[column.name] for column in definition.key), bucket), []).append(event)
    rows = []
    for group, members in groups.items():
        row = {column.name: value for column, value in zip(definition.key, group[:-1], strict=True)}
        if definition.bucket:
            row["bucket"] = from_wire(TIMESTAMP, group[-1])
        for name, (measure, kind) in MEASURES.items():
            plain = measure.resolve(TYPES.get(kind))
            row[name] = _answer(plain, [naive_row(plain, event) for event in members])
        rows.append(row)
    return rows


def _answer(plain: Measure, rows: list[Row]) -> Any:
    if isinstance(plain, ApproxDistinct):
        return len({row.value for row in rows if row.holds and row.value is not None})
    if isinstance(plain, (First, Last)):
        known = sorted((row for row in rows if row.value is not None), key=lambda row: row.value)
        rows = [replace(row, partition=0, offset=place) for place, row in enumerate(known)]
    return plain.present(fold(plain, rows))


def judge(definition: ViewDefinition, rows: list[dict[str, Any]], found: Events) -> ViewReport:
    duck = Duck(CORRECTED, found.table)
    try:
        answered = Answered(definition, rows, proof(len(found.table)))
        return check_view(answered, found, duck, Spark(found.table, Path("/nowhere")))
    finally:
        duck.close()


@pytest.mark.parametrize("bucket", [HOUR, None])
@pytest.mark.parametrize("key", [("c",), (), ("c", "day")])
@pytest.mark.parametrize("strange", [False, True])
def test_every_measure_equals_a_naive_fold_of_the_rows_that_are_left(
    bucket: int | None, key: tuple[str, ...], strange: bool
) -> None:
    definition = corrected(bucket=bucket, key=tuple(Column(name, TYPES[name]) for name in key))
    left, log = signed(300, len(key), strange)
    rows = answers(definition, left)
    assert key != ("c",) or "é" not in {row["c"] for row in rows}
    report = judge(definition, rows, events_of(log))
    assert report.first == ()
    assert (report.ok, report.oracle, report.keys) == (True, "duckdb", len(rows))
    assert report.values >= len(rows) * len(MEASURES)


LEFT, LOG = signed(200, 7)
RIGHT = answers(view(), LEFT)


@pytest.fixture(scope="module")
def events() -> Events:
    return events_of(LOG)


@pytest.mark.parametrize("measure", list(MEASURES))
def test_one_wrong_answer_is_found(events: Events, measure: str) -> None:
    place = max(range(len(RIGHT)), key=lambda index: (bool(RIGHT[index][measure]), RIGHT[index]["rows"]))
    rows = [dict(row) for row in RIGHT]
    rows[place][measure] = wrong(rows[place][measure])
    report = judge(corrected(), rows, events)
    assert (report.ok, report.first[0].measure) == (False, measure)


def test_a_retraction_that_was_not_counted_and_a_group_that_should_be_gone_are_found(events: Events) -> None:
    assert judge(corrected(), RIGHT, events).ok
    gone = next(event for event, _ in LOG if event["c"] == "é")
    more = answers(view(), [*LEFT, gone])
    assert [(d.measure, d.expected) for d in judge(corrected(), more, events).first] == [("(key)", "no row")]
    back = next(event for event, sign in LOG if sign < 0 and event["c"] != "é")
    assert not judge(corrected(), answers(view(), [*LEFT, back]), events).ok


def test_a_retraction_without_its_insertion_is_subtracted_and_takes_no_kept_value() -> None:
    row = {**LEFT[0], "c": "new", "n": 3, "d": Decimal(7)}
    log = [(row, 1), (row, 1), ({**row, "n": 9}, -1), ({**row, "n": 8, "d": Decimal(1)}, 1)]
    names = {"lines": "rows", "units": "sum_int", "most": "most", "top": "top", "n": "distinct", "p": "quantiles_d"}
    whole = corrected(key=(), bucket=None)
    measures = {**{name: whole.measures[measure] for name, measure in names.items()}, ROWS: whole.measures[ROWS]}
    definition = replace(whole, measures=measures)
    found = {"lines": 2, "units": 5, "most": Decimal("7.00"), "top": [["new", 2]], "n": 2}
    found["p"] = {"p50": 1.0, "p95": 7.0, "p99": 7.0}
    report = judge(definition, [found], events_of(log))
    assert report.first == ()
    for measure, value in {"units": 14, "n": 3, "p": dict.fromkeys(found["p"], 7.0), "lines": 3}.items():
        assert [d.measure for d in judge(definition, [{**found, measure: value}], events_of(log)).first] == [measure]
    # Of a value that was retracted too often nobody knows which other it took away within one bin.
    loose = [*log, ({**row, "d": Decimal("7.01")}, -1)]
    other = {**found, "lines": 1, "units": 2, "top": [["new", 1]], "p": dict.fromkeys(found["p"], 1.0)}
    assert judge(definition, [other], events_of(loose)).first == ()
