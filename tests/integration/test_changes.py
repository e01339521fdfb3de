"""Schemas and definitions that change while the layers run and readers read."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cases import (
    SCHEMA,
    Answers,
    Fact,
    count_events,
    few_views,
    make_events,
    make_source,
    make_views,
    naive_answers,
    same_state,
)
from installed import Installed

from batch_layer.engine import SparkEngine
from batch_layer.master import Master
from batch_layer.parts import Task
from serving_layer.find import NotReadyError
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline import Count, Max, Sum, View, delta_log
from tideline.apply import apply_catalog, plan_changes
from tideline.cut import Cut
from tideline.errors import OutsideError, UsageError
from tideline.merge import scan_rows, scan_spaces
from tideline.plans import plan_sources
from tideline.runtime.home import Home
from tideline.spark import fold
from tideline.stores.lmdb import LmdbStore

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

sys.path.append(str(Path(__file__).parents[1] / "data"))

from home_case import unpack

N = {"n": Count()}
Recompute = Callable[[list[Fact]], Answers]


@contextmanager
def reading(installed: Installed, view: str, *recomputes: Recompute) -> Iterator[None]:
    """Reads a view all the time; each answer must be one of the recomputes at its cut, and each must be seen."""
    stopping = threading.Event()
    found: list[tuple[Cut, Answers]] = []

    def read() -> None:
        while not stopping.wait(0.02):
            cut, answers = installed.look(view)
            if not found or found[-1] != (cut, answers[view]):
                found.append((cut, answers[view]))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(30)
    seen = set()
    for cut, answers in found:
        facts = count_events(installed.records(cut))
        right = [index for index, recompute in enumerate(recomputes) if recompute(facts) == answers]
        assert right, (str(cut), answers, [recompute(facts) for recompute in recomputes])
        seen.update(right)
    assert seen == set(range(len(recomputes)))


def as_json(answers: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, int) else str(value) for name, value in answers.items()}


def test_added_columns_and_wider_types_are_decoded_from_the_records_already_archived(installed: Installed) -> None:
    def narrow(facts: list[Fact]) -> Answers:
        return naive_answers("totals", [fact for fact in facts if abs(fact.quantity or 0) < 1 << 15])

    def wide(facts: list[Fact]) -> Answers:
        return naive_answers("totals", [f for f in facts if not isinstance(f.fields.get("extra"), str)])

    def send(count: int, first: int) -> None:
        events = make_events(count, 400 + first, first)
        extras = ({}, {"extra": 2}, {"extra": None}, {"extra": "two"})
        for number, event in enumerate(events):
            event.update(extras[number % 4] if number % 12 else {"quantity": 1 << 20})
        installed.send(events)

    def extra() -> int:
        facts = count_events(installed.records())
        return sum(found for fact in facts if isinstance(found := fact.fields.get("extra"), int))

    before = make_source(installed.topic, schema=SCHEMA.replace("quantity int", "quantity smallint"))
    after = make_source(installed.topic, schema=SCHEMA + ", extra int")
    installed.apply(*few_views(before))
    send(60, 0)
    with installed.speed(), reading(installed, "totals", narrow, wide):
        installed.wait_committed()
        installed.batch()
        published = installed.ledger.version.cut
        extras = View("extras", source=after, measures={"sum": Sum("extra")})
        changes = plan_changes(installed.ledger, installed.resolve([*few_views(after), extras]))
        assert [change.action for change in changes if change.kind == "source"] == ["rebuild"]
        installed.apply(*few_views(after), extras)
        send(36, 60)
        installed.wait_committed()
        assert installed.answers("totals") == narrow(count_events(installed.records()))
        assert installed.batch()["mode"] == "redecode"
        assert installed.answers("extras") == {((), None): {"sum": extra()}}
        send(24, 96)
        installed.wait_committed()
        assert installed.answers("totals") == wide(count_events(installed.records()))
        assert installed.answers("extras") == {((), None): {"sum": extra()}}
    dead = installed.ledger.log()[installed.topic]
    reasons = {reason for stats in dead.values() for reason in stats.dead}
    assert reasons == {"extra: not a value of type int"}, "what was outside the range of smallint is an event now"

    facts = count_events(installed.records(published))
    with Reader(installed.home, store=installed.store) as reader:
        diff = reader.diff("totals@old")
    assert (diff.cut, dict(diff.counts)) == (published, {"equal": 0, "both": 1, "left": 0, "right": 0})
    (row,) = diff.rows
    left, right = (as_json(recompute(facts)[(), None]) for recompute in (narrow, wide))
    assert row["measures"] == {n: {"left": left[n], "right": right[n]} for n in left if left[n] != right[n]}

    narrower = installed.resolve(few_views(before))
    changes = plan_changes(installed.ledger, narrower)
    assert [(c.name, c.action) for c in changes if c.kind == "column"] == [
        ("events.quantity", "narrow"),
        ("events.extra", "narrow"),
    ]
    with pytest.raises(UsageError) as caught:
        installed.apply(*few_views(before))
    assert (caught.value.condition, caught.value.params["columns"]) == ("COLUMN_NARROWER", ["quantity", "extra"])
    assert installed.ledger.sources["events"]["schema"].endswith("extra int"), "nothing was registered"
    apply_catalog(installed.store, narrower, installed.bootstrap, 2, installed.home.master, accept_narrower=True)
    installed.batch()
    assert installed.answers("totals") == narrow(count_events(installed.records()))


def test_a_column_that_goes_is_refused_with_what_may_be_its_new_name_and_nothing_is_registered(
    installed: Installed,
) -> None:
    installed.apply(*few_views(make_source(installed.topic, schema=SCHEMA + ", note string")))
    before = installed.ledger
    with pytest.raises(UsageError) as caught:
        installed.apply(*few_views(make_source(installed.topic, schema=SCHEMA + ", remark string")))
    assert (caught.value.condition, caught.value.params["columns"]) == ("COLUMN_DROPPED", ["note"])
    assert "note string is dropped, or renamed remark" in caught.value.message
    with pytest.raises(UsageError) as dropped:
        installed.apply(*few_views(make_source(installed.topic)))
    assert "renamed" not in dropped.value.message
    assert "--accept-narrower" in str(dropped.value)
    assert installed.ledger == before


def test_a_changed_view_answers_as_before_until_its_successor_is_published_and_no_other_is_rebuilt(
    installed: Installed,
) -> None:
    countries, totals = make_views(make_source(installed.topic))[1:]
    sold = replace(totals, where="quantity > 0")
    more = replace(sold, measures={**sold.measures, "returned": Count(where="quantity < 0")})

    def all_of(facts: list[Fact]) -> Answers:
        return naive_answers("totals", facts)

    def sold_of(facts: list[Fact]) -> Answers:
        return naive_answers("totals", [fact for fact in facts if (fact.quantity or 0) > 0])

    def segments() -> tuple[int, ...]:
        return installed.ledger.version.views[installed.ledger.live["countries"]]

    installed.apply(countries, totals)
    installed.send(make_events(60, 70))
    with installed.speed(), reading(installed, "totals", all_of, sold_of):
        installed.wait_committed()
        installed.batch()
        published, (first,) = installed.ledger.version.cut, segments()
        old = installed.ledger.live["totals"]
        installed.apply(countries, sold)
        installed.send(make_events(30, 71, first=60))
        installed.wait_committed()
        assert installed.ledger.live["totals"] == old
        assert installed.wrong() == []
        installed.batch()
        assert installed.ledger.live["totals"] != old
        installed.send(make_events(30, 72, first=90))
        installed.wait_committed()
        assert installed.answers("totals") == sold_of(count_events(installed.records()))
    with Reader(installed.home, store=installed.store) as reader:
        diff = reader.diff("totals@old", f"totals@{installed.ledger.live['totals']}")
        assert (diff.cut, diff.equal) == (published, False)
        facts = count_events(installed.records(published))
        left, right = (as_json(recompute(facts)[(), None]) for recompute in (all_of, sold_of))
        assert diff.rows[0]["measures"] == {name: {"left": left[name], "right": right[name]} for name in left}
        assert reader.diff("countries@1").equal
    installed.apply(countries, more)
    installed.batch()
    (answer,) = installed.answers("totals").values()
    facts = count_events(installed.records())
    assert answer == {**sold_of(facts)[(), None], "returned": 0}
    assert installed.wrong("countries") == []
    assert (segments()[0], len(segments())) == (first, 3), "its own segments go on, one more a run"
    with Reader(installed.home, store=installed.store) as reader:
        diff = reader.diff("totals@old")
        assert (diff.equal, diff.measures) == (True, ("lines", "amount"))
        assert diff.to_json()["right"]["only"] == ["returned"]


def test_views_that_fail_are_quarantined_and_named_and_the_others_go_on(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in the speed layer, in which no value is known to fail any more: its check of text is taken out."""
    monkeypatch.setattr(fold, "valid_text", lambda kind, sql: f"({sql})")
    source = make_source(installed.topic)
    moment = "timestamp_micros(cast(quantity as bigint) * 10000000000000000)"  # to year 20,000, which Python lacks
    senders = View("senders", source=source, columns={"sender": "cast(_key as string)"}, key="sender", measures=N)
    moments = View("moments", source=source, columns={"moment": moment}, key="moment", measures=N)
    latest = View("latest", source=source, measures={**N, "moment": Max(moment)})
    catalog = [*few_views(source), senders, moments, latest]

    def failed() -> dict[str, str]:
        return {entry["view"]: entry["layer"] for entry in installed.ledger.quarantined.values()}

    installed.apply(*catalog)
    with installed.speed(), Reader(installed.home, store=installed.store) as reader:
        installed.send(make_events(40, 300))
        installed.wait_committed()
        assert sum(answer["n"] for answer in installed.answers("senders").values()) == 40
        installed.send(make_events(1, 301, first=40), key=b"\xff\xfe")
        installed.wait_committed()
        assert failed() == {"senders": "speed"}
        assert installed.wrong("countries", "totals") == []
        with pytest.raises(NotReadyError) as caught:
            reader.query(Query("senders"))
        assert caught.value.condition == "VIEW_QUARANTINED"
        assert "UnicodeDecodeError" in caught.value.params["reason"]
        assert "--retry senders" in str(caught.value)

        installed.batch()
        assert failed() == {"senders": "speed", "moments": "batch"}
        assert set(installed.ledger.live) == {"countries", "totals", "latest"}
        assert [entry["view"] for entry in reader.status()["views"]["quarantined"]] == ["moments", "senders"]
        with pytest.raises(OutsideError) as unshown:
            reader.query(Query("latest"))
        assert (unshown.value.condition, unshown.value.params["column"]) == ("VALUE_NOT_SHOWN", "moment")
        assert reader.query(Query("latest", measures="n")).rows == [{"n": 41}]

        installed.apply(*catalog)
        assert failed() == {"senders": "speed", "moments": "batch"}, "the same catalog changes nothing"
        resolved = installed.resolve(catalog)
        actions = {change.name: change.action for change in plan_changes(installed.ledger, resolved, ["senders"])}
        assert (actions["senders"], actions["moments"], actions["totals"]) == ("retry", "quarantined", "keep")
        apply_catalog(
            installed.store, resolved, installed.bootstrap, 2, installed.home.master, retry=["senders", "moments"]
        )
        assert failed() == {}
        installed.send(make_events(20, 302, first=41))
        installed.wait_committed()
        installed.batch()
        assert failed() == {"senders": "batch", "moments": "batch"}, "the records that they fail on are in the master"
        assert installed.wrong("countries", "totals") == []

        corrected = replace(senders, columns={"sender": "length(_key)"})
        installed.apply(*few_views(source), corrected, latest)
        assert failed() == {}
        installed.batch()
        assert installed.answers("senders")[(2,), None]["n"] == 1 + sum(number < 10 for number in range(61))
        assert installed.wrong("countries", "totals") == []


