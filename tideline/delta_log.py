"""A Delta table's own log: what a commit says of itself, the files it added, and putting both on disk.

Delta's commits on a local disk are not synced (invariant 12), and its log is the truth of what is archived
(invariant 4).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zlib import crc32

from tideline.disk import sync_path
from tideline.errors import OutsideError


@dataclass(frozen=True)
class Commit:
    """One commit of a table: its version, the metadata that its writer gave, the files that it added."""

    version: int
    metadata: dict[str, Any]
    files: tuple[Path, ...]


def commits(table: Path) -> Iterator[Commit]:
    """A table's commits, newest first, as far back as its log reaches; none where there is no table.

    Raises OutsideError DELTA_LOG_DAMAGED where an entry cannot be read, or is missing between two others.
    """
    folder = table / "_delta_log"
    names = sorted((name for name in (os.listdir(folder) if folder.is_dir() else ()) if _is_commit(name)), reverse=True)
    for newer, name in zip((None, *names), names, strict=False):
        if newer and int(newer[:-5]) != int(name[:-5]) + 1:
            raise _damaged(folder / f"{int(newer[:-5]) - 1:020d}.json", "is missing")
        yield _read(table, folder / name)


def check(table: Path) -> None:
    """Reads every entry since the last checkpoint: Delta may rest on a summary of its own, and write on over damage.

    Raises OutsideError DELTA_LOG_DAMAGED.
    """
    names = os.listdir(table / "_delta_log") if (table / "_delta_log").is_dir() else []
    oldest = max((int(name[:20]) for name in names if ".checkpoint." in name and name[:20].isdigit()), default=-1)
    for commit in commits(table):
        if commit.version <= oldest:
            break


def _is_commit(name: str) -> bool:
    return name.endswith(".json") and name[:-5].isdigit()


def _read(table: Path, path: Path) -> Commit:
    metadata: dict[str, Any] = {}
    files = []
    try:
        for line in path.read_bytes().splitlines():  # of text, it would also split at U+2028 in a statistic
            action = json.loads(line)
            if "add" in action:
                files.append(table / unquote(action["add"]["path"]))
            if "commitInfo" in action:
                metadata = _checked(json.loads(action["commitInfo"].get("userMetadata") or "{}"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    return Commit(int(path.stem), metadata, tuple(files))


def _damaged(entry: Path, how: str) -> OutsideError:
    return OutsideError(
        "DELTA_LOG_DAMAGED",
        f"the Delta log entry {entry} {how}",
        "stop everything on this home, put it back, or move the table away: segments come back with "
        "`tideline batch --full`, a master as far as Kafka holds it with `tideline rebuild --catalog FILE`",
        path=str(entry),
    )


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """A commit's metadata as Delta is to keep it, with a checksum of its own."""
    return json.dumps({**metadata, "check": _check(metadata)})


def _checked(metadata: Any) -> dict[str, Any]:
    """The metadata without its checksum. Raises ValueError where that is another."""
    if not isinstance(metadata, dict):
        return {}
    check = metadata.pop("check", None)
    if check not in (None, _check(metadata)):
        raise ValueError("its metadata is not what was written")
    return metadata


def _check(metadata: Mapping[str, Any]) -> int:
    return crc32(json.dumps(metadata, sort_keys=True).encode())


def newest(table: Path) -> Commit:
    """The last commit. Raises OutsideError where there is none."""
    for commit in commits(table):
        return commit
    raise OutsideError(
        "DELTA_TABLE_MISSING", f"there is no Delta table at {table}", "check the home's disk", path=str(table)
    )


def sync(table: Path, commit: Commit) -> None:
    """Returns when a commit's files and its log entry are on disk, and its checkpoint if it has one."""
    log = table / "_delta_log"
    entries = [file for file in log.iterdir() if file.name.startswith((f"{commit.version:020d}.", "_last_checkpoint"))]
    folders = {log, table, table.parent, *(file.parent for file in commit.files)}
    for path in (*commit.files, *entries, *sorted(folders)):
        sync_path(path)
