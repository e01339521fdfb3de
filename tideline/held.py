"""What a master holds, by its own log: that is the truth of it (invariant 4), and the ledger may be behind or ahead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tideline import delta_log
from tideline.cut import Cut


class Held(NamedTuple):
    """The newest version of a master's table, -1 without one, and the metadata of the last commit that holds a range.

    That is the last one which says where it ends; others, as of `OPTIMIZE`, leave what the table holds as it is.
    """

    version: int
    metadata: Mapping[str, Any]

    def end(self, origin: Cut) -> Cut:
        """Where it ends; at `origin` where it holds nothing."""
        return Cut.from_json(self.metadata["end"]) if self.metadata else origin

    def part(self, topic: str, cut: Cut) -> Cut:
        """As far as it holds what lies before a cut."""
        return cut.restrict([topic]).least(topic, self.end(Cut()))


def find_held(commits: Iterable[tuple[int, Mapping[str, Any]]]) -> Held:
    """Of the version and the metadata of each commit, newest first."""
    newest = -1
    for version, metadata in commits:
        newest = max(newest, version)
        if "end" in metadata:
            return Held(newest, metadata)
    return Held(newest, {})


def read_held(table: Path) -> Held:
    """Of a table on disk. Raises OutsideError DELTA_LOG_DAMAGED."""
    return find_held((commit.version, commit.metadata) for commit in delta_log.commits(table))
