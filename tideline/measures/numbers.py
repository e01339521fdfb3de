"""Sums and moments of numbers.

Integers and decimals are summed exactly, as whole numbers of any size: an answer never rounds. Sums of doubles depend
on the order of addition in their last digits, so they are bounded: within 1e-9 of the sum of absolute values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tideline.measures.base import EXACT, Measure, Part, needs_expression
from tideline.types import BIGINT, DOUBLE, ColumnType, from_wire, from_wire_many, to_wire_many

_SUM_BOUND = {
    "exact": False,
    "kind": "relative to the sum of absolute values",
    "bound": 1e-9,
    "text": "within 1e-9 of the sum of absolute values",
}
_MAX_SUM_PRECISION = 28


@dataclass(frozen=True)
class Total(Measure):
    """State: [n, total], the count of non-null values and their sum (int for integers and unscaled decimals)."""

    takes = f"a number (a decimal of at most {_MAX_SUM_PRECISION} digits)"

    def __post_init__(self) -> None:
        needs_expression(self)

    def accepts(self, input_type: ColumnType) -> bool:
        return input_type.is_numeric and input_type.precision <= _MAX_SUM_PRECISION

    @property
    def sum_type(self) -> ColumnType:
        """The type in which values are added up."""
        kind = self.resolved
        if kind.is_floating:
            return DOUBLE
        if kind.is_decimal:
            return kind
        # A bigint sum of 32-bit values cannot overflow below 2**32 rows; of 64-bit values it can at once.
        return ColumnType("decimal", 20, 0) if kind == BIGINT else BIGINT

    def parts(self) -> Sequence[Part]:
        kind = self.sum_type
        value = self.value(kind) + (" + 0D" if kind.is_floating else "")
        return (
            Part("n", "count", ColumnType("boolean"), f"if({self.value()} is not null, true, null)"),
            Part("total", "sum", kind, value),
        )

    def states(self, parts: Sequence[Sequence[Any]]) -> list[Any]:
        counts, kind = parts[0], self.sum_type
        totals: Iterable[Any] = to_wire_many(kind, parts[1])
        if not all(counts):
            totals = [total if count else 0 for count, total in zip(counts, totals, strict=True)]
        totals = map(float if kind.is_floating else int, totals)
        return [[count, total] for count, total in zip(counts, totals, strict=True)]

    def zero(self) -> list[Any]:
        return [0, 0.0 if self.resolved.is_floating else 0]

    def merge(self, left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
        return [left[0] + right[0], left[1] + right[1]]

    def merge_all(self, states: Sequence[Sequence[Any]]) -> list[Any]:
        return [sum(count for count, _ in states), sum(total for _, total in states)]

    @property
    def bound(self) -> Mapping[str, Any]:
        return _SUM_BOUND if self.resolved.is_floating else EXACT


@dataclass(frozen=True)
class Sum(Total):
    """The sum of the non-null values; null where there are none."""

    kind = "sum"

    def present(self, state: Sequence[Any]) -> Any:
        count, total = state
        return from_wire(self.resolved, total) if count else None

    def present_many(self, states: Sequence[Sequence[Any]]) -> Sequence[Any]:
        totals = from_wire_many(self.resolved, [total for _, total in states])
        return [total if state[0] else None for state, total in zip(states, totals, strict=True)]

    @property
    def answer_type(self) -> ColumnType:
        kind = self.resolved
        return DOUBLE if kind.is_floating else ColumnType("decimal", 38, kind.scale) if kind.is_decimal else BIGINT


@dataclass(frozen=True)
class Mean(Total):
    """The mean of the non-null values as a double: of integers and decimals the correctly rounded one."""

    kind = "mean"

    def present(self, state: Sequence[Any]) -> float | None:
        count, total = state
        if not count:
            return None
        if isinstance(total, float):
            return float(total / count)
        return float(Fraction(total, count * 10**self.resolved.scale))

    @property
    def answer_type(self) -> ColumnType:
        return DOUBLE


def merge_moments(left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
    """Count, mean and sum of squared deviations of both sets, by Chan, Golub and LeVeque (1983)."""
    n_left, mean_left, m2_left = left
    n_right, mean_right, m2_right = right
    if not n_right:
        return [n_left, mean_left, m2_left]
    if not n_left:
        return [n_right, mean_right, m2_right]
    count = n_left + n_right
    delta = mean_right - mean_left
    mean = (n_left * mean_left + n_right * mean_right) / count
    return [count, mean, m2_left + m2_right + delta * delta * n_left * n_right / count]


@dataclass(frozen=True)
class Variance(Measure):
    """The sample variance of the non-null values, or with `population=True` that of the whole population.

    State: [n, mean, M2]. Stable: nothing is subtracted but neighbouring means.
    """

    population: bool = False

    kind = "variance"
    takes = "a number"

    def __post_init__(self) -> None:
        needs_expression(self)

    def accepts(self, input_type: ColumnType) -> bool:
        return input_type.is_numeric

    def parts(self) -> Sequence[Part]:
        return (Part("moments", "moments", DOUBLE, self.value(DOUBLE)),)

    def states(self, parts: Sequence[Sequence[Any]]) -> list[Any]:
        return [
            [int(found["n"]), float(found["mean"]), float(found["m2"])] if found and found["n"] else self.zero()
            for found in parts[0]
        ]

    def zero(self) -> list[Any]:
        return [0, 0.0, 0.0]

    def merge(self, left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
        return merge_moments(left, right)

    def present(self, state: Sequence[Any]) -> float | None:
        count, _, m2 = state
        divisor = count if self.population else count - 1
        return m2 / divisor if divisor > 0 else None

    @property
    def answer_type(self) -> ColumnType:
        return DOUBLE

    @property
    def bound(self) -> Mapping[str, Any]:
        return {
            "exact": False,
            "kind": "relative to the mean of squares",
            "bound": 1e-9,
            "text": "variance within 1e-9 of the mean of squares",
        }


@dataclass(frozen=True)
class StdDev(Variance):
    """The square root of `Variance`."""

    kind = "stddev"

    def present(self, state: Sequence[Any]) -> float | None:
        variance = super().present(state)
        return None if variance is None else math.sqrt(variance)
