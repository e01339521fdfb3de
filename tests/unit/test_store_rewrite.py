"""Writing the store anew: the same rows in a file that holds nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tideline import points
from tideline.errors import StoreError
from tideline.stores import lmdb_rewrite
from tideline.stores.lmdb import LmdbStore
from tideline.stores.lmdb_rewrite import rewrite, unused

SECRET = b"9f86d081884c7d659a2feaa0c55ad015"
KEPT = [(b"k%05d" % number, b"v" * (number % 3000)) for number in range(2000)]
HOLD = """
import sys
from tideline.stores.lmdb import LmdbStore
with LmdbStore.open(sys.argv[1], readonly=True):
    print("open", flush=True)
    sys.stdin.read()
"""


def make(home: Path) -> bytes:
    """A store with rows, in whose free pages others still lie; the ledger's bytes."""
    with LmdbStore.open(home, create=True, map_size=1 << 28) as store:
        for chance in (b"", b"x" * 2500):
            with store.write() as txn:
                txn.create("gone")
                txn.put_many("gone", [(b"%05d" % n, SECRET + chance) for n in range(500)])
        with store.write() as txn:
            txn.create("kept")
            txn.put_many("kept", KEPT)
            txn.drop("gone")
    data = (home / "store" / "data.mdb").read_bytes()
    assert SECRET in data
    return data


def rows(home: Path) -> list[tuple[bytes, bytes]]:
    with LmdbStore.open(home, map_size=1 << 28) as store, store.snapshot() as snapshot:
        assert snapshot.spaces() == ["kept"]
        return list(snapshot.scan("kept"))


def test_a_store_that_is_written_anew_holds_its_rows_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path)
    before, after = rewrite(tmp_path)
    assert after < before
    assert SECRET not in (tmp_path / "store" / "data.mdb").read_bytes()
    assert rows(tmp_path) == KEPT
    with LmdbStore.open(tmp_path, map_size=1 << 28) as store, store.write() as txn:
        txn.create("new")
        txn.put("new", b"a", b"b")
    with LmdbStore.open(tmp_path, map_size=1 << 28) as store, store.snapshot() as snapshot:
        assert snapshot.spaces() == ["kept", "new"]


def test_cut_off_before_the_new_file_takes_its_place_the_store_is_the_old_one(tmp_path: Path) -> None:
    data = make(tmp_path)

    def end(point: str) -> None:
        raise KeyboardInterrupt(point)

    hook = points.set_hook(end)
    try:
        with pytest.raises(KeyboardInterrupt, match=r"erase\.store"):
            rewrite(tmp_path)
    finally:
        points.set_hook(hook)
    assert (tmp_path / "store" / "data.mdb").read_bytes() == data
    assert rows(tmp_path) == KEPT
    rewrite(tmp_path)
    assert rows(tmp_path) == KEPT
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["data.mdb", "lock.mdb", "users.lock"]


def test_a_process_that_reads_the_store_is_named_and_the_store_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(tmp_path)
    monkeypatch.setattr(lmdb_rewrite, "_PATIENCE", 0.2)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        with pytest.raises(StoreError) as refused:
            rewrite(tmp_path)
        assert refused.value.condition == "STORE_IN_USE"
        assert refused.value.params["pid"] == str(reader.pid)
        assert (tmp_path / "store" / "data.mdb").read_bytes() == data
        reader.communicate(b"")
    rewrite(tmp_path)
    assert rows(tmp_path) == KEPT


def test_whoever_opens_the_store_meanwhile_gets_the_new_one(tmp_path: Path) -> None:
    make(tmp_path)
    found: list[list[tuple[bytes, bytes]]] = []
    opener = threading.Thread(target=lambda: found.append(rows(tmp_path)))
    with unused(tmp_path):
        opener.start()
        assert _waits(tmp_path / "store" / "users.lock")
        assert found == []
    opener.join(30)
    assert found == [KEPT]


def _waits(lock: Path) -> bool:
    """Whether somebody comes to wait for a lock on a file."""
    deadline, inode = time.monotonic() + 30, f":{lock.stat().st_ino} "
    while time.monotonic() < deadline:
        if any("->" in line and inode in line for line in Path("/proc/locks").read_text("utf-8").splitlines()):
            return True
        threading.Event().wait(0.02)
    return False
