"""Damaged files of the master, the segments and the store: named, never another answer, and built again."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from cases import few_views, make_events, make_source
from command import tideline
from installed import Installed, wait_for
from kafka import KafkaAdminClient, TopicPartition

from tideline.errors import ChecksumError, OutsideError
from tideline.oracle import verify
from tideline.rebuild import replace_store
from tideline.spark.faults import TableFault
from tideline.stores.lmdb import LmdbStore

CATALOG = """from tideline import *
s = Source("events", topic="{topic}", event_id="id", event_time="at", schema="id string, kind string, at timestamp")
v = View("kinds", source=s, key="kind", measures={{"lines": Count()}})
"""


def forget_tables(installed: Installed) -> None:
    """As after the end of every process: Spark has read no Delta log."""
    installed.new_batch_layer()
    installed.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


def entries(table: Path) -> list[Path]:
    return sorted((table / "_delta_log").glob("*.json"))


def garbage(table: Path) -> None:
    entries(table)[-2].write_bytes(b'\xff{"add": garbage')


def hole(table: Path) -> None:
    entries(table)[-2].unlink()


def lost_file(table: Path) -> None:
    min(table.rglob("*.parquet")).unlink()


def short_file(table: Path) -> None:
    file = min(table.rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:200])


def garbage_at_the_end(table: Path) -> None:
    entries(table)[-1].write_bytes(b"no JSON at all\n")


def empty_file(table: Path) -> None:
    """A data file, as a power cut leaves one that was not synced."""
    sorted(table.glob("*.parquet"))[0].write_bytes(b"")


DAMAGE = [garbage, hole, lost_file, short_file, empty_file, garbage_at_the_end]


def test_a_damaged_table_is_named_and_the_answers_stay(installed: Installed, tmp_path: Path) -> None:
    installed.apply_few()
    for number in range(3):
        installed.send(make_events(20, number, 20 * number))
        installed.batch()
    table, whole = installed.home.master / "events", tmp_path / "whole"
    shutil.copytree(table, whole)

    def put_back() -> None:
        shutil.rmtree(table)
        shutil.copytree(whole, table)
        forget_tables(installed)

    for damage in DAMAGE:
        damage(table)
        forget_tables(installed)
        with pytest.raises(OutsideError) as caught:
            installed.batch(full=True)
        assert caught.value.condition in ("MASTER_DAMAGED", "DELTA_LOG_DAMAGED"), (damage, caught.value)
        assert str(table) in str(caught.value)
        assert caught.value.hint
        assert installed.wrong() == [], damage
        put_back()
    dice = random.Random(5)
    for number in range(5):
        file = dice.choice(sorted(table.glob("*.parquet")))
        data = bytearray(file.read_bytes())
        place = dice.randrange(len(data))
        data[place] ^= 1 << dice.randrange(8)
        file.write_bytes(data)
        forget_tables(installed)
        with suppress(TableFault, ChecksumError):
            installed.batch(full=True)
        assert installed.wrong() == [], (number, place)
        put_back()
    installed.send(make_events(20, 9, 60))
    installed.batch(full=True)
    assert installed.wrong() == []


def test_damaged_segments_are_named_moved_away_and_built_again(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_layer.loading.MANY_SEGMENTS", 2)
    monkeypatch.setattr("batch_layer.loading.FEW_ROWS", 0)
    installed.apply_few()
    for number in range(2):
        installed.send(make_events(20, number, 20 * number))
        installed.batch()
    (table,) = installed.home.batch.glob("totals-*")
    for number, damage in enumerate((lost_file, garbage_at_the_end)):
        damage(table)
        forget_tables(installed)
        installed.send(make_events(20, 2, 40 + 40 * number))
        with pytest.raises(OutsideError) as caught:
            installed.batch()
        assert caught.value.condition in ("SEGMENTS_DAMAGED", "DELTA_LOG_DAMAGED"), (damage, caught.value)
        assert str(table) in str(caught.value)
        assert installed.wrong() == []
        shutil.rmtree(table)
        forget_tables(installed)
        assert installed.batch(full=True)["mode"] == "full"
        assert installed.wrong() == []
        installed.send(make_events(20, 3, 60 + 40 * number))
        installed.batch()
        assert installed.wrong() == []


def delete_records(installed: Installed, before: int) -> None:
    """As retention does: every partition begins at `before`."""
    admin = KafkaAdminClient(bootstrap_servers=installed.bootstrap)
    admin.delete_records(
        {TopicPartition(installed.topic, p): before for p in installed.log_end.offsets(installed.topic)}
    )
    admin.close()


def replace(installed: Installed) -> Path | None:
    """What `tideline rebuild` does, in this process; a new store is open after it."""
    installed.store.close()
    views = few_views(make_source(installed.topic))
    try:
        return replace_store(installed.home, installed.resolve(views), installed.bootstrap, 2)
    finally:
        installed.store = LmdbStore.open(installed.home.path, map_size=1 << 30)
        forget_tables(installed)


def test_a_master_that_was_moved_away_comes_back_from_kafka_or_the_lost_range_is_named(installed: Installed) -> None:
    installed.apply_few()
    installed.send(make_events(60, 1))
    installed.batch()
    installed.send(make_events(20, 2, 60))
    shutil.rmtree(installed.home.master / "events")
    forget_tables(installed)
    assert replace(installed) is not None
    assert installed.batch(full=True)["rows"] == 80
    assert installed.wrong() == []
    assert (installed.home.path / "store.damaged").is_dir()
    shutil.rmtree(installed.home.master / "events")
    delete_records(installed, 7)
    forget_tables(installed)
    before = installed.look()
    with pytest.raises(OutsideError) as caught:
        replace(installed)
    assert caught.value.condition == "HISTORY_LOST"
    assert (caught.value.params["begin"], caught.value.params["end"]) == (0, 7)
    assert installed.look() == before, "all is as it was"


def test_a_damaged_store_is_named_and_built_again_by_one_command(
    installed: Installed, tmp_path: Path, topic_name: str
) -> None:
    """The master holds the first events, Kafka has deleted them; the last ones are in Kafka alone."""
    home, catalog = installed.home, tmp_path / "catalog.py"
    catalog.write_text(CATALOG.format(topic=topic_name))
    installed.apply_few()
    installed.send(make_events(100, 1))
    installed.batch()
    delete_records(installed, 10)
    installed.send(make_events(50, 2, 100))
    with installed.speed():
        installed.wait_committed()
    installed.store.close()
    file = home.store / "data.mdb"
    os.truncate(file, file.stat().st_size // 3)
    options = ("--home", home.path, "--bootstrap-server", installed.bootstrap)
    asked = tideline("query", "totals", "--home", home.path, timeout=400)
    assert asked.code == 3
    assert "tideline rebuild" in asked.err
    assert "Traceback" not in asked.err
    with home.lock("speed"):
        refused = tideline("rebuild", "--catalog", catalog, *options, timeout=400)
        assert (refused.code, "speed" in refused.line) == (3, True)
    done = tideline("rebuild", "--catalog", catalog, *options, timeout=400)
    assert done.code == 0, done.err
    assert "store.damaged" in done.out
    installed.store = LmdbStore.open(home.path, map_size=1 << 30)
    wait_for(lambda: installed.ledger.version.cut == installed.log_end, "all of the log is published", 1)
    assert sorted(installed.ledger.live) == ["kinds"]
    report = verify(home, bootstrap=installed.bootstrap)
    assert report.ok, report.to_text()
    assert installed.ledger.log()[topic_name][0].events + installed.ledger.log()[topic_name][1].events == 150
