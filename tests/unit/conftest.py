"""Installations for queries: events committed and published in part, on each kind of store; and one that is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import running
from serving_case import Installation, installed

from serving_layer.app import create_app
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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of what is served to a module's tests."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Installation]:
    """An installation in `home`."""
    with LmdbStore.open(home, create=True) as store:
        yield installed(store, 150)


@pytest.fixture(scope="module")
def local(home: Path, served: Installation) -> Iterator[Reader]:
    """Reads it."""
    with Reader(home) as found:
        yield found


@pytest.fixture(scope="module")
def url(local: Reader) -> Iterator[str]:
    """Where a server of it is."""
    app = create_app(local)
    with running(app) as found:
        yield found
        app.state.live.end()
    app.state.sql.close()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    """Asks that server."""
    with httpx.Client(base_url=url) as asks:
        yield asks
