"""Comparing what serving says with what the oracle computed, measure by measure, each within its stated
bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from tideline.measures import (
    ApproxDistinct,
    Count,
    CountBy,
    First,
    Last,
    Max,
    Mean,
    Measure,
    Min,
    Quantiles,
    StdDev,
    Sum,
    TopK,
    Variance,
)
from tideline.types import to_wire

_SUM = 1e-9  # of the sum of absolute values
_VARIANCE = 1e-9  # of the mean of squares
_QUANTILE = 0.01  # of the value
_SLACK = 1e-9  # of a bound on one value: its own arithmetic is in doubles too
_SMALL = 0.001  # of a count of distinct values that a sketch still holds one by one

Verdict = tuple[bool, Any]
"""Whether the answer is right, and what was expected."""


def near(found: Any, expected: float, tolerance: float) -> bool:
    """Whether a double is within a tolerance; infinities and NaN equal only themselves."""
    if not isinstance(found, float) or math.isnan(found) or math.isnan(expected):
        return isinstance(found, float) and math.isnan(found) and math.isnan(expected)
    return found == expected or abs(found - expected) <= tolerance


def _same(_: Any, expected: Any, found: Any) -> Verdict:
    return type(found) is type(expected) and found == expected, expected


def _total(measure: Any, made: Mapping[str, Any], found: Any) -> Verdict:
    count, total = made["n"], made["total"]
    if count <= 0:
        return found is None, None
    if not measure.resolved.is_floating:
        expected = float(Fraction(total) / count) if isinstance(measure, Mean) else total
        return found == expected, expected
    share = count if isinstance(measure, Mean) else 1
    return near(found, total / share, _SUM * made["size"] / share), total / share


def _moments(measure: Any, made: Mapping[str, Any], found: Any) -> Verdict:
    divisor = made["n"] if measure.population else made["n"] - 1
    if divisor <= 0:
        return found is None, None
    if made["strange"]:
        return isinstance(found, float) and math.isnan(found), math.nan
    scale = made["n"] / divisor
    variance, bound = made["variance"] * scale, _VARIANCE * made["square"] * scale
    if isinstance(measure, StdDev):
        return isinstance(found, float) and near(found * found, variance, bound), math.sqrt(variance)
    return near(found, variance, bound), variance


def _value(measure: Any, expected: Any, found: Any) -> Verdict:
    """Values of any type, in the form that is compared."""
    kind = measure.resolved
    wire = to_wire(kind, expected) if kind.is_decimal else expected
    same = to_wire(kind, found)
    if isinstance(wire, float):
        return near(same, wire, 0.0), expected
    return type(same) is type(wire) and same == wire, expected


def _quantiles(measure: Any, picks: Sequence[Any] | None, found: Any) -> Verdict:
    if picks is None:  # a value was retracted more often than inserted: which other it took away, the bins decide
        return True, None
    exact = dict(zip(measure.at, picks, strict=True))
    wanted = list(exact.values())
    given = list(found.values()) if isinstance(found, Mapping) else []
    right = len(given) == len(wanted) and all(
        mine is None if theirs is None else near(mine, theirs, abs(theirs) * _QUANTILE * (1 + _SLACK))
        for mine, theirs in zip(given, wanted, strict=True)
    )
    return right, exact


def _counts(_: Any, made: Mapping[str, int], found: Any) -> Verdict:
    expected = {category: int(count) for category, count in sorted(made.items())}
    return isinstance(found, Mapping) and dict(found) == expected, expected


def _top(measure: Any, made: Mapping[str, int], found: Any) -> Verdict:
    ranked = sorted(((-int(count), category) for category, count in made.items()))[: measure.k]
    expected = [[category, -count] for count, category in ranked]
    return [list(pair) for pair in found or []] == expected, expected


def _distinct(measure: Any, expected: int, found: Any) -> Verdict:
    """One key's estimate: nearly exact while the sketch is small, then never six standard errors off."""
    if measure.bound["exact"]:
        return _same(measure, expected, found)
    allowed = 1 + (_SMALL if expected <= small(measure) else 6 * sigma(measure)) * expected
    return isinstance(found, int) and abs(found - expected) <= allowed, expected


_CHECKS: Mapping[type[Measure], Callable[[Any, Any, Any], Verdict]] = {
    Count: _same,
    Sum: _total,
    Mean: _total,
    Min: _value,
    Max: _value,
    First: _value,
    Last: _value,
    Variance: _moments,
    StdDev: _moments,
    Quantiles: _quantiles,
    CountBy: _counts,
    TopK: _top,
    ApproxDistinct: _distinct,
}


def can_check(measure: Measure) -> bool:
    """Whether there is a rule for measures of this kind."""
    return measure.plain in _CHECKS


def check(measure: Measure, expected: Any, found: Any) -> Verdict:
    """Whether serving's answer is right, given what the oracle computed for it."""
    return _CHECKS[measure.plain](measure, expected, found)


def sigma(measure: ApproxDistinct) -> float:
    """The stated relative standard error of a sketch."""
    return 1.04 / math.sqrt(1 << measure.lg_k)


def small(measure: ApproxDistinct) -> int:
    """Up to how many distinct values a sketch of this size keeps each of them."""
    return 1 << (measure.lg_k - 4) if measure.lg_k >= 8 else 7


def check_sketches(measure: ApproxDistinct, pairs: Sequence[tuple[int, int]], union: int) -> Verdict:
    """All keys together: the root mean square of the relative errors against the stated standard error.

    `pairs` are (expected, found). Errors of keys that share their values are not independent, so the number
    of independent ones is taken to be that of the largest key's sets that fit into the `union` of all. The
    limit is four standard deviations of that many.
    """
    large = [(expected, found) for expected, found in pairs if expected > small(measure)]
    if not large:
        return True, 0.0
    mean_square = math.sqrt(sum(((found - expected) / expected) ** 2 for expected, found in large) / len(large))
    independent = max(1.0, min(len(large), union / max(expected for expected, _ in large)))
    limit = sigma(measure) * (1 + 4 / math.sqrt(2 * independent))
    return mean_square <= limit, f"root mean square error of at most {limit:.4f}, not {mean_square:.4f}"
