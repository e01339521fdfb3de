"""Going on where Kafka has lost records, on the real parts: what is lost is named, the rest is right."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cases import Answers, count_events, differences, make_events, naive_answers
from faults import Crash, crash_at
from installed import Installed
from kafka import KafkaAdminClient, TopicPartition
from pyspark.sql import SparkSession

from batch_layer.recover import recover
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.errors import ChecksumError, LostLogError
from tideline.ledger import Loss
from tideline.oracle import verify
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.reading import Record


def delete_records(installed: Installed, before: dict[int, int]) -> None:
    """Kafka deletes what lies before these offsets, as its retention would."""
    admin = KafkaAdminClient(bootstrap_servers=installed.bootstrap)
    try:
        admin.delete_records({TopicPartition(installed.topic, p): offset for p, offset in before.items()})
    finally:
        admin.close()


def proof(installed: Installed, view: str = "totals") -> dict[str, Any]:
    with Reader(installed.home) as reader:
        return dict(reader.query(Query(view)).proof)


def wrong(installed: Installed, records: list[Record]) -> list[tuple[Any, ...]]:
    """Where the answers differ from a plain fold over these records."""
    facts = count_events(records, installed.horizon)
    found: dict[str, Answers] = installed.look()[1]
    return [(v, *one) for v, answers in found.items() for one in differences(naive_answers(v, facts), answers)]


def lines(installed: Installed) -> int:
    return int(installed.answers("totals")[(), None]["lines"])


def test_records_that_retention_overtook_are_named_lost_and_left_out(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some that nobody has read, and some that the speed layer alone had counted."""
    installed.apply_few()
    published = installed.send(make_events(40, 1))
    installed.batch()
    with installed.speed():
        counted = installed.send(make_events(30, 2, 40))
        installed.wait_committed()
    end = installed.send(make_events(30, 3, 70))
    everything = installed.records(end)
    start = counted.offset(installed.topic, 0) + 5
    delete_records(installed, {0: start})

    begin = published.offset(installed.topic, 0)
    for attempt in (installed.batch, installed.run_speed_to_its_error):
        with pytest.raises(LostLogError) as caught:
            attempt()
        assert caught.value.condition == "LOG_TRUNCATED"
        assert (caught.value.params["topic"], caught.value.params["partition"]) == (installed.topic, 0)
        assert caught.value.params["end"] == start
        assert "tideline recover" in caught.value.hint
    assert installed.ledger.version.cut == published

    with monkeypatch.context() as patch:
        crash_at(patch, "recover")
        with pytest.raises(Crash):
            recover(installed.store, installed.engine)
    lost = Loss(installed.topic, 0, begin, start, "expired")
    assert recover(installed.store, installed.engine) == [lost]
    assert lines(installed) == 40, "the answers are those of the last version"
    installed.batch()
    kept = [r for r in everything if r.partition != 0 or not begin <= r.offset < start]
    assert installed.ledger.committed == end
    assert wrong(installed, kept) == []
    assert proof(installed)["losses"] == [lost.to_json()]
    with installed.speed():
        installed.send(make_events(20, 4, 100))
        installed.wait_committed()
    assert recover(installed.store, installed.engine) == [], "nothing more is lost"
    installed.batch()
    assert verify(installed.home, bootstrap=installed.bootstrap).ok

    installed.lose_store()
    installed.apply_few()
    installed.batch(full=True)
    assert proof(installed)["losses"] == [lost.to_json()], "the master knows what it lacks"
    assert verify(installed.home, bootstrap=installed.bootstrap).ok


def test_a_broker_that_lost_the_end_of_its_log_is_found_out_and_recovered_from(
    spark: SparkSession, topic_name: str, tmp_path: Path
) -> None:
    """The log is cut off below the committed cut, and other records take the places."""
    place = Home(tmp_path / "broker").prepare()
    with Broker(place) as broker:
        installed = Installed(spark, broker.bootstrap, tmp_path / "home", topic_name)
        installed.apply_few(partitions=1)
        installed.send(make_events(40, 1))
        installed.batch()
        with installed.speed():
            for number in range(3):
                counted = installed.send(make_events(20, 2 + number, 40 + 20 * number))
                installed.wait_committed()
        installed.stop_sending()
        assert broker.pid
        os.kill(broker.pid, signal.SIGKILL)
    (log,) = place.kafka.glob(f"**/{topic_name}-0/*.log")
    size = log.stat().st_size
    os.truncate(log, size - 10)  # in the midst of the last batch of records
    with Broker(place, int(installed.bootstrap.rpartition(":")[2])):
        assert not installed.log_end.covers(counted)
        with pytest.raises(LostLogError) as caught:
            installed.run_speed_to_its_error()
        assert caught.value.condition == "LOG_ENDS_EARLY"
        end = installed.send(make_events(30, 9, 500))
        assert end.covers(counted)
        with pytest.raises(ChecksumError):
            installed.batch()
        before = lines(installed)
        assert before == 100
        losses = recover(installed.store, installed.engine)
        assert [(loss.partition, loss.why) for loss in losses] == [(0, "replaced")]
        assert losses[0].counted == 60
        installed.batch()
        assert installed.ledger.committed == end
        assert installed.wrong() == []
        assert lines(installed) < 130
        assert proof(installed)["losses"] == [losses[0].to_json()]
        assert verify(installed.home, bootstrap=installed.bootstrap).ok
        installed.close()
