"""Retractions: through both layers and every hand-off, answers are those of the rows that were not taken back."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cases import START, Answers, Event, count_events, differences, make_events, make_source, make_views, naive_answers
from installed import Installed
from pyspark.sql import SparkSession

from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline import Count, Max, Source, View, days
from tideline.catalog import collect_catalog
from tideline.errors import DefinitionError
from tideline.oracle import verify
from tideline.produce import produce
from tideline.spark.resolve import resolve_catalog
from tideline.testing import check_views
from tideline.types import TIMESTAMP, to_wire

SCHEMA = (
    "id string, kind string, country string, amount decimal(10,2), quantity int, score double, at timestamp, op string"
)


def inserts(count: int, seed: int, first: int) -> list[Event]:
    """Events of `make_events`, no two at one time: between equal times the log's order would decide otherwise."""
    dice = random.Random(seed)
    events = make_events(count, seed, first)
    for number, event in enumerate(events, first):
        event["at"] = (START + dt.timedelta(seconds=dice.randrange(86_400), microseconds=number)).isoformat()
        event["op"] = dice.choice(["insert", None])
    return events


def retract(events: list[Event]) -> list[Event]:
    return [{**event, "op": "retract"} for event in events]


def surviving(installed: Installed) -> list[Any]:
    """The rows before the committed cut that were not taken back: each (operation, id) counts once."""
    values = []
    for record in installed.records():
        event = json.loads(record.value or b"")
        event["id"] = f"{event['op'] or 'insert'} {event['id']}"
        values.append(type(record)(record.partition, record.offset, record.at, record.key, json.dumps(event).encode()))
    facts = count_events(values)
    for fact in facts:
        operation, _, fact.fields["id"] = fact.fields["id"].partition(" ")
        fact.fields["op"] = operation
    left = Counter(fact.id for fact in facts if fact.op == "insert")
    left.subtract(fact.id for fact in facts if fact.op == "retract")
    return [fact for fact in facts if fact.op == "insert" and left[fact.id] > 0]


def answers(installed: Installed, view: str, **options: Any) -> Answers:
    """What serving answers, by key and time."""
    with Reader(installed.home, store=installed.store) as reader:
        result = reader.query(Query(view, **options))
    keys, time = [c.name for c in result.plan.view.key], result.plan.time_name
    return {
        (tuple(row.pop(k) for k in keys if k in row), to_wire(TIMESTAMP, row.pop(time)) if time else None): row
        for row in result.rows
    }


def wrong(installed: Installed, *views: str) -> list[Any]:
    """Where serving's answers are not those of a plain fold over the rows that survive."""
    facts = surviving(installed)
    assert facts
    found = {view: answers(installed, view) for view in views}
    for rows in found.values():
        for row in rows.values():
            row.pop("double", None)
    return [(view, *one) for view in views for one in differences(naive_answers(view, facts), found[view])]


VIEWS = ("everything", "countries", "totals")


def test_answers_are_those_of_the_rows_not_taken_back_through_both_layers_and_every_hand_off(
    installed: Installed,
) -> None:
    source = make_source(installed.topic, schema=SCHEMA, operation="op")
    installed.apply(*make_views(source))
    early, late = inserts(300, 41, 0), inserts(150, 42, 300)
    greek = [event for event in early if event["country"] == "Ελλάδα"]
    assert len(greek) > 20
    installed.send([*early, *retract(early[:50]), *early[:20]])
    installed.batch()
    assert wrong(installed, *VIEWS) == []
    with installed.speed():
        before = answers(installed, "countries")
        installed.send([*retract(late[:40]), *late, *retract(greek), *retract(early[:10]), *late[30:50]])
        installed.wait_committed()
        assert wrong(installed, *VIEWS) == [], "batch inserted, speed retracted"
        assert before.keys() - answers(installed, "countries").keys() == {(("Ελλάδα",), None)} - {
            ((event["country"],), None) for event in late[40:]
        }
        installed.batch()
        assert wrong(installed, *VIEWS) == [], "after the hand-off"
        # A retraction that comes before its insertion counts against the rest, until its insertion comes.
        fresh = inserts(30, 43, 450)
        lines = answers(installed, "totals")[(), None]["lines"]
        installed.send(retract(fresh))
        installed.wait_committed()
        assert answers(installed, "totals")[(), None]["lines"] == lines - 30
        report = verify(installed.home, bootstrap=installed.bootstrap)
        assert report.ok, report.to_text()
        installed.batch()
        installed.send(fresh)
        installed.wait_committed()
        assert wrong(installed, *VIEWS) == []
    installed.batch()
    incremental = {view: installed.states(view) for view in VIEWS}
    report = verify(installed.home, bootstrap=installed.bootstrap)
    assert report.ok, report.to_text()
    installed.batch(full=True)
    assert {view: installed.states(view) for view in VIEWS} == incremental, "kept values merge exactly"
    assert wrong(installed, *VIEWS) == []


