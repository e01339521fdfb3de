"""Counting: rows, rows by category, and the most frequent categories. All exact, all mergeable in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tideline.errors import DefinitionError
from tideline.measures.base import Entries, Measure, Part, needs_expression
from tideline.types import BIGINT, STRING, ColumnType, parse_type


@dataclass(frozen=True)
class Count(Measure):
    """The number of rows, or of non-null values of an expression. State: int."""

    kind = "count"

    def accepts(self, input_type: ColumnType) -> bool:
        return True

    def condition(self) -> str:
        """SQL that holds for the rows that count."""
        if self.expression:
            return f"({self.value()}) is not null"
        return f"({self.where})" if self.where else "true"

    def parts(self) -> Sequence[Part]:
        return (Part("n", "count", ColumnType("boolean"), f"nullif({self.condition()}, false)"),)

    def states(self, parts: Sequence[Sequence[Any]]) -> list[int]:
        return list(parts[0])

    def zero(self) -> int:
        return 0

    def merge(self, left: int, right: int) -> int:
        return left + right

    def merge_all(self, states: Sequence[int]) -> int:
        return sum(states)

    def present(self, state: int) -> int:
        return state

    def present_many(self, states: Sequence[int]) -> Sequence[int]:
        return states

    @property
    def answer_type(self) -> ColumnType:
        return BIGINT


def add_counts(left: Mapping[Any, int], right: Mapping[Any, int]) -> dict[Any, int]:
    """Counts by category of both; the smaller side is walked."""
    if len(left) < len(right):
        left, right = right, left
    total = dict(left)
    for category, count in right.items():
        total[category] = total.get(category, 0) + count
    return total


@dataclass(frozen=True)
class CountBy(Measure):
    """The number of rows by category, as a mapping from the category's text; null categories are not counted.

    State: {category: count}, so its size follows the number of categories of a key and bucket.
    """

    kind = "count_by"
    takes = "a category"

    def __post_init__(self) -> None:
        needs_expression(self)

    def entries(self) -> Entries:
        return Entries(STRING, self.value(STRING))

    def zero(self) -> dict[str, int]:
        return {}

    def merge(self, left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
        return add_counts(left, right)

    def present(self, state: Mapping[str, int]) -> dict[str, int]:
        return dict(sorted(state.items()))


@dataclass(frozen=True)
class TopK(Measure):
    """The `k` categories with the largest count, or the largest sum of an integer `weight`; ties in text order.

    Exact: the state keeps every category, {category: count}. Choose it for thousands of categories a key and bucket.
    """

    k: int = 10
    weight: str | None = None

    kind = "top_k"
    takes = "a category"

    def __post_init__(self) -> None:
        needs_expression(self)
        if self.k < 1:
            raise DefinitionError("BAD_OPTION", measure=self.kind, option="k", value=self.k, expected="1 or more")

    def row_expressions(self) -> dict[str, str]:
        return super().row_expressions() | ({"weight": self.weight} if self.weight else {})

    def check_weight(self, kind: ColumnType) -> None:
        """Raises DefinitionError unless a weight of this type can be summed without overflow."""
        if not kind.is_integer or kind == parse_type("bigint"):
            raise DefinitionError(
                "TYPE_MISMATCH",
                measure=self.kind,
                expression=self.weight,
                type=kind.sql,
                expected="a weight of type int or smaller, such as cast(x as int)",
            )

    def entries(self) -> Entries:
        weight = f"cast(coalesce(({self.weight}), 0) as bigint)" if self.weight else "1L"
        if self.weight and self.where:
            weight = f"if(({self.where}), {weight}, 0L)"
        return Entries(STRING, self.value(STRING), weight)

    def zero(self) -> dict[str, int]:
        return {}

    def merge(self, left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
        return add_counts(left, right)

    def present(self, state: Mapping[str, int]) -> list[list[Any]]:
        ranked = sorted(state.items(), key=lambda item: (-item[1], item[0]))
        return [[category, count] for category, count in ranked[: self.k]]
