"""What a batch run works with, so that Spark and a simulation can stand behind the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.ledger import Ledger, LogStats, Segment
from tideline.plans import SourcePlan
from tideline.source import SourceDefinition


@dataclass(frozen=True)
class Task:
    """A segment to be built: `id` over [begin, end) of a view's topic.

    Buckets before `floor` (microseconds) are left out; `earlier` are the view's segments before `begin`. Of these only
    the `published` may be merged: where others end, a new definition is compared with the one that it replaces.
    """

    id: int
    view: ViewDefinition
    begin: Cut
    end: Cut
    floor: int | None
    earlier: tuple[Segment, ...]
    published: tuple[Segment, ...]


@dataclass(frozen=True)
class Built:
    """A segment that is in its table and in the store, and those that it takes the place of."""

    segment: Segment
    replaces: tuple[int, ...]


class MasterTable(Protocol):
    """The table of one source's records; each commit carries metadata, and is durable when it returns.

    `append`, `skip` and `rewrite` do nothing where a commit of these three was made meanwhile that was planned after
    the version `metadata["after"]`, or after a later one.
    """

    def commits(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Version and metadata of the commits, newest first; those without `end` hold no range."""
        ...

    def pin(self, version: int) -> None:
        """Folds read this version from here on, whatever else is committed."""
        ...

    def append(self, begin: Cut, end: Cut, metadata: Mapping[str, Any], check: Callable[[], None]) -> int:
        """Adds the records of [begin, end) in one commit; how many. Calls `check` when they are read."""
        ...

    def skip(self, metadata: Mapping[str, Any]) -> None:
        """Commits metadata alone: a range of which there is nothing."""
        ...

    def restore(self, version: int | None, metadata: Mapping[str, Any]) -> None:
        """Takes back every commit after a version, None being the empty table, in one commit with this metadata."""
        ...

    def rewrite(self, metadata: Mapping[str, Any], shift: Mapping[int, int] | None = None) -> int:
        """Decodes every record anew, in one commit that keeps the `end` of the last one; how many.

        With `shift`, what it says is added to the offsets of each partition, and to that `end`.
        """
        ...

    def holds_all(self, begin: Cut, end: Cut) -> bool:
        """Whether each record that Kafka has in [begin, end) is in the table, wherever; at least one is."""
        ...


class FoldedRange(Protocol):
    """The states of a range of the master."""

    @property
    def log(self) -> Mapping[int, LogStats]:
        """What the log held, by partition."""
        ...

    @property
    def rejects(self) -> Mapping[str, int]:
        """How many events a view's expressions failed on, by fingerprint."""
        ...

    def build(self, tasks: Sequence[Task]) -> list[Built]:
        """Writes and loads the segments, one for each view of the plan, in its order."""
        ...


class Engine(Protocol):
    """What reads, computes and writes for a batch run."""

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """The ids by which Kafka knows topics now."""
        ...

    def log_bounds(self, topics: Iterable[str]) -> tuple[Cut, Cut]:
        """Where the log begins and ends now."""
        ...

    def table(self, source: SourceDefinition, origin: Cut) -> MasterTable:
        """The master's table of a source, whose history begins at `origin`."""
        ...

    def fold(self, plan: SourcePlan, begin: Cut, end: Cut) -> AbstractContextManager[FoldedRange]:
        """The records of [begin, end) of the master's pinned version, folded for the plan's views."""
        ...

    def remove_dead(self, ledger: Ledger) -> None:
        """Removes what no version names any more."""
        ...