def test_a_group_whose_rows_are_all_taken_back_is_in_no_answer(installed: Installed, tmp_path: Path) -> None:
    source = Source(
        installed.topic, schema="id int, name string, n int, at timestamp, op string", event_time="at", event_id="id",
        operation="op", max_ahead=None,
    )  # fmt: skip
    view = View("v", source=source, key=("name", "n"), bucket=days(1), measures={"lines": Count(), "most": Max("n")})
    installed.apply(view)
    rows = [
        {"id": number, "name": name, "n": number, "at": f"2011-12-0{day}T00:00:00", "op": None}
        for number, (name, day) in enumerate([("a", 1), ("b", 1), ("b", 2), ("c", 2)])
    ]
    installed.send(rows)
    installed.batch()
    first = installed.ledger.version.id
    with installed.speed():
        installed.send(retract([rows[0], rows[2]]))
        installed.wait_committed()

        def rows_of(**options: Any) -> list[tuple[Any, ...]]:
            with Reader(installed.home, store=installed.store) as reader:
                found = reader.query(Query("v", **options))
            return [(row.get("name"), row["lines"], row["most"]) for row in found.rows]

        for _ in ("batch and speed", "batch"):
            assert rows_of() == [("b", 1, 1), ("c", 1, 3)]
            assert rows_of(limit=1) == [("b", 1, 1)]
            assert rows_of(order="-most", limit=1) == [("c", 1, 3)]
            assert rows_of(key={"name": "a", "n": 0}) == []
            assert rows_of(group_by="name", window="2d") == [("b", 1, 1), ("c", 1, 3)]
            assert rows_of(group_by=(), window="all") == [(None, 2, 3)]
            assert rows_of(group_by="name", measures="lines,most", order="lines", limit_by="name:1") == rows_of()
            assert rows_of(version=first) == [("a", 1, 0), ("b", 1, 1), ("b", 1, 2), ("c", 1, 3)]
            installed.batch()
        file = tmp_path / "rest.jsonl"
        file.write_text("".join(json.dumps({**rows[n], "op": 0}).replace(', "op": 0', "") + "\n" for n in (1, 3)))
        produce(file, installed.topic, installed.bootstrap, event_id="id", retract="op")
        installed.wait_committed()
        assert rows_of() == rows_of(group_by=(), window="all") == [], "a file taken back"
        with Reader(installed.home, store=installed.store) as reader:
            shown = reader.describe("v")["measures"]
            assert list(shown) == ["lines", "most"]
            assert (shown["most"]["bound"], shown["lines"]["bound"]) == (
                {"exact": True, "keeps": "values"},
                {"exact": True},
            )
            assert reader.query(Query("v", measures="most")).proof["measures"] == {"most": shown["most"]["bound"]}


def test_a_definition_that_a_retraction_could_not_undo_is_refused(spark: SparkSession) -> None:
    schema = "id string, name string, n int, at timestamp, op string"

    def refused(source: dict[str, Any], **view: Any) -> tuple[str, Any]:
        options = {"schema": schema, "event_time": "at", "event_id": "id", "operation": "op", **source}
        made = View("v", source=Source("s", **options), **{"measures": {"lines": Count()}, **view})
        with pytest.raises(DefinitionError) as caught:
            resolve_catalog(spark, collect_catalog([made], "a test"))
        assert "test_corrections.py" in str(caught.value)
        return caught.value.condition, caught.value.params.get("column")

    assert refused({"operation": "what"}) == ("UNKNOWN_COLUMN", "what")
    assert refused({"operation": "n"}) == ("TYPE_MISMATCH", "n")
    assert refused({"operation": "id"}) == ("TYPE_MISMATCH", "id")
    assert refused({"event_time": "_timestamp"}) == ("NOT_RETRACTABLE", "_timestamp")
    assert refused({}, key="op") == ("NOT_RETRACTABLE", "op")
    assert refused({}, where="coalesce(OP, '') <> 'retract'") == ("NOT_RETRACTABLE", "op")
    assert refused({}, columns={"x": "_timestamp"}) == ("NOT_RETRACTABLE", "_timestamp")
    assert refused({}, measures={"x": Count(where="size(_headers) > 0")}) == ("NOT_RETRACTABLE", "_headers")


def test_a_users_views_are_checked_with_retractions_too(spark: SparkSession) -> None:
    source = make_source("events", schema=SCHEMA, operation="op")
    resolved = resolve_catalog(spark, collect_catalog(make_views(source)[:1], "a test"))
    outcomes = check_views(spark, resolved)
    assert [(one.view, one.law, one.detail) for one in outcomes if not one.holds] == []
    assert {one.law for one in outcomes} >= {"split", "spark", "undone"}
