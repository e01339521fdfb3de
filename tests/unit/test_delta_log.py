"""A Delta table's own log: what is on disk once a commit was synced, and what a damaged entry says."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake

from tideline import delta_log
from tideline.errors import OutsideError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of two commits, each of several files in folders."""
    path = tmp_path / "table"
    for number in range(2):
        rows = pa.table({"segment": [number, number + 1, 7], "n": [1, 2, 3]})
        write_deltalake(str(path), rows, partition_by=["segment"], mode="append")
    return path


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was given to fsync, in order."""
    found: list[Path] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        found.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    monkeypatch.setattr(os, "fsync", record)
    return found


def test_a_commit_is_synced_with_its_files_its_entry_and_every_folder_that_names_them(
    table: Path, synced: list[Path]
) -> None:
    commit = delta_log.newest(table)
    assert (commit.version, len(commit.files)) == (1, 3)
    delta_log.sync(table, commit)
    entry = table / "_delta_log" / f"{1:020d}.json"
    assert {*commit.files, entry} <= set(synced)
    assert {table, table.parent, entry.parent, *(file.parent for file in commit.files)} <= set(synced)
    folders = [place for place in synced if place.is_dir()]
    assert synced.index(entry) < min(map(synced.index, folders)), "a name is worth nothing before its content"
    assert max(map(synced.index, commit.files)) < synced.index(entry), "an entry is worth nothing before its files"


def test_a_range_that_was_changed_is_damage(tmp_path: Path) -> None:
    """A digit of an offset would leave out records, or take them in twice."""
    said = delta_log.metadata_text({"begin": {"t": {"0": 10}}, "end": {"t": {"0": 240}}})
    properties = CommitProperties(custom_metadata={"userMetadata": said})
    write_deltalake(str(tmp_path / "t"), pa.table({"n": [1]}), commit_properties=properties)
    assert delta_log.newest(tmp_path / "t").metadata == {"begin": {"t": {"0": 10}}, "end": {"t": {"0": 240}}}
    (entry,) = (tmp_path / "t" / "_delta_log").glob("*.json")
    whole = entry.read_bytes()
    assert whole.count(b"240") == 1
    entry.write_bytes(whole.replace(b"240", b"640"))
    with pytest.raises(OutsideError) as caught:
        delta_log.newest(tmp_path / "t")
    assert caught.value.condition == "DELTA_LOG_DAMAGED"


def test_an_entry_that_is_damaged_or_gone_is_named(table: Path) -> None:
    entry = table / "_delta_log" / f"{1:020d}.json"
    for damage in (
        b"\xff\xfe",
        b'{"add": {"path"',
        b'{"commitInfo": {"userMetadata": "{"}}',
        b'["add"]',
        b'{"add": 3}',
    ):
        entry.write_bytes(damage)
        with pytest.raises(OutsideError) as caught:
            delta_log.newest(table)
        assert caught.value.condition == "DELTA_LOG_DAMAGED"
        assert str(entry) in caught.value.message
        assert caught.value.hint
    entry.unlink()
    (entry.parent / f"{0:020d}.json").unlink()
    with pytest.raises(OutsideError) as caught:
        delta_log.newest(table)
    assert caught.value.condition == "DELTA_TABLE_MISSING"
