"""Stores: transactions, snapshots, spaces that follow the ledger; for LMDB also files, formats and faults."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest

import tideline.stores.lmdb as module
from tideline.cut import Cut
from tideline.errors import MissingSegmentError, ProtocolError, StoreError
from tideline.ledger import Ledger, Segment
from tideline.stores import collect_garbage
from tideline.stores.lmdb import LmdbStore
from tideline.stores.memory import MemoryStore

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 30.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def disk(home: Path) -> Iterator[LmdbStore]:
    with LmdbStore.open(home, create=True, map_size=1 << 30) as store:
        yield store


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest) -> Any:
    return MemoryStore(Ledger.create("test")) if request.param == "memory" else request.getfixturevalue("disk")


def in_force(store: Any, *fingerprints: str) -> None:
    """Applies these views, all over topic t, and seals."""
    with store.write() as txn:
        definitions = {f: {"name": f, "source": "t", "fingerprint": f} for f in fingerprints}
        ledger = txn.ledger.apply(
            {"t": {"name": "t", "topic": "t"}},
            definitions,
            {f: f for f in fingerprints},
            {"t": "id"},
            Cut({"t": {}}),
        )
        ledger, token = ledger.take_fence("batch")
        ledger = ledger.seal(token)
        txn.put_ledger(ledger)


def load(store: Any, space: str, *keys: bytes) -> None:
    with store.write() as txn:
        txn.load(space, [(key, b"value of " + key) for key in keys])


def with_segment(ledger: Ledger, id: int, rows: int) -> Ledger:
    segment = Segment(id, "v", Cut(), Cut(), rows, "full")
    return replace(ledger, segments={**ledger.segments, id: segment}, next_segment=max(ledger.next_segment, id + 1))


def put_ledger(store: Any, change: Callable[[Ledger], Ledger]) -> None:
    with store.write() as txn:
        txn.put_ledger(change(txn.ledger))


def test_a_space_is_sorted_and_scanned_half_open(store: Any) -> None:
    with store.write() as txn:
        txn.create("g1/v")
        for key in (b"b", b"d", b"a", b"c"):
            txn.put("g1/v", key, key.upper())
        txn.put_many("g1/v", [(b"c", b"new"), (b"e", b"E")])
    with store.snapshot() as snapshot:
        assert [key for key, _ in snapshot.scan("g1/v")] == [b"a", b"b", b"c", b"d", b"e"]
        assert list(snapshot.scan("g1/v", b"b", b"d")) == [(b"b", b"B"), (b"c", b"new")]
        assert [key for key, _ in snapshot.scan("g1/v", b"cc")] == [b"d", b"e"]
        assert list(snapshot.scan("g1/v", b"x")) == []
        assert snapshot.get("g1/v", b"a") == b"A"
        assert snapshot.get("g1/v", b"zz") is None
        assert snapshot.get_many("g1/v", [b"a", b"q", b"e"]) == {b"a": b"A", b"e": b"E"}
        assert snapshot.count("g1/v") == 5
        assert snapshot.spaces() == ["g1/v"]


def test_a_space_that_is_not_there_is_an_error(store: Any) -> None:
    reads: list[Callable[[Any], Any]] = [
        lambda snapshot: snapshot.get("s9", b"k"),
        lambda snapshot: snapshot.scan("s9"),
        lambda snapshot: snapshot.count("s9"),
        lambda snapshot: snapshot.get_many("s9", []),
    ]
    with store.snapshot() as snapshot:
        for read in reads:
            with pytest.raises(MissingSegmentError) as missing:
                read(snapshot)
            assert missing.value.params == {"space": "s9"}
    with pytest.raises(MissingSegmentError), store.write() as txn:
        txn.put("s9", b"k", b"v")


def test_an_exception_leaves_nothing_behind(store: Any) -> None:
    load(store, "s1", b"a")
    with pytest.raises(RuntimeError), store.write() as txn:
        txn.put("s1", b"a", b"changed")
        txn.create("s2")
        txn.drop("s1")
        txn.put_ledger(replace(txn.ledger, next_segment=9))
        raise RuntimeError
    with store.snapshot() as snapshot:
        assert snapshot.spaces() == ["s1"]
        assert snapshot.get("s1", b"a") == b"value of a"
        assert snapshot.ledger.next_segment == 1


def test_a_snapshot_does_not_move(store: Any) -> None:
    load(store, "s1", b"a")
    with store.snapshot() as snapshot:
        put_ledger(store, lambda ledger: replace(ledger, next_segment=9))
        load(store, "s1", b"b")
        with store.write() as txn:
            txn.drop("s1")
        assert [key for key, _ in snapshot.scan("s1")] == [b"a"]
        assert snapshot.ledger.next_segment == 1
    with store.snapshot() as snapshot:
        assert snapshot.spaces() == []
        assert snapshot.ledger.next_segment == 9


def test_a_transaction_reads_its_own_changes(store: Any) -> None:
    with store.write() as txn:
        txn.create("g1/v")
        txn.put("g1/v", b"a", b"1")
        assert txn.get("g1/v", b"a") == b"1"
        txn.put_ledger(replace(txn.ledger, next_segment=9))
        assert txn.ledger.next_segment == 9


def test_a_segment_is_loaded_in_order_and_in_chunks(store: Any) -> None:
    load(store, "s1", b"a", b"b")
    load(store, "s1", b"c")
    for keys in ([b"c"], [b"b"], [b"e", b"d"]):
        with pytest.raises(ProtocolError) as refused:
            load(store, "s1", *keys)
        assert refused.value.condition == "LOAD_NOT_SORTED"
    with store.snapshot() as snapshot:
        assert [key for key, _ in snapshot.scan("s1")] == [b"a", b"b", b"c"]


def test_a_segment_that_the_ledger_names_is_never_loaded_again(store: Any) -> None:
    load(store, "s1", b"a")
    put_ledger(store, lambda ledger: with_segment(ledger, 1, 1))
    with pytest.raises(ProtocolError) as refused:
        load(store, "s1", b"b")
    assert refused.value.condition == "SEGMENT_ID"


def test_spaces_follow_the_ledger(store: Any) -> None:
    in_force(store, "v", "w")
    load(store, "s1", b"a")
    put_ledger(store, lambda ledger: with_segment(ledger, 1, 1))
    with store.snapshot() as snapshot:
        assert snapshot.spaces() == ["g2/v", "g2/w", "s1"]
    in_force(store, "v", "x")
    with store.snapshot() as snapshot:
        assert snapshot.spaces() == ["g3/v", "g3/w", "g3/x", "s1"]
    put_ledger(store, lambda ledger: replace(ledger, segments={}))
    with store.snapshot() as snapshot:
        assert snapshot.spaces() == ["g3/v", "g3/w", "g3/x"]


def test_a_segment_that_is_not_whole_is_refused(store: Any) -> None:
    load(store, "s1", b"a", b"b")
    with pytest.raises(MissingSegmentError) as missing:
        put_ledger(store, lambda ledger: with_segment(ledger, 1, 3))
    assert missing.value.params == {"segment": 1, "expected": 3, "found": 2}
    with pytest.raises(MissingSegmentError) as missing:
        put_ledger(store, lambda ledger: with_segment(ledger, 2, 0))
    assert missing.value.params == {"space": "s2"}


def test_garbage_is_what_neither_the_ledger_nor_a_load_names(store: Any) -> None:
    in_force(store, "v")
    for space in ("s1", "s2", "s3"):
        load(store, space, b"a")
    put_ledger(store, lambda ledger: with_segment(ledger, 1, 1))
    with store.write() as txn:
        assert collect_garbage(txn, staged=["s3"]) == ["s2"]
        assert txn.spaces() == ["g2/v", "s1", "s3"]


def test_a_dropped_space_comes_back_empty(store: Any) -> None:
    load(store, "s1", b"a")
    with store.write() as txn:
        txn.drop("s1")
        txn.drop("s1")
        txn.create("s2")
        assert list(txn.scan("s2")) == []
    with store.snapshot() as snapshot:
        assert list(snapshot.scan("s2")) == []


def test_a_store_that_is_not_there_is_an_error_and_not_an_empty_one(home: Path) -> None:
    with pytest.raises(StoreError) as missing:
        LmdbStore.open(home)
    assert (missing.value.condition, missing.value.params) == ("STORE_MISSING", {"path": str(home)})
    assert not home.exists()


def test_create_makes_an_installation_once(home: Path) -> None:
    with LmdbStore.open(home, create=True) as store, store.snapshot() as snapshot:
        first = snapshot.ledger
        assert first == Ledger.create(first.installation)
    with LmdbStore.open(home, create=True) as store, store.snapshot() as snapshot:
        assert snapshot.ledger == first


def edit(home: Path, key: bytes, value: bytes) -> None:
    with lmdb.open(str(home / "store"), max_dbs=8) as env:
        database = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(key, value, db=database)


def test_a_newer_format_is_refused(home: Path) -> None:
    LmdbStore.open(home, create=True).close()
    edit(home, b"format", b"3")
    for options in ({}, {"create": True}, {"readonly": True}):
        with pytest.raises(StoreError) as refused:
            LmdbStore.open(home, **options)
        assert refused.value.condition == "STORE_FORMAT"
        assert refused.value.params == {"path": str(home), "found": 3, "known": 2}


def test_a_store_whose_creation_was_cut_off_is_refused_and_can_be_created(home: Path) -> None:
    (home / "store").mkdir(parents=True)
    lmdb.open(str(home / "store")).close()
    with pytest.raises(StoreError) as refused:
        LmdbStore.open(home)
    assert refused.value.condition == "STORE_INCOMPLETE"
    LmdbStore.open(home, create=True).close()


def test_another_lmdb_file_is_refused(home: Path) -> None:
    (home / "store").mkdir(parents=True)
    with lmdb.open(str(home / "store")) as env, env.begin(write=True) as txn:
        txn.put(b"something", b"else")
    for create in (False, True):
        with pytest.raises(StoreError) as refused:
            LmdbStore.open(home, create=create)
        assert refused.value.condition == "STORE_INCOMPLETE"


def test_a_file_that_is_no_store_is_refused(home: Path) -> None:
    (home / "store").mkdir(parents=True)
    (home / "store" / "data.mdb").write_bytes(b"not a store" * 1000)
    with pytest.raises(StoreError) as refused:
        LmdbStore.open(home)
    assert refused.value.condition == "STORE_DAMAGED"


def test_one_process_opens_a_store_once(home: Path, tmp_path: Path) -> None:
    first = LmdbStore.open(home, create=True)
    (tmp_path / "alias").symlink_to(home)
    second = LmdbStore.open(tmp_path / "alias", readonly=True)
    assert first is second
    first.close()
    with second.snapshot() as snapshot:
        assert snapshot.spaces() == []
    second.close()
    with pytest.raises(StoreError) as refused, second.snapshot():
        pass
    assert refused.value.condition == "STORE_CLOSED"


def test_a_store_that_was_opened_for_reading_takes_no_writes(home: Path) -> None:
    LmdbStore.open(home, create=True).close()
    with LmdbStore.open(home, readonly=True) as store:
        with pytest.raises(StoreError) as refused, store.write():
            pass
        assert refused.value.condition == "STORE_READ_ONLY"
        with pytest.raises(StoreError) as refused:
            LmdbStore.open(home)
        assert refused.value.condition == "STORE_READ_ONLY"


def test_a_full_store_says_so_and_stays_as_it_was(home: Path) -> None:
    with LmdbStore.open(home, create=True, map_size=1 << 20) as store:
        load(store, "s1", b"a")
        with pytest.raises(StoreError) as refused:
            load(store, "s2", *(b"%06d" % number for number in range(100_000)))
        assert refused.value.condition == "STORE_MAP_FULL"
        assert "MAP_FULL" in refused.value.params["reason"]
        with store.snapshot() as snapshot:
            assert snapshot.spaces() == ["s1"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_may_not_use_its_parents_store(disk: LmdbStore) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            with disk.snapshot():
                os._exit(1)
        except StoreError as refused:
            os._exit(0 if refused.condition == "STORE_FORKED" else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_slots_are_given_again_and_grow_when_they_run_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_SLOTS", 8)
    monkeypatch.setattr(module, "SPARE_SLOTS", 4)
    with LmdbStore.open(home, create=True, map_size=1 << 30) as store:
        for number in range(40):
            load(store, f"s{number}", b"%d" % number)
            if number >= 3:
                with store.write() as txn:
                    txn.drop(f"s{number - 3}")
        assert len(store._slots) == 8
        for number in range(100, 130):
            load(store, f"s{number}", b"%d" % number)
        assert len(store._slots) == 64
        with store.snapshot() as snapshot:
            for space in snapshot.spaces():
                assert list(snapshot.scan(space)) == [(space[1:].encode(), b"value of " + space[1:].encode())]
    monkeypatch.setattr(module, "MAX_SLOTS", 64)
    with LmdbStore.open(home) as store, pytest.raises(StoreError) as refused, store.write() as txn:
        for number in range(200, 300):
            txn.create(f"s{number}")
    assert refused.value.condition == "STORE_FULL_OF_SPACES"


def test_threads_read_beside_a_writer(disk: LmdbStore) -> None:
    load(disk, "s1", b"a", b"b")
    wrong: list[Any] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with disk.snapshot() as snapshot:
                values = {value for _, value in snapshot.scan("s1")}
                if len(values) != 1 and values != {b"value of a", b"value of b"}:
                    wrong.append(values)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(200):
        with disk.write() as txn:
            txn.put("s1", b"a", b"%d" % number)
            txn.put("s1", b"b", b"%d" % number)
    done.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert wrong == []


def test_only_a_commit_may_be_lost(disk: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Ledger] = []

    class Env:
        def __init__(self, env: Any) -> None:
            self.env = env

        def __getattr__(self, name: str) -> Any:
            return getattr(self.env, name)

        def sync(self, force: bool) -> None:
            self.env.sync(force)
            with disk.snapshot() as snapshot:
                synced.append(snapshot.ledger)

    monkeypatch.setattr(disk, "_env", Env(disk._env))
    in_force(disk, "v")
    assert len(synced) == 1
    put_ledger(disk, lambda ledger: ledger.take_fence("speed")[0])
    assert len(synced) == 2
    put_ledger(disk, lambda ledger: ledger.commit(1, Cut(), Cut({"t": {0: 5}}), ["v"], {}))
    assert len(synced) == 2
    put_ledger(disk, lambda ledger: ledger.seal(1))
    assert len(synced) == 3
    assert synced[-1].sealed == Cut({"t": {0: 5}})