def write_as_of_a_newer_release(table: Path) -> None:
    """Enters format 2 into the last commit of a master, with the checksum that belongs to it."""
    commit = delta_log.newest(table)
    entry = table / "_delta_log" / f"{commit.version:020d}.json"
    actions = [json.loads(line) for line in entry.read_text("utf-8").splitlines()]
    for action in actions:
        if "commitInfo" in action:
            action["commitInfo"]["userMetadata"] = delta_log.metadata_text({**commit.metadata, "format": 2})
    entry.write_text("\n".join(map(json.dumps, actions)), "utf-8")


def test_the_master_of_a_kept_home_is_decoded_and_folded_to_the_states_that_its_store_holds(
    spark: SparkSession, tmp_path: Path
) -> None:
    home = Home(unpack(tmp_path))
    with LmdbStore.open(home.path, map_size=1 << 30) as store:
        engine = SparkEngine(spark, store, home, "none:0")
        with store.write() as txn:
            ledger, token = txn.ledger.take_fence("batch")
            ledger, ids = ledger.allot(token, len(ledger.version.views))
            txn.put_ledger(ledger)
        version = ledger.version
        (plan,) = plan_sources(ledger, version.views)
        topic = plan.source.topic
        master = Master(engine.table(plan.source, ledger.origin), plan.source, ledger.origin)
        assert (master.archived, master.is_current(ledger.origin)) == (ledger.archived, True)
        assert master.redecode() == sum(stats.records for stats in version.log[topic].values())
        assert master.is_current(ledger.origin)
        with engine.fold(plan, ledger.origin, version.cut) as folded:
            assert folded.log == version.log[topic]
            assert {name: count for name, count in version.rejects.items() if count} == folded.rejects
            floors = [version.floors.get(view.fingerprint) for view in plan.views]
            tasks = [
                Task(id, view, ledger.origin, version.cut, floor, (), ())
                for id, view, floor in zip(ids, plan.views, floors, strict=True)
            ]
            folded.build(tasks)
        with store.snapshot() as snapshot:
            for task in tasks:
                view, measures = task.view, list(task.view.measures.values())
                new = scan_spaces(snapshot, view, [f"s{task.id}"])
                kept = scan_rows(snapshot, view, version=version.id)
                for mine, theirs in zip(new, kept, strict=True):
                    assert (mine.key, mine.bucket) == (theirs.key, theirs.bucket)
                    states = zip(measures, mine.merged, theirs.merged, strict=True)
                    assert all(same_state(m.canonical(a), m.canonical(b)) for m, a, b in states), view.name
        write_as_of_a_newer_release(home.master / plan.source.name)
        with pytest.raises(OutsideError) as caught:
            _ = master.archived
        assert (caught.value.condition, caught.value.params["source"]) == ("MASTER_FORMAT", "events")
