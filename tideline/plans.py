"""Which sources a set of definitions is over, and how each was declared when its views were defined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tideline.definition import ViewDefinition
from tideline.ledger import Ledger, LogStats
from tideline.source import SourceDefinition

Row = tuple[tuple[Any, ...], "int | None", Sequence[Any]]
"""A view's key, bucket and states."""


@dataclass(frozen=True)
class Folded:
    """What a fold left: states by view fingerprint, the log's counts by partition, rejected events by fingerprint."""

    rows: Mapping[str, list[Row]]
    log: Mapping[int, LogStats]
    rejects: Mapping[str, int]


@dataclass(frozen=True)
class SourcePlan:
    """Views to fold over one declaration of a source; `current` where the ledger's own counts follow it.

    A source whose schema changes is declared twice until its views have been rebuilt: then the old views are folded as
    they were defined.
    """

    source: SourceDefinition
    views: tuple[ViewDefinition, ...]
    current: bool


def plan_sources(ledger: Ledger, fingerprints: Iterable[str]) -> list[SourcePlan]:
    """Plans for every source of the ledger, the current declarations first, and every view in `fingerprints`."""
    current = [SourceDefinition.from_json(source) for source in ledger.sources.values()]
    views: dict[SourceDefinition, list[ViewDefinition]] = {source: [] for source in current}
    for fingerprint in sorted(fingerprints):
        source = SourceDefinition.from_json(ledger.source_of(fingerprint))
        views.setdefault(source, []).append(ViewDefinition.from_json(ledger.definition(fingerprint)))
    return [SourcePlan(source, tuple(found), source in current) for source, found in views.items()]


class Planner:
    """`plan_sources`, which plans anew only where what it planned by has changed."""

    def __init__(self) -> None:
        self._by: tuple[Any, ...] | None = None
        self._plans: list[SourcePlan] = []

    def plan(self, ledger: Ledger, fingerprints: Iterable[str]) -> list[SourcePlan]:
        """See `plan_sources`."""
        by = ledger.sources, ledger.former_sources, ledger.definitions, tuple(fingerprints)
        if by != self._by:
            self._by, self._plans = by, plan_sources(ledger, by[-1])
        return self._plans


def topics(ledger: Ledger) -> list[str]:
    """The topics of the registered sources, sorted."""
    return sorted({str(source["topic"]) for source in ledger.sources.values()})
