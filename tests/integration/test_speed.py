"""The speed layer on a real stream: where it resumes, what it skips, what it refuses."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from cases import count_events, encode, few_views, make_events, make_source, make_views
from installed import Installed, wait_for
from kafka import KafkaProducer

from speed_layer.layer import Committed, SpeedLayer
from speed_layer.mirror import GroupMirror, group_name
from speed_layer.service import Progress
from tideline.cut import Cut
from tideline.errors import FenceError, GapError, StoreError, TopicRecreatedError
from tideline.runtime.groups import GroupClient
from tideline.runtime.logs import JsonFormatter
from tideline.runtime.topics import create_topic, delete_topic
from tideline.stores.lmdb import LmdbStore


def new_layer(installed: Installed) -> SpeedLayer:
    return SpeedLayer(installed.store, installed.folder())


def part_of(installed: Installed, share: float) -> Cut:
    """A cut that far between the start and the end of the log, in every partition."""
    offsets = installed.log_end.offsets(installed.topic)
    return Cut({installed.topic: {partition: int(end * share) for partition, end in offsets.items()}})


@pytest.fixture
def applied(installed: Installed) -> Installed:
    installed.apply_few()
    return installed


def test_what_was_folded_before_the_layer_started_again_is_not_committed(applied: Installed) -> None:
    applied.send(make_events(30, 3))
    layer = new_layer(applied)
    begin = layer.start()
    ready = layer.fold(begin, applied.log_end)
    assert layer.start() == begin
    with pytest.raises(FenceError):
        layer.commit(ready)
    assert applied.ledger.committed == begin
    layer.process(begin, applied.log_end)
    assert applied.wrong() == []


def test_a_commit_that_cannot_be_written_ends_the_query_whatever_was_folded_on_it(
    applied: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The micro-batch after it is being folded by then, with ids that the store does not have."""
    applied.send([*make_events(120, 3), *make_events(120, 3)])
    write, commits, folds = LmdbStore.write, [0], [0]
    fold = SpeedLayer.fold

    def folding(layer: SpeedLayer, *of: Any) -> Any:
        folds[0] += 1
        return fold(layer, *of)

    @contextmanager
    def writing(store: LmdbStore) -> Iterator[Any]:
        with write(store) as txn:
            before = txn.ledger.committed
            yield txn
            commits[0] += txn.ledger.committed != before
            if commits[0] == 3:
                wait_for(lambda: folds[0] > 3, "the next one is being folded")
                raise StoreError("STORE_FAILED", path="home", reason="the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(SpeedLayer, "fold", folding)
        patch.setattr(LmdbStore, "write", writing)
        with pytest.raises(StoreError, match="the disk is gone"):
            applied.run_speed_to_its_error(max_offsets=40)
    assert applied.wrong() == []
    assert applied.ledger.committed.count_since(applied.ledger.origin) < 120
    with applied.speed(max_offsets=40):
        applied.wait_committed()
    assert applied.wrong() == []


def test_it_resumes_from_the_ledgers_cut_whatever_becomes_of_its_checkpoint(installed: Installed) -> None:
    installed.apply()
    installed.send(make_events(150, 1))
    with installed.speed():
        installed.wait_committed()
    assert installed.wrong() == []
    shutil.rmtree(installed.home.tmp)
    installed.home.tmp.mkdir()
    end = installed.send(make_events(600, 2, first=150))
    with installed.speed(max_offsets=60) as speed:
        wait_for(lambda: len(speed.commits) >= 2, "two micro-batches are committed")
    assert not installed.ledger.committed.covers(end), "stopped in mid-stream"
    assert installed.wrong() == []
    with installed.speed():
        installed.wait_committed(end)
    assert installed.wrong() == []
    assert list(installed.home.tmp.glob("speed-*")) == []


def test_a_range_that_comes_again_is_skipped(applied: Installed) -> None:
    end, middle = applied.send(make_events(200, 3)), part_of(applied, 0.6)
    layer = new_layer(applied)
    start = layer.start()
    layer.process(start, middle)
    assert applied.ledger.committed == middle
    before = applied.look()
    layer.process(start, middle)
    assert applied.look() == before
    layer.process(start, end)
    assert applied.ledger.committed == end
    assert applied.wrong() == []


def test_a_range_that_leaves_a_gap_is_refused_and_named(applied: Installed) -> None:
    end, middle = applied.send(make_events(100, 4)), part_of(applied, 0.5)
    layer = new_layer(applied)
    layer.start()
    with pytest.raises(GapError) as caught:
        layer.process(middle, end)
    found = caught.value.params
    assert (found["topic"], found["expected"]) == (applied.topic, 0)
    assert found["found"] == middle.offset(applied.topic, found["partition"])
    assert applied.ledger.committed.count_since(applied.ledger.origin) == 0


def test_a_committed_cut_that_was_moved_back_ends_the_query_with_a_gap(applied: Installed) -> None:
    with applied.speed() as speed:
        applied.send(make_events(50, 5))
        applied.wait_committed()
        with applied.store.write() as txn:
            txn.put_ledger(replace(txn.ledger, committed=txn.ledger.origin))
        applied.send(make_events(50, 6, first=50))
        assert isinstance(speed.wait_error(), GapError)
        speed.error = None


HORIZON = 12


def test_what_repeats_follows_from_the_log_alone_in_both_layers(installed: Installed) -> None:
    """Within a batch, across batches, after a restart, after a hand-off, and beyond the horizon."""
    installed.apply(*few_views(make_source(installed.topic, horizon=HORIZON)), partitions=1)
    events = make_events(20, 7)
    dead = [b"no JSON"]
    with installed.speed():
        installed.send([events[0], events[1], events[0], events[0]])
        installed.wait_committed()
        installed.send([*events[1:4], *dead, events[0]])
        installed.wait_committed()
    assert installed.wrong() == []
    with installed.speed():  # the index is read back from Kafka
        installed.send([*events[3:6], *dead * 3, events[2]])
        installed.wait_committed()
        assert installed.wrong() == []
        installed.batch()
        assert installed.wrong() == []
        installed.send(events[5:7])
        installed.wait_committed()
    with installed.speed():  # from the master and Kafka
        installed.send([events[6], events[0], *dead * (HORIZON - 1), events[0], *dead * HORIZON, events[0]])
        installed.wait_committed()
    facts = count_events(installed.records(), HORIZON)
    assert len({fact.id for fact in facts}) < len(facts), "what is beyond the horizon counts again"
    assert installed.wrong() == []
    log = installed.ledger.log()[installed.topic][0]
    assert (log.events, log.duplicates) == (len(facts), 10)
    installed.new_batch_layer()
    installed.batch()
    assert installed.wrong() == []
    installed.batch(full=True)
    assert installed.wrong() == []
    assert installed.ledger.log()[installed.topic][0] == log


def test_a_catalog_applied_meanwhile_is_folded_from_the_next_seal_on(installed: Installed) -> None:
    everything, countries, totals = make_views(make_source(installed.topic))
    installed.apply(totals)
    with installed.speed():
        installed.send(make_events(60, 8))
        installed.wait_committed()
        installed.apply(everything, countries, totals)
        assert list(installed.ledger.live) == ["totals"]
        installed.send(make_events(60, 9, first=60))
        installed.wait_committed()
        assert len(installed.ledger.open.definitions) == 1
        installed.batch()
        assert len(installed.ledger.open.definitions) == 3
        installed.send(make_events(60, 10, first=120))
        installed.wait_committed()
        assert sorted(installed.ledger.live) == ["countries", "everything", "totals"]
        assert installed.wrong() == []


def test_records_of_aborted_transactions_never_count_and_their_range_commits(applied: Installed) -> None:
    producer = KafkaProducer(bootstrap_servers=applied.bootstrap, transactional_id=applied.topic)
    producer.init_transactions()

    def transact(first: int) -> None:
        producer.begin_transaction()
        for event in make_events(20, first, first):
            producer.send(applied.topic, encode(event), event["id"].encode())
        producer.flush()

    try:
        with applied.speed() as speed:
            transact(0)
            producer.abort_transaction()
            end = wait_for(
                lambda: (e := applied.log_end).count_since(Cut()) >= 20 and e, "aborts are marked everywhere"
            )
            applied.wait_committed(end)
            assert sum(commit.states for commit in speed.commits) == 0
            assert applied.answers("totals") == {}
            transact(20)
            producer.commit_transaction()
            transact(40)
            producer.abort_transaction()
            applied.send(make_events(5, 60, 60))
            applied.wait_committed()
    finally:
        producer.close(timeout=5)
    assert applied.answers("totals")[(), None]["lines"] == 25
    assert applied.wrong() == []
    assert applied.batch() is not None
    assert applied.wrong() == []


def test_a_recreated_topic_is_refused_by_both_layers(applied: Installed) -> None:
    applied.send(make_events(20, 11))
    layer = new_layer(applied)
    start = layer.start()
    layer.process(start, applied.log_end)
    delete_topic(applied.bootstrap, applied.topic)
    create_topic(applied.bootstrap, applied.topic, 2)
    applied.send(make_events(60, 12, first=20))
    before = applied.ledger
    with pytest.raises(TopicRecreatedError):
        layer.process(applied.ledger.committed, applied.log_end)
    with pytest.raises(TopicRecreatedError):
        new_layer(applied).start()
    with pytest.raises(TopicRecreatedError):
        applied.batch()
    with pytest.raises(TopicRecreatedError):
        applied.apply_few()
    after = applied.ledger
    assert (after.committed, after.archived, after.versions) == (
        before.committed,
        before.archived,
        before.versions,
    )


def test_a_topic_recreated_under_the_running_query_ends_it_by_name(applied: Installed) -> None:
    with applied.speed() as speed:
        applied.send(make_events(40, 13))
        applied.wait_committed()
        delete_topic(applied.bootstrap, applied.topic)
        create_topic(applied.bootstrap, applied.topic, 2)
        applied.send(make_events(10, 14))
        assert isinstance(speed.wait_error(), TopicRecreatedError)
        speed.error = None


def test_of_two_speed_layers_the_older_one_is_refused(applied: Installed) -> None:
    end = applied.send(make_events(60, 15))
    older, newer = new_layer(applied), new_layer(applied)
    start = older.start()
    assert newer.start() == start
    with pytest.raises(FenceError):
        older.process(start, end)
    newer.process(start, end)
    assert applied.ledger.committed == end
    assert applied.wrong() == []


def test_the_consumer_group_follows_the_committed_cut_and_is_in_nobodys_way(
    applied: Installed, caplog: pytest.LogCaptureFixture
) -> None:
    """Over restarts, with a group that somebody moved, and with a Kafka that takes and never answers."""
    caplog.set_level(logging.INFO, "speed_layer")
    group = group_name("auto", applied.ledger.installation)
    assert group == f"tideline-{applied.ledger.installation[:8]}"
    with GroupClient(applied.bootstrap) as client:
        for number in range(2):
            with GroupMirror(applied.bootstrap, group, lambda: applied.ledger.committed, every=0.1) as mirror:
                progress = Progress(applied.home, applied.store, applied.bootstrap, mirror)
                with applied.speed(max_offsets=20, on_commit=progress.committed) as speed:
                    applied.send(make_events(80, 70 + number, first=80 * number))
                    applied.wait_committed()
                    wait_for(lambda: client.committed(group) == applied.ledger.committed, "the group is at the cut")
                assert progress.cycles == len(speed.commits) >= 4
            lines = [record for record in caplog.records if record.getMessage() == "committed"]
            assert all(later.created - earlier.created > 4.9 for earlier, later in pairwise(lines)), "not each commit"
            told = [json.loads(JsonFormatter().format(line)) for line in lines]
            assert 0 < sum(line["commits"] for line in told) <= progress.cycles
            assert Cut.parse(told[-1]["cut"]).covers(Cut.parse(told[0]["cut"]))
            caplog.clear()
            client.commit(group, Cut({applied.topic: {0: 1, 1: 1}}))
            assert applied.wrong() == [], "nobody reads the group"
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            took: list[float] = []

            def timed(commit: Committed) -> None:
                began = time.monotonic()
                mirror.moved()
                took.append(time.monotonic() - began)

            with GroupMirror(address, group, lambda: applied.ledger.committed, every=0.01) as mirror:
                with applied.speed(max_offsets=20, on_commit=timed):
                    applied.send(make_events(60, 72, first=160))
                    applied.wait_committed()
                wait_for(lambda: "stays behind" in caplog.text, "the log says so", 30)
                ending = time.monotonic()
            assert time.monotonic() - ending < 4
        assert max(took) < 0.5
        assert caplog.text.count("stays behind") == 1
        assert applied.wrong() == []
