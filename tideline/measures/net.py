"""Measures that subtract, over rows that may be retracted: the twins of those whose states are counts or exact sums.

Every row has a sign, 1 where it was inserted and -1 where it was retracted, so that states merge in any order and a
retraction may come before its insertion. `measures.kept` has the twins of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tideline.measures.base import SIGN, Measure, Part
from tideline.measures.counts import Count, CountBy, TopK
from tideline.measures.numbers import Mean, Sum, Total
from tideline.measures.sketches import Quantiles
from tideline.types import BIGINT, to_wire

State = Any


@dataclass(frozen=True)
class NetCount(Count, of=Count):
    """State: rows inserted less rows retracted."""

    def parts(self) -> Sequence[Part]:
        return (Part("n", "sum", BIGINT, f"if({self.condition()}, {SIGN}, null)"),)

    def states(self, parts: Sequence[Sequence[Any]]) -> list[int]:
        return [int(count or 0) for count in parts[0]]


@dataclass(frozen=True)
class _NetTotal(Total):
    """State: [net count, net sum]; of nothing, or less, the answer is null."""

    @classmethod
    def suits(cls, measure: Measure) -> bool:
        return not measure.resolved.is_floating

    def parts(self) -> Sequence[Part]:
        value = self.value(self.sum_type)
        return (
            Part("n", "sum", BIGINT, f"if({self.value()} is not null, {SIGN}, null)"),
            Part("total", "sum", self.sum_type, f"if({SIGN} < 0, -({value}), {value})"),
        )

    def states(self, parts: Sequence[Sequence[Any]]) -> list[Any]:
        counts, totals = parts
        if self.sum_type.is_decimal:
            totals = [to_wire(self.sum_type, total) for total in totals]
        return [[int(count or 0), int(total or 0)] for count, total in zip(counts, totals, strict=True)]

    def present(self, state: Sequence[Any]) -> Any:
        return self.plain.present(self, [max(state[0], 0), state[1]])


@dataclass(frozen=True)
class NetSum(_NetTotal, Sum, of=Sum):
    """The sum of whole numbers or decimals, less those retracted."""


@dataclass(frozen=True)
class NetMean(_NetTotal, Mean, of=Mean):
    """The mean of whole numbers or decimals, without those retracted."""


@dataclass(frozen=True)
class NetEntries(Measure):
    """State: {entry: net count}, none of them 0, so that equal rows leave equal states."""

    def entries(self) -> Any:
        plain: Any = self.plain.entries(self)
        return replace(plain, weight=SIGN)

    def from_entries(self, counts: Mapping[Any, int]) -> State:
        return {entry: count for entry, count in counts.items() if count}

    def zero(self) -> State:
        return {}

    def merge(self, left: State, right: State) -> State:
        if len(left) < len(right):
            left, right = right, left
        total = dict(left)
        for entry, count in right.items():
            net = total.get(entry, 0) + count
            if net:
                total[entry] = net
            else:
                del total[entry]
        return total

    def present(self, state: State) -> Any:
        return self.plain.present(self, {entry: count for entry, count in state.items() if count > 0})


@dataclass(frozen=True)
class NetCountBy(NetEntries, CountBy, of=CountBy):
    """Categories with their net counts."""


@dataclass(frozen=True)
class NetTopK(NetEntries, TopK, of=TopK):
    """The categories with the largest net counts."""

    @classmethod
    def suits(cls, measure: Any) -> bool:
        return measure.weight is None


@dataclass(frozen=True)
class NetQuantiles(NetEntries, Quantiles, of=Quantiles):
    """Quantiles of net counts by logarithmic bin."""
