"""Batch runs that are cut off, and archives that do not hold what the log held."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext

import pytest
from cases import count_events, make_events
from deltalake import DeltaTable
from exposition import Family, parse
from faults import Crash, crash_at
from installed import Installed, wait_for

from batch_layer.service import keep_running
from serving_layer.reader import Reader
from tideline import delta_log
from tideline.cut import Cut
from tideline.errors import ChecksumError
from tideline.points import POINTS

RUN = [
    point
    for point in POINTS
    if point.startswith(("batch.", "archive.", "segment.", "publish", "expire")) and ".rewr" not in point
]


@pytest.mark.parametrize("beside", [True, False], ids=["beside the speed layer", "without it"])
def test_a_run_cut_off_at_any_point_is_finished_by_the_next_one(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    """At every other point beside the speed layer, at the rest without it, where the run goes past its cut."""
    installed.apply_few()
    installed.send(make_events(20, 1))
    installed.batch()
    with installed.speed() if beside else nullcontext():
        for number, point in enumerate(RUN[beside::2], 1):
            installed.send(make_events(20, number, 20 * number))
            if beside:
                installed.wait_committed()
            with monkeypatch.context() as patch:
                crash_at(patch, point)
                with pytest.raises(Crash):
                    installed.batch()
            assert installed.wrong() == [], point
            installed.new_batch_layer()
            installed.batch()
            assert installed.wrong() == [], point
            ledger = installed.ledger
            assert ledger.committed == ledger.archived == ledger.version.cut == installed.log_end, point
    with installed.store.snapshot() as snapshot:
        assert set(snapshot.spaces()) == set(snapshot.ledger.spaces()), "a crashed load leaves nothing for good"


def test_any_delta_reader_finds_every_record_and_its_bytes(installed: Installed) -> None:
    installed.apply_few(partitions=3)
    events = make_events(40, 2)
    for sent in ([*events, b"junk", b"", None, b"\xff\xfe"], [*events[:7], b'{"id": 5}']):
        installed.send(sent)
        installed.batch()
    table = DeltaTable(str(installed.home.master / "events"))
    rows = table.to_pyarrow_table().to_pylist()
    found = {(row["_partition"], row["_offset"]): row for row in rows}
    records = {(record.partition, record.offset): record for record in installed.records()}
    assert len(rows) == len(found) == 52
    assert found.keys() == records.keys()
    for place, record in records.items():
        assert (found[place]["_key"], found[place]["_value"]) == (record.key, record.value)
        assert found[place]["_timestamp"] == record.at
    reasons = sorted(row["_reason"] for row in rows if row["_reason"])
    assert reasons == [
        "empty value",
        "empty value",
        "id: not a value of type string",
        "not JSON",
        "not UTF-8",
    ]
    assert sum(row["_duplicate"] for row in rows) == 7
    counted = {
        (f.order[1], f.order[2])
        for f in count_events(r for r in records.values() if not found[r.partition, r.offset]["_reason"])
    }
    assert counted == {place for place, row in found.items() if not row["_reason"] and not row["_duplicate"]}
    segments = DeltaTable(str(installed.home.batch / f"totals-{installed.ledger.live['totals']}"))
    lines = segments.to_pyarrow_table(columns=["lines"])["lines"]
    assert sum(state["n"] for state in lines.to_pylist()) == 40


def test_each_commit_of_the_master_says_which_range_it_holds(installed: Installed) -> None:
    installed.apply_few()
    ends = []
    for number in range(3):
        installed.send(make_events(15, number, 15 * number))
        installed.batch()
        ends.append(installed.log_end)
    commits = [c.metadata for c in delta_log.commits(installed.home.master / "events") if c.metadata][::-1]
    assert [Cut.from_json(commit["end"]) for commit in commits] == ends
    assert [Cut.from_json(commit["begin"]) for commit in commits] == [Cut(), *ends[:-1]]
    assert [commit["records"] for commit in commits] == [15, 15, 15]
    history = DeltaTable(str(installed.home.master / "events")).history()
    assert sum("userMetadata" in entry and "records" in json.loads(entry["userMetadata"]) for entry in history) == 3


TAMPERINGS = {
    "a record is gone": ("delete from delta.`{master}` where {place}", {}),
    "its bytes are others": (
        "update delta.`{master}` set _value = cast('{{}}' as binary) where {place}",
        {"redecode": True},
    ),
    "its checksum is another": ("update delta.`{master}` set _hash = _hash + 1 where {place}", {}),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_an_archive_that_is_not_what_was_folded_is_never_published(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    installed.apply_few()
    with installed.speed():
        installed.send(make_events(30, 3))
        installed.wait_committed()
        with monkeypatch.context() as patch:
            crash_at(patch, "archive.done")
            with pytest.raises(Crash):
                installed.batch()
        sql, options = TAMPERINGS[what]
        installed.spark.sql(sql.format(master=installed.home.master / "events", place="_partition = 1 and _offset = 3"))
        with pytest.raises(ChecksumError) as caught:
            installed.batch(**options)
        assert (caught.value.params["topic"], caught.value.params["partition"]) == (installed.topic, 1)
        assert installed.ledger.version.id == 0
        assert installed.wrong() == []
        told = scheduled(installed, **options)
    assert told["tideline_batch_error"].value(condition="CHECKSUM") == 1
    assert told["tideline_batch_failures_total"].value() == told["tideline_batch_runs_total"].value() == 1


def scheduled(installed: Installed, redecode: bool = False) -> dict[str, Family]:
    """What Prometheus sees of a batch layer with a schedule after its first run."""
    stopping, note = threading.Event(), {"ready": True, "bootstrap": installed.bootstrap, "every": 600.0}
    args = (installed.batch_layer, installed.home, note, redecode, redecode, stopping, lambda report: None)
    thread = threading.Thread(target=keep_running, args=args)
    thread.start()
    try:
        wait_for(lambda: (installed.home.read_status("batch") or {}).get("runs"), "a run has ended")
        with Reader(installed.home, store=installed.store) as reader:
            return parse(reader.metrics(timeout=10))
    finally:
        stopping.set()
        thread.join()
