"""The LMDB store between processes: readers that follow writers, writers in turn, kills in mid-commit."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import tideline.stores.lmdb as module
from tideline.errors import MissingSegmentError
from tideline.stores.lmdb import LmdbStore

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 30.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def disk(home: Path) -> Iterator[LmdbStore]:
    with LmdbStore.open(home, create=True, map_size=1 << 30) as store:
        yield store


def load(store: LmdbStore, space: str, *keys: bytes) -> None:
    with store.write() as txn:
        txn.load(space, [(key, b"value of " + key) for key in keys])


def serve(home: str, readonly: bool, pipe: Connection) -> None:
    """A reader that answers what it sees of each space it is asked for, until it is asked for nothing."""
    with LmdbStore.open(home, readonly=readonly) as store:
        pipe.send("open")
        while space := pipe.recv():
            try:
                with store.snapshot() as snapshot:
                    pipe.send((snapshot.ledger.next_segment, [key for key, _ in snapshot.scan(space)]))
            except MissingSegmentError as missing:
                pipe.send(missing.condition)


def fill_spaces(home: str, first: int, count: int) -> None:
    """A writer that loads `count` spaces, each with its own name as the only key."""
    with LmdbStore.open(home) as store:
        for number in range(first, first + count):
            load(store, f"s{number}", b"s%d" % number)


def hold_half_a_transaction(home: str, pipe: Connection) -> None:
    """A writer that waits to be killed with changes in its transaction."""
    with LmdbStore.open(home) as store, store.write() as txn:
        txn.put("s1", b"a", b"half")
        txn.load("s2", [(b"%06d" % number, b"x" * 100) for number in range(50_000)])
        txn.put_ledger(replace(txn.ledger, next_segment=99))
        pipe.send("ready")
        pipe.recv()


def hold_a_snapshot(home: str, pipe: Connection) -> None:
    """A reader that answers from one snapshot for as long as it is asked."""
    with LmdbStore.open(home, readonly=True) as store, store.snapshot() as snapshot:
        pipe.send("ready")
        while pipe.recv():
            pipe.send([key for key, _ in snapshot.scan("s1")])


def started(target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    mine, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(*arguments, theirs))
    process.start()
    assert mine.poll(PATIENCE)
    mine.recv()
    return process, mine


def ask(pipe: Connection, question: Any) -> Any:
    pipe.send(question)
    assert pipe.poll(PATIENCE)
    return pipe.recv()


@pytest.mark.parametrize("readonly", [False, True])
def test_a_reader_follows_spaces_that_another_process_makes_and_drops(
    home: Path, monkeypatch: pytest.MonkeyPatch, readonly: bool
) -> None:
    monkeypatch.setattr(module, "FIRST_SLOTS", 4)
    LmdbStore.open(home, create=True, map_size=1 << 30).close()
    process, pipe = started(serve, str(home), readonly)
    with LmdbStore.open(home, map_size=1 << 30) as store:
        for number in range(30):
            load(store, f"s{number}", b"key of %d" % number)
            assert ask(pipe, f"s{number}") == (1, [b"key of %d" % number])
        with store.write() as txn:
            for number in range(30):
                txn.drop(f"s{number}")
            txn.load("s30", [(b"z", b"")])
            txn.put_ledger(replace(txn.ledger, next_segment=7))
        assert ask(pipe, "s3") == "MISSING_SPACE"
        assert ask(pipe, "s30") == (7, [b"z"])
    pipe.send(None)
    process.join(PATIENCE)
    assert process.exitcode == 0


def test_two_processes_write_in_turn(disk: LmdbStore, home: Path) -> None:
    others = [SPAWN.Process(target=fill_spaces, args=(str(home), first, 40)) for first in (100, 200)]
    for process in others:
        process.start()
    for number in range(40):
        load(disk, f"s{number}", b"s%d" % number)
    for process in others:
        process.join(PATIENCE)
        assert process.exitcode == 0
    with disk.snapshot() as snapshot:
        assert len(snapshot.spaces()) == 120
        assert all([key for key, _ in snapshot.scan(space)] == [space.encode()] for space in snapshot.spaces())


def test_a_writer_that_is_killed_leaves_nothing_and_blocks_nobody(disk: LmdbStore, home: Path) -> None:
    load(disk, "s1", b"a")
    process, _ = started(hold_half_a_transaction, str(home))
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE)
    with disk.snapshot() as snapshot:
        assert snapshot.spaces() == ["s1"]
        assert snapshot.get("s1", b"a") == b"value of a"
    load(disk, "s2", b"b")
    with disk.snapshot() as snapshot:
        assert snapshot.ledger.next_segment == 1
        assert snapshot.spaces() == ["s1", "s2"]


def test_a_snapshot_of_another_process_stays_as_it_was(disk: LmdbStore, home: Path) -> None:
    load(disk, "s1", b"a", b"b")
    process, pipe = started(hold_a_snapshot, str(home))
    for number in range(20):
        with disk.write() as txn:
            txn.drop("s1")
            txn.load("s1", [(b"new %d" % number, b"x" * 5000)])
        assert ask(pipe, True) == [b"a", b"b"]
    pipe.send(None)
    process.join(PATIENCE)


def test_a_reader_that_is_killed_gives_its_place_back(disk: LmdbStore, home: Path) -> None:
    process, _ = started(hold_a_snapshot, str(home))
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE)
    before = disk._env.info()["num_readers"]
    for _ in range(module.READER_CHECK_EVERY + 1):
        with disk.write():
            pass
    assert f"{process.pid}" not in disk._env.readers()
    assert before >= 1


def hand_off(store: LmdbStore, number: int) -> None:
    """A space of 100 kB comes, the one before goes."""
    with store.write() as txn:
        txn.load(f"s{number + 1}", [(b"%d" % key, b"x" * 1000) for key in range(10, 100)])
        txn.drop(f"s{number}")


def test_a_snapshot_that_is_held_for_long_stays_right_is_reported_and_costs_no_more_once_its_reader_is_gone(
    disk: LmdbStore, home: Path
) -> None:
    load(disk, "s1", b"a", b"b")
    process, pipe = started(hold_a_snapshot, str(home))
    sizes = [disk.usage()["bytes"]]
    for number in range(1, 101):
        hand_off(disk, number)
        if number % 20 == 0:
            assert ask(pipe, True) == [b"a", b"b"]
            sizes.append(disk.usage()["bytes"])
    usage = disk.usage()
    assert (usage["pid"], usage["behind"] >= 100) == (process.pid, True)
    assert sizes == sorted(sizes)
    assert 100 * 90_000 < sizes[-1] - sizes[0] < 100 * 200_000, "what was written meanwhile is kept, and little else"
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE)
    found = 101 + module.READER_CHECK_EVERY
    for number in range(101, found):
        hand_off(disk, number)
    after = disk.usage()
    assert (after["pid"], after["behind"]) == (None, 0)
    for number in range(found, found + 100):
        hand_off(disk, number)
    assert disk.usage()["bytes"] <= after["bytes"] + 1_000_000, "its pages are used again"


def test_a_copy_of_the_files_is_a_store(disk: LmdbStore, home: Path, tmp_path: Path) -> None:
    load(disk, "s1", b"a")
    disk.sync()
    shutil.copytree(home, tmp_path / "copy")
    with LmdbStore.open(tmp_path / "copy") as store, store.snapshot() as snapshot:
        assert snapshot.get("s1", b"a") == b"value of a"


def test_reading_starts_no_spark(disk: LmdbStore, home: Path) -> None:
    program = (
        "import sys; from tideline.stores.lmdb import LmdbStore; import tideline.merge\n"
        f"with LmdbStore.open({str(home)!r}, readonly=True) as s, s.snapshot() as x: x.ledger\n"
        "sys.exit(any(name.split('.')[0] in ('pyspark', 'py4j', 'kafka') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=PATIENCE, check=False).returncode == 0
