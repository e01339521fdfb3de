"""Installations for queries: events committed and published in part, on each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_case import Installation, installed

from serving_layer.reader import Reader
from tideline.ledger import Ledger
from tideline.stores import Store
from tideline.stores.lmdb import LmdbStore
from tideline.stores.memory import MemoryStore


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(Ledger.create("test"))
        return
    with LmdbStore.open(tmp_path, create=True) as opened:
        yield opened


@pytest.fixture
def installation(store: Store) -> Installation:
    return installed(store)


@pytest.fixture
def reader(installation: Installation, tmp_path: Path) -> Reader:
    return Reader(tmp_path, store=installation.store)
