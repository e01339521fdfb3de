"""Homes with a bad file: every command says so in one line, is not killed, and leaves all as it found it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from bad_files import HOMES, BadHome
from serving_case import installed

from tideline.delta_log import commits
from tideline.errors import OutsideError
from tideline.stores.lmdb import LmdbStore


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "home"
    with LmdbStore.open(folder, create=True, map_size=1 << 30) as store:
        installed(store, 200)
    return folder


def files(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in [home, *home.rglob("*")] if path.is_file()}


@pytest.mark.parametrize("bad", HOMES, ids=lambda bad: bad.kind)
def test_a_bad_home_is_named_and_left_as_it_is(good: Path, tmp_path: Path, bad: BadHome) -> None:
    home = tmp_path / "home"
    shutil.copytree(good, home, ignore=shutil.ignore_patterns("lock.mdb"))
    bad.spoil(home)
    before = files(home)
    words = [sys.executable, "-m", "tideline.cli.main", "query", "totals", "--home", str(home), "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # a process of its own: it may be killed
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["error"]["condition"] == bad.gets
    assert str(home) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    after = files(home)
    assert {name: after[name] for name in before} == before


def test_a_whole_store_may_be_shorter_than_what_was_ever_taken(good: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(good, home)
    file = home / "store" / "data.mdb"
    with lmdb.open(str(file.parent), map_size=1 << 30, max_dbs=5000) as raw:
        database = raw.open_db(b"slot0511")
        with raw.begin(write=True) as txn:  # pages that one transaction takes and gives back are never written
            for number in range(50):
                txn.put(b"%d" % number, b"x" * 200_000, db=database)
            for number in range(50):
                txn.delete(b"%d" % number, db=database)
        assert file.stat().st_size < (raw.info()["last_pgno"] + 1) * raw.stat()["psize"]
    with LmdbStore.open(home, readonly=True) as store, store.snapshot() as snapshot:
        assert snapshot.ledger.version.id == 2


@pytest.mark.parametrize("entry", ["{", "5", '{"add": 5}', '{"commitInfo": {"userMetadata": "{"}}', "\xff"])
def test_a_delta_log_entry_that_is_none_is_named(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "_delta_log" / f"{0:020}.json"
    path.parent.mkdir()
    path.write_text(entry, "latin-1")
    with pytest.raises(OutsideError) as caught:
        list(commits(tmp_path))
    assert (caught.value.condition, caught.value.params) == ("DELTA_LOG_DAMAGED", {"path": str(path)})


def test_a_delta_log_entry_ends_at_a_line_feed_only(tmp_path: Path) -> None:
    path = tmp_path / "_delta_log" / f"{0:020}.json"
    path.parent.mkdir()
    add = {"add": {"path": "a.parquet", "stats": "a key of \u2028, \x85 and \x1c"}}
    path.write_text(json.dumps(add, ensure_ascii=False) + "\n", "utf-8", newline="\n")
    assert [commit.files for commit in commits(tmp_path)] == [(tmp_path / "a.parquet",)]
