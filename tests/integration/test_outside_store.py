"""The store under both layers: a reader that holds on to what it saw, and a map that is too small."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cases import few_views, make_events, make_source
from command import tideline
from installed import Installed
from pyspark.sql import SparkSession

from tideline import Count, View
from tideline.definition import ViewDefinition
from tideline.errors import StoreError
from tideline.merge import scan_rows
from tideline.stores.base import Snapshot


def held_rows(held: Snapshot) -> dict[str, list[Any]]:
    """Every row of every live view, as a snapshot sees it."""
    ledger = held.ledger
    return {
        name: list(scan_rows(held, ViewDefinition.from_json(ledger.definition(fingerprint))))
        for name, fingerprint in ledger.live.items()
    }


def test_a_reader_that_holds_its_snapshot_is_named_and_its_answers_stay(installed: Installed) -> None:
    """While both layers go on past it: what it sees has long been expired for everybody else."""
    installed.apply_few()
    installed.send(make_events(40, 1))
    installed.batch()
    with installed.store.snapshot() as held:
        seen = held_rows(held)
        for number in range(3):
            with installed.speed():
                installed.send(make_events(30, 2 + number, 40 + 30 * number))
                installed.wait_committed()
            installed.batch(full=True)
            assert installed.wrong() == []
            assert held_rows(held) == seen
        usage = installed.store.usage()
        assert (usage["pid"], usage["behind"] > 10) == (os.getpid(), True)
        told = tideline("status", "--home", installed.home.path)
        assert f"process {os.getpid()}" in next(line for line in told.out.splitlines() if line.startswith("store"))
    assert installed.store.usage()["pid"] is None
    assert installed.wrong() == []


def test_a_store_that_outgrows_its_map_loses_nothing_and_goes_on_with_a_larger_one(
    spark: SparkSession, kafka: str, topic_name: str, tmp_path: Path
) -> None:
    installed = Installed(spark, kafka, tmp_path / "home", topic_name, map_size=1 << 19)
    source = make_source(topic_name)
    installed.apply(*few_views(source), View("ids", source=source, key="id", measures={"lines": Count()}))
    installed.send(make_events(500, 1))
    installed.batch()
    before = installed.look()
    installed.send(make_events(30_000, 2, 500))
    for attempt in (installed.run_speed_to_its_error, installed.batch):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert caught.value.condition == "STORE_MAP_FULL"
        assert installed.look() == before
    installed.store.close()
    installed.reopen()
    with installed.speed():
        installed.wait_committed()
    installed.batch()
    assert installed.wrong("countries", "totals") == []
    assert len(installed.answers("ids")) == 30_500
    installed.close()
