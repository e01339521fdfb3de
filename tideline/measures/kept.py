"""Measures that keep their values, over rows that may be retracted: the twins of those that cannot subtract.

No extreme, spread or sketch can be taken back, and a sum of doubles leaves behind what it rounded. So the state is
{value: net count}, and the answer is that of the plain measure over the values whose count is above 0: exact at every
moment, in every layer, for a state that grows with the distinct values of a key and bucket.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tideline.measures.base import EXACT, SIGN, Entries, Measure, Part
from tideline.measures.counts import TopK
from tideline.measures.extremes import First, Last, Max, Min
from tideline.measures.net import NetEntries, State
from tideline.measures.numbers import Mean, StdDev, Sum, Total, Variance, merge_moments
from tideline.measures.sketches import ApproxDistinct
from tideline.types import BIGINT, DOUBLE, STRING, ColumnType, from_wire, parse_text


@dataclass(frozen=True)
class _Kept(NetEntries):
    """State: {value: net count}, the value as a whole number or as text; it grows with the distinct values."""

    def parts(self) -> Sequence[Part]:
        return ()

    def entries(self) -> Entries:
        kind, sql = self.wire()
        return _entries(kind, sql)

    def read(self, entry: Any) -> Any:
        """The wire value of an entry."""
        return _read(self.resolved, entry)

    def values(self, state: State) -> list[tuple[Any, int]]:
        """The values that are there, each with its count, in the order of the entries."""
        return [(self.read(entry), count) for entry, count in sorted(state.items()) if count > 0]

    def canonical(self, state: State) -> Any:
        return state

    @property
    def bound(self) -> Mapping[str, Any]:
        return {**super().bound, "keeps": "values"}


def _entries(kind: ColumnType, sql: str) -> Entries:
    if kind == BIGINT:
        return Entries(BIGINT, sql, SIGN)
    return Entries(STRING, sql if kind == STRING else f"cast(({sql}) as string)", SIGN)


def _read(kind: ColumnType, entry: Any) -> Any:
    return entry if kind == STRING or isinstance(entry, int) else parse_text(kind, entry)


def _choose(kind: ColumnType, choose: Callable[..., Any], values: Iterable[Any]) -> Any:
    """The smallest or the largest as people read it, NaN after every number; None of nothing."""
    rank = (lambda value: (math.isnan(value), value)) if kind.is_floating else None
    return from_wire(kind, choose(values, key=rank, default=None))


@dataclass(frozen=True)
class KeptMin(_Kept, Min, of=Min):
    """The smallest of the values that are there."""

    def present(self, state: State) -> Any:
        return _choose(self.resolved, min, (self.read(entry) for entry, count in state.items() if count > 0))


@dataclass(frozen=True)
class KeptMax(_Kept, Max, of=Max):
    """The largest of the values that are there."""

    def present(self, state: State) -> Any:
        return _choose(self.resolved, max, (self.read(entry) for entry, count in state.items() if count > 0))


@dataclass(frozen=True)
class _KeptEdge(_Kept):
    """Entries are "event time in microseconds, a space, value": a retraction knows no offset, so ties go by value."""

    def entries(self) -> Entries:
        _kind, sql = self.wire()
        return Entries(STRING, f"concat(cast(_at as string), ' ', cast(({sql}) as string))", SIGN)

    def read(self, entry: str) -> Any:
        return int(entry) if self.wire()[0] == BIGINT else _read(self.resolved, entry)

    def edge(self, state: State, choose: Callable[..., Any]) -> Any:
        """The answer that the first or last of the values is."""
        there = [(int(at), text) for at, _, text in (entry.partition(" ") for entry, n in state.items() if n > 0)]
        edge = choose((at for at, _ in there), default=None)
        return _choose(self.resolved, choose, (self.read(text) for at, text in there if at == edge))


@dataclass(frozen=True)
class KeptFirst(_KeptEdge, First, of=First):
    """The value of the earliest event time, the smallest of several."""

    def present(self, state: State) -> Any:
        return self.edge(state, min)


@dataclass(frozen=True)
class KeptLast(_KeptEdge, Last, of=Last):
    """The value of the latest event time, the largest of several."""

    def present(self, state: State) -> Any:
        return self.edge(state, max)


@dataclass(frozen=True)
class _KeptTotal(_Kept, Total):
    @classmethod
    def suits(cls, measure: Measure) -> bool:
        return measure.resolved.is_floating

    def present(self, state: State) -> Any:
        values = self.values(state)
        terms = [value * count for value, count in values]
        total = math.fsum(terms) if all(map(math.isfinite, terms)) else sum(terms)
        return self.plain.present(self, [sum(count for _, count in values), total])


@dataclass(frozen=True)
class KeptSum(_KeptTotal, Sum, of=Sum):
    """The sum of doubles: adding and taking away would leave behind what it rounded."""


@dataclass(frozen=True)
class KeptMean(_KeptTotal, Mean, of=Mean):
    """The mean of doubles."""


@dataclass(frozen=True)
class _KeptMoments(_Kept, Variance):
    def entries(self) -> Entries:
        return _entries(DOUBLE, f"({self.value(DOUBLE)}) + 0D")

    def read(self, entry: str) -> float:
        return float(entry)

    def present(self, state: State) -> Any:
        total = [0, 0.0, 0.0]
        for value, count in self.values(state):
            total = merge_moments(total, [count, value, value - value])  # NaN of an infinity, as in Spark
        return self.plain.present(self, total)


@dataclass(frozen=True)
class KeptVariance(_KeptMoments, of=Variance):
    """The variance of the values that are there."""


@dataclass(frozen=True)
class KeptStdDev(_KeptMoments, StdDev, of=StdDev):
    """The standard deviation of the values that are there."""


@dataclass(frozen=True)
class KeptTopK(_Kept, TopK, of=TopK):
    """The categories with the largest weights. Entries are "weight, a space, category": one that weighs 0 is there."""

    @classmethod
    def suits(cls, measure: Any) -> bool:
        return measure.weight is not None

    def entries(self) -> Entries:
        plain = TopK.entries(self)
        return Entries(STRING, f"concat(cast({plain.weight} as string), ' ', {plain.sql})", SIGN)

    def read(self, entry: str) -> tuple[int, str]:
        weight, _, category = entry.partition(" ")
        return int(weight), category

    def present(self, state: State) -> Any:
        total: dict[str, int] = {}
        for (weight, category), count in self.values(state):
            total[category] = total.get(category, 0) + weight * count
        return self.plain.present(self, total)


@dataclass(frozen=True)
class KeptDistinct(_Kept, ApproxDistinct, of=ApproxDistinct):
    """The exact number of the values that are there."""

    def present(self, state: State) -> Any:
        return sum(count > 0 for count in state.values())

    @property
    def bound(self) -> Mapping[str, Any]:
        return {**EXACT, "keeps": "values"}
