"""Batch runs: full and incremental agree, hand-offs change no answer, definitions and versions live on."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

import pytest
from cases import (
    HOUR,
    VIEWS,
    Answers,
    count_events,
    differences,
    make_events,
    make_source,
    make_views,
    naive_answers,
    same_state,
)
from installed import Installed, wait_for

from batch_layer import loading, segments
from batch_layer.segments import Segments
from tideline import Count, Max, Min, Sum, View, days, hours
from tideline.oracle import verify


def test_full_and_incremental_runs_publish_equal_states_with_and_without_the_speed_layer(
    installed: Installed,
) -> None:
    installed.apply()
    installed.send(make_events(300, 21))
    first = installed.batch()
    assert installed.ledger.committed == installed.ledger.archived == installed.log_end, "a backlog drained alone"
    assert (first["mode"], first["rows"]) == ("incremental", 300)
    assert [step["name"] for step in first["steps"]] == ["seal", "archive", "compute", "publish", "expire"]
    assert installed.wrong() == []
    with installed.speed():
        installed.send([*make_events(200, 22, first=250), b"junk"])
        installed.wait_committed()
        assert installed.wrong() == []
        installed.batch()
        assert installed.wrong() == []
    installed.send(make_events(100, 23, first=450))
    installed.batch()
    assert installed.ledger.committed == installed.log_end, "past the committed cut"
    assert installed.wrong() == []
    incremental = {view: installed.states(view) for view in VIEWS}
    assert installed.batch(full=True)["mode"] == "full"
    assert {segment.mode for segment in installed.ledger.segments.values()} >= {"full"}
    for view, states in incremental.items():
        full = installed.states(view)
        assert full.keys() == states.keys()
        for place, measures in states.items():
            assert all(same_state(state, full[place][name]) for name, state in measures.items()), place
    assert installed.wrong() == []


def test_hand_offs_change_no_answer_while_events_keep_arriving(installed: Installed) -> None:
    installed.apply_few()
    stopping = threading.Event()

    def keep_sending() -> None:
        for number in range(200):
            installed.send(make_events(25, 30 + number, first=number * 24))
            if stopping.wait(0.1):
                break

    sender = threading.Thread(target=keep_sending)
    with installed.speed():
        sender.start()
        try:
            for version in (1, 2):
                before = installed.ledger.version.cut
                wait_for(lambda cut=before: installed.ledger.committed.count_since(cut) > 0, "more is committed")
                assert installed.batch()["version"] == version
                assert installed.wrong() == []
        finally:
            stopping.set()
            sender.join(30)
        installed.wait_committed()
        assert installed.wrong() == []
        assert installed.ledger.log()[installed.topic][0].duplicates > 0


def test_a_run_with_nothing_new_makes_no_version(installed: Installed) -> None:
    installed.apply_few()
    assert installed.batch() is None
    installed.send(make_events(20, 40))
    with installed.speed():
        installed.wait_committed()
        assert installed.batch()["version"] == 1
        assert installed.batch() is None
    assert installed.batch() is None
    assert installed.ledger.version.id == 1
    assert len(installed.ledger.generations) == 1


@pytest.mark.parametrize("few_rows", [0, 1000])
def test_many_incremental_runs_are_compacted_and_answer_the_same(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, few_rows: int
) -> None:
    monkeypatch.setattr(loading, "MANY_SEGMENTS", 2)
    monkeypatch.setattr(loading, "FEW_ROWS", few_rows)
    monkeypatch.setattr(segments, "_DEAD_SEGMENTS", 2)
    installed.apply_few()
    for number in range(7):
        installed.send(make_events(20, 50 + number, first=20 * number))
        for folder in installed.home.batch.glob("*/segment=*"):
            os.utime(folder, (0, 0))  # more than an hour goes by
        installed.new_batch_layer()  # each run is a process of its own
        installed.batch()
    ledger = installed.ledger
    assert ledger.version.id == 7
    assert all(len(ids) <= 3 for ids in ledger.version.views.values())
    assert "compacted" in {segment.mode for segment in ledger.segments.values()}
    assert installed.wrong() == []
    tables = list(installed.home.batch.iterdir())
    kept = {int(folder.name.partition("=")[2]) for table in tables for folder in table.glob("segment=*")}
    assert kept >= set(ledger.segments)
    assert len(kept) < 14, "segments that nothing names any more are gone from the disk"
    for table in tables:
        found = {
            row.segment for row in installed.spark.read.format("delta").load(str(table)).select("segment").collect()
        }
        assert found <= kept, "and from the table"


def test_few_rows_are_merged_at_once_and_without_spark(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    measures = {"lines": Count(), "units": Sum("quantity"), "most": Max("score"), "first": Min("at")}
    source = make_source(installed.topic)
    installed.apply(View("plain", source=source, key="country", bucket=hours(1), measures=measures))
    monkeypatch.setattr(Segments, "_read", None)
    for number, events in enumerate((200, 150, 20)):
        installed.send(make_events(events, 50 + number, first=200 * number))
        installed.batch()
        ledger = installed.ledger
        (found,) = ([ledger.segments[id] for id in ids] for ids in ledger.version.views.values())
        assert len(found) == (2 if number == 2 else 1), "the third one is small beside what it would be merged with"
        assert verify(installed.home, bootstrap=installed.bootstrap).ok
    assert [segment.mode for segment in found] == ["compacted", "incremental"]


def test_a_view_added_later_is_built_in_full_while_the_others_go_on(installed: Installed) -> None:
    everything, countries, totals = make_views(make_source(installed.topic))
    installed.apply(countries, totals)
    installed.send(make_events(80, 60))
    installed.batch()
    with installed.speed():
        installed.apply(everything, countries, totals)
        installed.send(make_events(40, 61, first=80))
        installed.wait_committed()
        assert sorted(installed.ledger.live) == ["countries", "totals"]
        assert installed.wrong() == []
        installed.batch()
        assert sorted(installed.ledger.live) == ["countries", "everything", "totals"]
        assert installed.wrong() == []
        modes = {(segment.view, segment.mode) for segment in installed.ledger.segments.values()}
        assert (installed.ledger.live["everything"], "full") in modes
        installed.send(make_events(40, 62, first=120))
        installed.wait_committed()
        assert installed.wrong() == []


def test_kept_buckets_alone_answer_from_a_publish_on(installed: Installed) -> None:
    source = make_source(installed.topic)
    recent = View("recent", source=source, bucket=hours(1), keep=hours(6), measures={"lines": Count()})
    installed.apply(recent)

    def lines(floor: int | None) -> Answers:
        found: dict[Any, int] = {}
        for fact in count_events(installed.records()):
            bucket = fact.order[0] // HOUR * HOUR
            if floor is None or bucket >= floor:
                found[(), bucket] = found.get(((), bucket), 0) + 1
        return {place: {"lines": count} for place, count in found.items()}

    with installed.speed():
        installed.send(make_events(100, 90))
        installed.wait_committed()
        assert installed.answers("recent") == lines(None)
        installed.batch()
        latest = max(fact.order[0] for fact in count_events(installed.records()))
        floor = (latest - 6 * HOUR) // HOUR * HOUR
        assert installed.ledger.version.floors == {installed.ledger.live["recent"]: floor}
        assert installed.answers("recent") == lines(floor)
        installed.send(make_events(100, 91, first=100))  # late ones too
        installed.wait_committed()
        latest = max(fact.order[0] for fact in count_events(installed.records()))
        assert installed.answers("recent") == lines(floor)
        installed.batch()
        after = (latest - 6 * HOUR) // HOUR * HOUR
        assert after >= floor
        assert installed.answers("recent") == lines(after)
    installed.batch(full=True)
    assert installed.answers("recent") == lines(after)
    for keep in (days(3), None):  # what is kept longer does not bring back what has gone
        installed.apply(replace(recent, keep=keep))
        installed.send(make_events(20, 92, first=200))
        installed.batch()
        assert installed.answers("recent") == lines(after)
        report = verify(installed.home, bootstrap=installed.bootstrap, versions=True)
        assert report.ok, report.to_text()
        assert len(report.views) == 1 + len(installed.ledger.versions)


def test_an_older_version_answers_at_its_own_cut(installed: Installed) -> None:
    installed.apply_few()
    cuts = []
    for number in range(4):
        installed.send(make_events(30, 100 + number, first=30 * number))
        installed.batch()
        cuts.append(installed.ledger.version.cut)
    assert [version.id for version in installed.ledger.versions] == [2, 3, 4]
    for version, cut in zip((2, 3, 4), cuts[1:], strict=True):
        facts = count_events(installed.records(cut))
        assert len(facts) == 30 * version
        for view in ("countries", "totals"):
            assert differences(naive_answers(view, facts), installed.answers(view, version)) == []
