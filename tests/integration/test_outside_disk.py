"""A disk that fills up under the store, the master, the checkpoint: it is named, nothing is lost, and it goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cases import few_views, make_events, make_source
from installed import Installed
from pyspark.sql import SparkSession

from tideline import Count, View
from tideline.errors import OutsideError
from tideline.oracle import verify
from tideline.stores.lmdb import LmdbStore

DISKS = {"store": 24, "master": 32, "tmp": 16}  # megabytes


class Disk:
    """A file system of its own in memory, that can be filled."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)

    def fill(self) -> None:
        """Takes all that is free."""
        with (self.path / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
            while True:
                filler.write(bytes(4096))

    def free(self) -> None:
        """Gives it back."""
        (self.path / "filler").unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, Disk]]:
    """The home's folders of DISKS on small disks of their own, gone at the end."""
    if os.geteuid() != 0:
        pytest.skip("a small disk is mounted by root alone")
    with ExitStack() as stack:
        found = {}
        for name, megabytes in DISKS.items():
            try:
                found[name] = Disk(tmp_path / "home" / name, megabytes)
            except subprocess.CalledProcessError:
                pytest.skip("no tmpfs can be mounted here")
            stack.callback(found[name].unmount)
        yield found


@pytest.fixture
def crowded(
    disks: dict[str, Disk], spark: SparkSession, kafka: str, topic_name: str, tmp_path: Path
) -> Iterator[Installed]:
    """An installation on these disks, with a view of a key for each event."""
    made = Installed(spark, kafka, tmp_path / "home", topic_name)
    source = make_source(topic_name)
    made.apply(*few_views(source), View("ids", source=source, key="id", measures={"lines": Count()}))
    yield made
    made.store.close()
    if made._producer is not None:
        made._producer.close(timeout=5)


def expect_full(caught: OutsideError, place: Path) -> None:
    """The error of a full disk: by name, with its place and what to do, and the exit code of a fault outside."""
    assert caught.condition in ("STORE_DISK_FULL", "DISK_FULL"), caught
    assert str(place) in caught.message
    assert "free some space" in caught.hint
    assert caught.exit_code == 3


def test_a_full_disk_is_named_loses_nothing_and_is_gone_on_with_once_there_is_room(
    crowded: Installed, disks: dict[str, Disk]
) -> None:
    home = crowded.home
    crowded.send(make_events(500, 1))
    crowded.batch()

    # The store's, under the speed layer: its commit is not there, and what was committed before is.
    before = crowded.ledger
    disks["store"].fill()
    with crowded.speed() as speed:
        crowded.send(make_events(4000, 2, 500))
        error = speed.wait_error()
        assert isinstance(error, OutsideError)
        expect_full(error, home.path)
        speed.error = None
    assert crowded.ledger.version == before.version
    assert crowded.wrong("countries", "totals") == []
    crowded.store.close()
    disks["store"].free()
    crowded.store = LmdbStore.open(home.path, map_size=1 << 30)
    crowded.new_batch_layer()
    with crowded.speed():
        crowded.wait_committed()
    assert crowded.wrong("countries", "totals") == []

    # The store's, under the batch layer; then the master's.
    crowded.send(make_events(4000, 3, 4500))
    for name in ("store", "master"):
        disks[name].fill()
        with pytest.raises(OutsideError) as caught:
            crowded.batch(full=True)
        expect_full(caught.value, home.path if name == "store" else home.master)
        assert crowded.wrong("countries", "totals") == []
        crowded.new_batch_layer()
        disks[name].free()
        crowded.send(make_events(200, 4, 8500 if name == "store" else 8700))
    crowded.batch()
    assert crowded.ledger.version.cut == crowded.log_end

    # The checkpoint's.
    disks["tmp"].fill()
    crowded.send(make_events(100, 5, 8900))
    with crowded.speed() as speed:
        error = speed.wait_error()
        assert isinstance(error, OutsideError)
        expect_full(error, home.tmp)
        speed.error = None
    disks["tmp"].free()
    with crowded.speed():
        crowded.wait_committed()
    shutil.rmtree(home.tmp / "speed-1", ignore_errors=True)
    report = verify(home, bootstrap=crowded.bootstrap)
    assert report.ok, report.to_text()
