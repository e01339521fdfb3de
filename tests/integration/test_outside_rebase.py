"""Topics that are made anew, on another cluster or in the same place: what was archived stays, the new log goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cases import Event, count_events, differences, make_events, naive_answers
from command import tideline
from faults import Crash, crash_at
from installed import Installed
from kafka import KafkaProducer

from batch_layer.rebase import rebase
from batch_layer.recover import recover
from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.status import margin
from tideline.cut import Cut
from tideline.errors import LostLogError, OutsideError, TopicRecreatedError
from tideline.oracle import verify
from tideline.points import REBASE_POINTS
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.reading import Record, read_records
from tideline.runtime.topics import create_topic, delete_topic, log_end_offsets


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """Another cluster."""
    with Broker(Home(tmp_path / "elsewhere").prepare()) as broker:
        yield broker.bootstrap


def move(installed: Installed, bootstrap: str) -> None:
    """The same home, with another cluster."""
    installed.stop_sending()
    installed.bootstrap = bootstrap
    installed.new_batch_layer()


def all_records(installed: Installed, bootstrap: str) -> list[Record]:
    """What a cluster holds of the topic."""
    end = Cut(log_end_offsets(bootstrap, [installed.topic]))
    return [record for batch in read_records(bootstrap, installed.topic, Cut(), end) for record in batch]


def wrong(installed: Installed, records: list[Record]) -> list[tuple[Any, ...]]:
    """Where the answers differ from a plain fold over these records."""
    facts = count_events(records, installed.horizon)
    return [
        (v, *one) for v, answers in installed.look()[1].items() for one in differences(naive_answers(v, facts), answers)
    ]


def moved(records: list[Record], by: dict[int, int]) -> list[Record]:
    """The records in the places that they have in a log to which `by` was added."""
    return [replace(record, offset=record.offset + by[record.partition]) for record in records]


def test_an_installation_moves_to_another_cluster_and_counts_everything_once(
    installed: Installed, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that comes again after the move is a repeat; the move is broken off at each of its steps."""
    installed.apply()
    first: list[Event] = make_events(60, 1)
    installed.send([*first, b"junk"])
    installed.batch()
    installed.send(make_events(30, 2, 60))
    installed.batch()
    old, end = all_records(installed, installed.bootstrap), installed.ledger.committed
    create_topic(elsewhere, installed.topic, 2)
    move(installed, elsewhere)
    with pytest.raises(TopicRecreatedError) as refused:
        installed.batch()
    assert "recover --rebase" in refused.value.hint

    again, fresh = first[-5:], make_events(40, 3, 90)
    installed.send([*again, *fresh])
    for point in REBASE_POINTS:
        with monkeypatch.context() as patch:
            crash_at(patch, point)
            with pytest.raises(Crash):
                rebase(installed.store, installed.engine)
    with pytest.raises((TopicRecreatedError, OutsideError)) as halfway:
        installed.new_batch_layer()
        installed.batch()
    assert "--rebase" in halfway.value.hint
    rebase(installed.store, installed.engine)
    assert recover(installed.store, installed.engine) == [], "all was archived"
    installed.new_batch_layer()
    installed.batch()
    shift = {p: -offset for p, offset in end.offsets(installed.topic).items()}
    known = moved(old, shift)
    assert min(record.offset for record in known) < 0
    everything = [*known, *all_records(installed, elsewhere)]
    assert installed.ledger.committed == installed.log_end
    assert wrong(installed, everything) == []
    duplicates = sum(stats.duplicates for stats in installed.ledger.log()[installed.topic].values())
    assert duplicates == len(again), "each key stays in its partition"

    with installed.speed():
        installed.send([*first[:3], *make_events(30, 4, 130)])
        installed.wait_committed()
        everything = [*known, *all_records(installed, elsewhere)]
        assert wrong(installed, everything) == []
        installed.batch()
    assert wrong(installed, everything) == []
    report = verify(installed.home, bootstrap=elsewhere)
    assert report.ok, report.to_text()
    installed.batch(redecode=True)
    assert wrong(installed, everything) == []
    ids = dict(installed.ledger.topic_ids)
    rebase(installed.store, installed.engine)
    assert (installed.ledger.topic_ids, installed.ledger.origin.offset(installed.topic, 0)) == (ids, shift[0])
    installed.lose_store()
    installed.apply()
    installed.batch()
    assert wrong(installed, everything) == [], "the master says where it stands now"


