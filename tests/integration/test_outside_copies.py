"""Two of everything, and time that jumps: a home that is copied, layers that meet, clocks that go back and forth."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from cases import make_events
from faults import do_at
from installed import Installed
from pyspark.sql import SparkSession

from serving_layer.reader import Reader
from tideline.errors import FenceError
from tideline.oracle import verify
from tideline.runtime.home import HomeError


class Copied(Installed):
    """An installation over the files of another one."""

    def __init__(self, spark: SparkSession, original: Installed, folder: Path) -> None:
        super().__init__(spark, original.bootstrap, folder, original.topic)
        self.horizon = original.horizon


def copy(installed: Installed, folder: Path) -> Copied:
    """`cp -r` of a home, without what operations.md leaves out."""
    shutil.copytree(installed.home.path, folder, ignore=shutil.ignore_patterns("run", "tmp"))
    return Copied(installed.spark, installed, folder)


def test_a_home_that_was_copied_goes_on_beside_the_original(installed: Installed, tmp_path: Path) -> None:
    """Each reads Kafka for itself, and has its own store, master and cut."""
    installed.apply_few()
    installed.send(make_events(40, 1))
    installed.batch()
    installed.send(make_events(20, 2, 40))
    with installed.speed():
        installed.wait_committed()
    other = copy(installed, tmp_path / "copied")
    try:
        assert other.look() == installed.look()
        with installed.speed(), other.speed():
            installed.send(make_events(40, 3, 60))
            for one in (installed, other):
                one.wait_committed()
                assert one.wrong() == []
            other.batch()
            installed.send(make_events(20, 4, 100))
            installed.batch()
            for one in (installed, other):
                one.wait_committed()
                assert one.wrong() == []
        other.batch()
        for one in (installed, other):
            report = verify(one.home, bootstrap=one.bootstrap)
            assert report.ok, report.to_text()
        assert other.home.master != installed.home.master
    finally:
        other.close()


def test_a_clock_that_jumps_changes_nothing_but_the_ages_that_are_shown(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.apply_few()
    true = time.time
    steps = iter([0, 7200, -86_400, 3600, -3600] * 100_000)
    monkeypatch.setattr(time, "time", lambda: true() + next(steps))
    reader = Reader(installed.home, store=installed.store)
    with installed.speed():
        for number in range(3):
            installed.send(make_events(20, number, 20 * number))
            installed.wait_committed()
            done = installed.batch()
            assert done["seconds"] >= 0
            assert all(step["seconds"] >= 0 for step in done["steps"])
            installed.home.write_status("speed", {"ready": True, "committed_at": time.time()})
            assert reader.view("totals").get().proof["freshness"] >= 0
            assert installed.ledger.last_batch["seconds"] >= 0
            assert installed.wrong() == []
    assert installed.ledger.version.id == 3


def test_of_two_batch_layers_at_once_none_gives_a_wrong_answer(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home's lock refuses the second; where it was got round, its fence does, at whatever step the first one is."""
    installed.apply_few()
    with installed.home.lock("batch"), pytest.raises(HomeError) as refused:
        installed.home.lock("batch")
    assert refused.value.condition == "HOME_IN_USE"
    first = 0
    with installed.speed():
        for point in ("batch.sealed", "archive.write", "segment.write", "publish"):
            installed.send(make_events(20, first, first))
            first += 20
            installed.wait_committed()
            older, done = installed.batch_layer, []
            installed.new_batch_layer()
            newer = installed.batch_layer

            def overtake(newer: object = newer, done: list[object] = done) -> None:
                if not done:
                    done.append(None)
                    done.append(newer.run())  # type: ignore[attr-defined]

            with monkeypatch.context() as patch:
                do_at(patch, point, overtake)
                with pytest.raises(FenceError) as caught:
                    older.run()
            assert caught.value.params["layer"] == "batch"
            assert done[1] is not None, point
            assert installed.ledger.version.cut == installed.ledger.committed
            assert installed.wrong() == [], point
    installed.new_batch_layer()
    installed.batch(full=True)
    assert installed.wrong() == []
