"""Power cuts, as what was not synced is gone: store, master and segments, each put back to an earlier moment."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from cases import make_events
from installed import Installed

from batch_layer import loading
from tideline import delta_log, points
from tideline.cut import Cut
from tideline.oracle import verify
from tideline.spark.faults import TableFault
from tideline.stores.lmdb import LmdbStore

PARTS = ("store", "master", "batch")


class Moments:
    """Copies of an installation's parts at moments, to put back each by itself."""

    def __init__(self, installed: Installed, folder: Path) -> None:
        self.installed = installed
        self.folder = folder
        self.sent = 0

    def send(self, count: int = 20) -> None:
        self.installed.send(make_events(count, self.sent, self.sent))
        self.sent += count

    def keep(self, moment: str) -> None:
        """Remembers how things are now."""
        self.installed.store.sync()
        for part in PARTS:
            shutil.copytree(self.installed.home.path / part, self.folder / moment / part)

    def put_back(self, **moments: str) -> None:
        """`master="first"`: what is named so is as it was then; the processes are new."""
        home = self.installed.home.path
        self.installed.store.close()
        for part, moment in moments.items():
            shutil.rmtree(home / part)
            shutil.copytree(self.folder / moment / part, home / part)
        self.restart()

    def restart(self) -> None:
        """As after the end of every process."""
        self.installed.store = LmdbStore.open(self.installed.home.path, map_size=1 << 30)
        self.installed.new_batch_layer()
        self.installed.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()

    def check(self) -> None:
        """The next run takes in all there is, and every answer is right."""
        self.send()
        self.installed.batch()
        ledger = self.installed.ledger
        assert ledger.committed == ledger.archived == ledger.version.cut == self.installed.log_end
        assert self.installed.wrong() == []


@pytest.fixture
def moments(installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Moments:
    """Before any run, after the first, and after the second with events beyond it that only the speed layer has.

    Every run from here on merges segments.
    """
    monkeypatch.setattr(loading, "MANY_SEGMENTS", 1)
    installed.apply_few()
    found = Moments(installed, tmp_path / "moments")
    found.keep("empty")
    found.send()
    installed.batch()
    found.keep("first")
    found.send()
    installed.batch()
    with installed.speed():
        found.send()
        installed.wait_committed()
    found.keep("last")
    return found


def newest_entry(master: Path) -> Path:
    return max((master / "_delta_log").glob("*.json"))


def test_store_and_tables_put_back_to_different_moments_come_to_the_right_answers(moments: Moments) -> None:
    """Each is the truth of its own part; what one lacks is read again, from the master or from Kafka."""
    installed = moments.installed
    for back in ({"store": "first"}, {"master": "first"}, {"store": "first", "master": "empty"}):
        moments.put_back(**{**dict.fromkeys(PARTS, "last"), **back})
        if "store" not in back:
            assert installed.wrong() == [], "answers stand on the store"
        moments.check()
    moments.check()
    report = verify(installed.home, bootstrap=installed.bootstrap)
    assert report.ok, report.to_text()

    moments.put_back(store="last", master="last", batch="first")
    assert installed.wrong() == [], "answers stand on the store"
    moments.send()
    with pytest.raises(TableFault) as caught:
        installed.batch()
    assert caught.value.condition == "SEGMENTS_DAMAGED"
    assert "--full" in caught.value.hint
    assert installed.wrong() == []
    assert installed.batch(full=True)["mode"] == "full"
    moments.check()


def lose_newest(master: Path) -> None:
    """As where neither the entry nor its files had reached the disk."""
    for file in delta_log.newest(master).files:
        file.unlink()
    newest_entry(master).unlink()


def empty_newest(master: Path) -> None:
    """As where names had reached the disk, and no content."""
    for file in delta_log.newest(master).files:
        file.write_bytes(b"")
    newest_entry(master).write_bytes(b"")


def test_a_master_whose_last_commit_was_not_synced_is_archived_again(moments: Moments) -> None:
    for lose in (lose_newest, empty_newest):
        lose(moments.installed.home.master / "events")
        moments.installed.store.close()
        moments.restart()
        moments.check()
    moments.installed.batch(redecode=True)  # by Spark's own transaction
    lose_newest(moments.installed.home.master / "events")
    moments.installed.store.close()
    moments.restart()
    moments.check()
    assert moments.installed.batch(full=True)["rows"] == moments.sent
    lose_newest(moments.installed.home.master / "events")
    moments.installed.store.close()
    moments.restart()
    assert moments.installed.batch()["version"], "though no event is new"
    newest = delta_log.newest(moments.installed.home.master / "events")
    assert Cut.from_json(newest.metadata["end"]) == moments.installed.log_end
    entries = [
        json.loads(line) for line in newest_entry(moments.installed.home.master / "events").read_text().splitlines()
    ]
    assert any("add" in entry for entry in entries)


def test_what_the_ledger_relies_on_was_synced_before(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of the master before its cut is stored, every file of a segment before it is published."""
    installed.apply_few()
    synced, looked = set(), []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    def look(point: str) -> None:
        tables = {"archive.written": [installed.home.master], "publish": [installed.home.master, installed.home.batch]}
        for table in (table for folder in tables.get(point, []) for table in folder.iterdir()):
            for commit in delta_log.commits(table):
                entry = table / "_delta_log" / f"{commit.version:020d}.json"
                assert {*commit.files, entry, table, entry.parent, *(f.parent for f in commit.files)} <= synced
                looked.append((point, len(commit.files)))

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(points, "_hook", look)
    for number in range(2):
        installed.send(make_events(20, number, 20 * number))
        installed.batch()
    assert {point for point, files in looked if files} == {"archive.written", "publish"}
    assert installed.wrong() == []
