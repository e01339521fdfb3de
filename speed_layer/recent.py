"""The ids of recent events, by source: which are in memory, from where in the log, and when they go."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from tideline.cut import Cut
from tideline.ledger import Ledger
from tideline.plans import plan_sources
from tideline.source import SourceDefinition


class Index(Protocol):
    """Recent ids, and those of the events in hand."""

    def committed(self) -> None:
        """The events in hand are committed: they count from now on."""
        ...


I = TypeVar("I", bound=Index)  # noqa: E741
Load = Callable[[SourceDefinition, Cut, Cut, Ledger], I]
"""Makes the index of a source's events in [begin, end)."""


class RecentSources(Generic[I]):
    """The indexes of the sources that are being folded. A source that is no longer folded loses its own."""

    def __init__(self, load: Load[I]) -> None:
        self._load = load
        self._indexes: dict[SourceDefinition, I] = {}

    def start(self, ledger: Ledger) -> None:
        """Forgets everything, and fills the indexes of the open generation's sources."""
        self._indexes.clear()
        for plan in plan_sources(ledger, ledger.open.definitions):
            self.find(plan.source, ledger)

    def find(self, source: SourceDefinition, ledger: Ledger) -> I | None:
        """The index of a source, filled up to the committed cut where it is new; None where it needs none."""
        if not source.event_id or not source.horizon:
            return None
        if source not in self._indexes:
            cut = ledger.committed.restrict([source.topic])
            begin = cut.behind(source.topic, source.horizon).advance(ledger.origin.restrict([source.topic]))
            self._indexes[source] = self._load(source, begin, cut, ledger)
        return self._indexes[source]

    def keep(self, sources: Collection[SourceDefinition]) -> None:
        """Forgets the other sources: what is committed without them would be missing from their ids."""
        self._indexes = {source: index for source, index in self._indexes.items() if source in sources}

    def committed(self) -> None:
        """The events in hand are in the store."""
        for index in self._indexes.values():
            index.committed()
