"""Homes of this release and of those before: opened and answered from, with no JVM; a newer format is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lmdb
import pytest

sys.path.append(str(Path(__file__).parents[1] / "data"))

from home_case import ANSWERS, answers, unpack

from serving_layer.find import NotReadyError
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.errors import StoreError
from tideline.stores.checksums import seal
from tideline.stores.lmdb import LmdbStore


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return unpack(tmp_path)


def put(home: Path, **values: bytes) -> None:
    """Overwrites what the store says of itself."""
    with lmdb.open(str(home / "store"), max_dbs=1) as store, store.begin(write=True) as txn:
        for name, value in values.items():
            txn.put(name.encode(), value, db=store.open_db(b"meta", txn=txn))


def test_every_view_and_version_of_a_kept_home_answers_as_it_did(home: Path) -> None:
    expected, found = json.loads(ANSWERS.read_text("utf-8")), answers(home)
    for before, now in zip(expected, found, strict=True):
        now["proof"] = {name: now["proof"][name] for name in before["proof"]}  # it may say more than it did
    assert [{name: now[name] for name in before} for before, now in zip(expected, found, strict=True)] == expected
    modes = {(answer["view"], answer["proof"]["mode"]) for answer in expected}
    assert {("everything", "live"), ("everything", "batch"), ("totals", "batch")} <= modes
    assert all(answer["rows"] for answer in expected)


def test_its_quarantine_and_its_older_definitions_are_known(home: Path) -> None:
    with Reader(home) as reader:
        with pytest.raises(NotReadyError, match="UnicodeDecodeError"):
            reader.query(Query("senders"))
        diff = reader.diff("totals@old")
        assert (diff.equal, diff.counts["both"]) == (False, 1)


def test_a_layer_can_write_to_it(home: Path) -> None:
    with LmdbStore.open(home) as store, store.write() as txn:
        ledger, token = txn.ledger.take_fence("batch")
        txn.put_ledger(ledger.seal(token))
        assert txn.ledger.sealed == txn.ledger.committed


def test_a_newer_store_is_refused_by_name(home: Path) -> None:
    put(home, format=b"3")
    with pytest.raises(StoreError) as caught:
        Reader(home)
    assert (caught.value.condition, caught.value.params["found"]) == ("STORE_FORMAT", 3)


def test_a_newer_ledger_is_refused_by_name(home: Path) -> None:
    with LmdbStore.open(home, readonly=True) as store, store.snapshot() as snapshot:
        ledger = {**snapshot.ledger.to_json(), "format": 2}
    put(home, ledger=seal(b"ledger", json.dumps(ledger).encode()))
    with Reader(home) as reader, pytest.raises(StoreError) as caught:
        reader.ledger()
    assert (caught.value.condition, caught.value.params["found"]) == ("LEDGER_FORMAT", 2)