def test_what_was_committed_and_not_archived_before_the_move_is_named_lost(
    installed: Installed, elsewhere: str
) -> None:
    """The old cluster is gone for good; the command does all of it."""
    installed.apply_few()
    installed.send(make_events(40, 1))
    installed.batch()
    archived = installed.ledger.archived
    with installed.speed():
        installed.send(make_events(20, 2, 40))
        installed.wait_committed()
    committed, old = installed.ledger.committed, all_records(installed, installed.bootstrap)
    create_topic(elsewhere, installed.topic, 2)
    move(installed, elsewhere)
    installed.send(make_events(25, 3, 60))
    installed.store.close()
    done = tideline(
        "recover", "--rebase", "--home", installed.home.path, "--bootstrap-server", elsewhere, "-o", "json", timeout=400
    )
    installed.reopen()
    assert done.code == 0, done.err
    losses = done.json["losses"]
    topic = installed.topic
    assert {(loss["partition"], loss["begin"], loss["end"], loss["why"]) for loss in losses} == {
        (p, archived.offset(topic, p) - end, 0, "expired") for p, end in committed.offsets(topic).items()
    }
    kept = [record for record in old if record.offset < archived.offset(topic, record.partition)]
    shift = {p: -offset for p, offset in committed.offsets(topic).items()}
    assert wrong(installed, [*moved(kept, shift), *all_records(installed, elsewhere)]) == []
    with Reader(installed.home) as reader:
        assert reader.query(Query("totals")).proof["losses"] == losses
    report = verify(installed.home, bootstrap=elsewhere)
    assert report.ok, report.to_text()


def test_a_topic_that_was_deleted_and_made_anew_can_be_gone_on_with(installed: Installed) -> None:
    installed.apply_few()
    installed.send(make_events(40, 1))
    installed.batch()
    old, end = all_records(installed, installed.bootstrap), installed.ledger.committed
    installed.stop_sending()
    delete_topic(installed.bootstrap, installed.topic)
    create_topic(installed.bootstrap, installed.topic, 2)
    installed.send(make_events(30, 2, 40))
    rebase(installed.store, installed.engine)
    recover(installed.store, installed.engine)
    installed.new_batch_layer()
    installed.batch()
    shift = {p: -offset for p, offset in end.offsets(installed.topic).items()}
    assert wrong(installed, [*moved(old, shift), *all_records(installed, installed.bootstrap)]) == []
    found = margin(installed.engine.log_bounds([installed.topic])[0], installed.ledger)
    assert found, "there are records to keep"
    assert found["deleted"] == 0, "the topic begins where it was made"


def test_a_log_that_would_count_twice_or_lacks_a_partition_is_refused_and_nothing_is_moved(
    installed: Installed, elsewhere: str, tmp_path: Path
) -> None:
    here = installed.bootstrap
    for bootstrap in (here, elsewhere):  # as topics are that others make, and that a mirror copies
        create_topic(bootstrap, installed.topic, 2, {"message.timestamp.type": "CreateTime"})
    installed.apply_few()
    installed.send(make_events(40, 1))
    installed.batch()
    before, copies = installed.look(), all_records(installed, here)
    producer = KafkaProducer(bootstrap_servers=elsewhere)
    for record in copies:
        at = round(record.at.timestamp() * 1000)
        producer.send(installed.topic, record.value, record.key, partition=record.partition, timestamp_ms=at)
    producer.flush(30)
    producer.close()
    with Broker(Home(tmp_path / "narrow").prepare()) as narrow:
        create_topic(narrow.bootstrap, installed.topic, 1)
        for bootstrap, condition in ((elsewhere, "COPIED_LOG"), (narrow.bootstrap, "PARTITIONS_GONE")):
            move(installed, bootstrap)
            with pytest.raises(LostLogError) as refused:
                rebase(installed.store, installed.engine)
            assert (refused.value.condition, refused.value.params["topic"]) == (condition, installed.topic)
            assert installed.look() == before
    move(installed, here)
    installed.send(make_events(10, 2, 40))
    installed.batch()
    assert installed.wrong() == []
