"""The smallest and largest value, and the first and last in event time. All exact, all independent of order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tideline.measures.base import Measure, Part, needs_expression
from tideline.types import ColumnType, from_wire, to_wire, to_wire_many


@dataclass(frozen=True)
class _Extreme(Measure):
    """State: the wire value, or None for no rows. NaN is the largest of all numbers, as in Spark."""

    takes = "a value with an order"

    def __post_init__(self) -> None:
        needs_expression(self)

    def parts(self) -> Sequence[Part]:
        kind, sql = self.wire()
        return (Part("value", self.kind, kind, sql),)

    def states(self, parts: Sequence[Sequence[Any]]) -> list[Any]:
        return list(to_wire_many(self.resolved, parts[0]))

    def zero(self) -> Any:
        return None

    def present(self, state: Any) -> Any:
        return from_wire(self.resolved, state)

    @property
    def answer_type(self) -> ColumnType:
        return self.resolved


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


@dataclass(frozen=True)
class Min(_Extreme):
    """The smallest non-null value; null where there is none."""

    kind = "min"

    def merge(self, left: Any, right: Any) -> Any:
        if left is None or _is_nan(left):
            return left if right is None else right
        if right is None or _is_nan(right):
            return left
        return right if right < left else left


@dataclass(frozen=True)
class Max(_Extreme):
    """The largest non-null value; null where there is none."""

    kind = "max"

    def merge(self, left: Any, right: Any) -> Any:
        if left is None or _is_nan(right):
            return left if right is None else right
        if right is None or _is_nan(left):
            return left
        return right if right > left else left


@dataclass(frozen=True)
class _Edge(Measure):
    """State: [event time in microseconds, partition, offset, wire value], or None for no rows."""

    def __post_init__(self) -> None:
        needs_expression(self)

    def parts(self) -> Sequence[Part]:
        kind, sql = self.wire()
        return (Part("edge", self.kind, kind, sql),)

    def states(self, parts: Sequence[Sequence[Any]]) -> list[list[Any] | None]:
        kind = self.resolved
        wired = kind.is_decimal or kind.is_floating
        return [
            edge
            and [
                edge["at"],
                edge["partition"],
                edge["offset"],
                to_wire(kind, edge["value"]) if wired else edge["value"],
            ]
            for edge in parts[0]
        ]

    def zero(self) -> None:
        return None

    def present(self, state: Sequence[Any] | None) -> Any:
        return None if state is None else from_wire(self.resolved, state[3])

    @property
    def answer_type(self) -> ColumnType:
        return self.resolved


@dataclass(frozen=True)
class First(_Edge):
    """The non-null value of the earliest event time; ties go to the lower partition, then the lower offset."""

    kind = "first"

    def merge(self, left: Any, right: Any) -> Any:
        if left is None or right is None:
            return right if left is None else left
        return right if tuple(right[:3]) < tuple(left[:3]) else left


@dataclass(frozen=True)
class Last(_Edge):
    """The non-null value of the latest event time; ties go to the higher partition, then the higher offset."""

    kind = "last"

    def merge(self, left: Any, right: Any) -> Any:
        if left is None or right is None:
            return right if left is None else left
        return right if tuple(right[:3]) > tuple(left[:3]) else left
