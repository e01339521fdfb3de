"""Kafka's own faults: a broker that is killed, one that is away, partitions that are added while all runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import encode, make_events
from command import argv, tideline
from installed import Installed, wait_for
from kafka import KafkaAdminClient, KafkaProducer
from pyspark.sql import SparkSession

import tideline as tl
from tideline.apply import apply_catalog
from tideline.catalog import load_catalog
from tideline.cut import Cut
from tideline.oracle import verify
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.process import Command
from tideline.runtime.supervisor import Service, Supervisor
from tideline.runtime.topics import log_end_offsets
from tideline.spark.resolve import resolve_catalog
from tideline.stores.lmdb import LmdbStore

CATALOG = """from tideline import *
s = Source("events", topic="outside", schema="id string, kind string, at timestamp", event_id="id", event_time="at")
v = View("kinds", source=s, key="kind", measures={"lines": Count()})
"""
BOUND = 400.0  # seconds on a busy machine


def layer(home: Home, name: str, *words: str) -> Service:
    """A layer's process for a supervisor."""
    return Service(Command(name, tuple(argv(name, "--home", str(home.path), *words)), log=home.logs / f"{name}.log"))


def send(bootstrap: str, count: int, first: int) -> Cut:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for event in make_events(count, first, first):
        producer.send("outside", encode(event), str(event["id"]).encode())
    producer.flush(60)
    producer.close(5)
    return Cut(log_end_offsets(bootstrap, ["outside"]))


@pytest.mark.timeout(1500)
def test_layers_outlive_a_broker_that_is_killed_and_one_that_is_away(spark: SparkSession, tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    (tmp_path / "catalog.py").write_text(CATALOG)
    broker = Broker(Home(tmp_path / "broker").prepare()).start()
    place = broker.bootstrap
    said: list[str] = []
    port = int(place.rpartition(":")[2])
    try:
        with LmdbStore.open(home.path, create=True) as store:
            resolved = resolve_catalog(spark, load_catalog(str(tmp_path / "catalog.py")))
            apply_catalog(store, resolved, place, 2, home.master)
        with (
            tl.open(str(home.path)) as reader,
            Supervisor(said.append) as supervisor,
        ):
            supervisor.add(layer(home, "speed", "--bootstrap-server", place))
            supervisor.add(layer(home, "batch", "--bootstrap-server", place, "--every", "2s"))

            def waits(condition: Callable[[], Any], what: str) -> None:
                assert supervisor.watch(lambda: bool(condition()), BOUND), (what, said)

            def lines() -> int:
                return sum(row["lines"] for row in reader.view("kinds").get().rows)

            def reaches(end: Cut) -> None:
                waits(lambda: reader.ledger().committed.covers(end), f"{end} is committed")

            reaches(send(place, 100, 0))
            waits(lambda: reader.ledger().version.id > 0, "a batch run has published")

            os.kill(broker.pid or 0, signal.SIGKILL)
            broker.stop()
            broker = Broker(Home(tmp_path / "broker"), port).start()
            reaches(send(place, 100, 100))
            assert lines() == 200

            batch = supervisor.pid("batch")
            assert batch
            os.kill(batch, signal.SIGSTOP)  # what follows is left for it to read
            reaches(send(place, 100, 200))
            broker.stop()
            os.kill(batch, signal.SIGCONT)
            waits(lambda: place in ((home.read_status("batch") or {}).get("error") or ""), "the batch layer says it")
            waits(lambda: reader.status(timeout=1.0)["kafka"]["error"], "status says it")
            away = reader.status(timeout=1.0)
            assert (away["ready"], away["lag_events"]) == (False, None)
            assert lines() == 300, "queries go on"
            stale = reader.view("kinds").get().proof["freshness"]
            waits(lambda: reader.view("kinds").get().proof["freshness"] > stale, "the proof says how old the answer is")
            alone = tideline("verify", "--home", home.path, "--bootstrap-server", place, timeout=BOUND)
            assert (alone.code, place in alone.line) == (3, True)

            broker = Broker(Home(tmp_path / "broker"), port).start()
            end = send(place, 100, 300)
            reaches(end)
            assert all("exit code 3" in line or "started again" in line for line in said), said
            assert lines() == 400
            waits(lambda: reader.ledger().version.cut.covers(end), "a batch run has published it all")
            report = verify(home, bootstrap=place)
            assert report.ok, report.to_text()
    finally:
        broker.stop()


def add_partitions(installed: Installed, count: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=installed.bootstrap)
    admin.create_partitions({installed.topic: count})
    admin.close()
    if installed._producer is not None:
        installed._producer.close(timeout=5)
        installed._producer = None  # another one finds the partitions at once
    wait_for(lambda: len(installed.log_end.offsets(installed.topic)) == count, "the partitions are there")


def test_records_of_partitions_that_are_added_count_in_every_layer(installed: Installed) -> None:
    """While the speed layer runs, between two runs, and where nothing but an aborted transaction is new."""
    installed.apply_few()
    installed.send(make_events(30, 1))
    installed.batch()
    with installed.speed():
        installed.send(make_events(30, 2, 30))
        installed.wait_committed()
        add_partitions(installed, 4)
        for partition in range(4):
            installed.send(make_events(10, 3 + partition, 60 + 10 * partition), partition)
        installed.wait_committed()
        assert installed.wrong() == []
        assert sum(answer["lines"] for answer in installed.answers("totals").values()) == 100
        installed.batch()
        assert installed.wrong() == []
        assert installed.ledger.version.cut == installed.log_end
    add_partitions(installed, 5)
    installed.send(make_events(10, 9, 100), 4)
    installed.batch()
    assert installed.ledger.committed == installed.ledger.version.cut == installed.log_end, "alone"
    producer = KafkaProducer(bootstrap_servers=installed.bootstrap, transactional_id=installed.topic)
    producer.init_transactions()
    producer.begin_transaction()
    before = installed.log_end
    producer.send(installed.topic, encode(make_events(1, 10, 110)[0]), partition=4).get(30)
    producer.abort_transaction()
    producer.close(timeout=5)
    wait_for(lambda: installed.log_end.count_since(before) > 0, "the abort is marked")
    installed.batch()
    assert installed.ledger.version.cut == installed.log_end
    installed.batch(full=True)
    report = verify(installed.home, bootstrap=installed.bootstrap)
    assert report.ok, report.to_text()
    assert sum(answer["lines"] for answer in installed.answers("totals").values()) == 110
