"""Leaving of a Delta table its last version alone: no older file, log entry or checkpoint."""

from __future__ import annotations

from pathlib import Path

from pyarrow import ArrowException
from pyarrow.parquet import read_metadata

from tideline import delta_files, delta_log
from tideline.points import reach


def purge(table: Path) -> int:
    """Removes what the table's last version does not need; how many files. Nobody else may be writing to it.

    The last commit that holds a range stays, since it says where the archive ends (invariant 4). Cut off anywhere, the
    table reads as before, and the next purge completes it.
    """
    head = next((commit.version for commit in delta_log.commits(table) if "end" in commit.metadata), None)
    if head is None:
        return 0
    _checkpoint(table)
    reach("erase.checkpoint")
    log = table / "_delta_log"
    old = [file for file in sorted(log.iterdir()) if (version := _version(file)) is not None and version < head]
    needed = {path for path, _ in delta_files.live(table).paths()}
    old += [file for file in table.rglob("*") if file.is_file() and log not in file.parents and file not in needed]
    for file in old:
        file.unlink()
    return len(old)


def _checkpoint(table: Path) -> None:
    """A checkpoint of the last version, from which readers go on once older log entries are gone; on disk."""
    commit, log = delta_log.newest(table), table / "_delta_log"
    file = log / f"{commit.version:020d}.checkpoint.parquet"
    if not _is_whole(file):
        for half in (file, log / "_last_checkpoint"):
            half.unlink(missing_ok=True)
        delta_files.checkpoint(table, commit)
    delta_log.sync(table, commit)


def _is_whole(file: Path) -> bool:
    """Whether a Parquet file is there that can be read."""
    try:
        return bool(read_metadata(file).num_rows)
    except (OSError, ArrowException):
        return False


def _version(file: Path) -> int | None:
    """The version in the name of a log's file; Hadoop's checksums have a dot before it."""
    name = file.name.lstrip(".")[:20]
    return int(name) if file.is_file() and name.isdigit() else None
