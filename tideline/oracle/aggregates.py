"""What DuckDB computes to check each measure: plain SQL over a table `grouped` of inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Aggregate:
    """`inner` is an aggregate by group, `outer` what is kept of it (`{a}` stands for it).

    `weight` makes the check a mapping from category to the sum of that column, `distinct` asks for the
    number of distinct values over all groups.
    """

    inner: str
    outer: str = "{a}"
    weight: str | None = None
    distinct: bool = False


def _value(index: int) -> str:
    return f"v{index}"


def _double(index: int, measure: Measure) -> str:
    """The value as the nearest double."""
    value = _value(index)
    return f"CAST(CAST({value} AS VARCHAR) AS DOUBLE)" if measure.resolved.is_decimal else f"CAST({value} AS DOUBLE)"


def _if_counted(index: int, measure: Any) -> str:
    """The filter of the rows that a Count counts."""
    conditions = [f"w{index}"] if measure.where else []
    conditions += [f"{_value(index)} IS NOT NULL"] if measure.expression else []
    return f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""


def _count(index: int, measure: Any) -> Aggregate:
    return Aggregate(f"count(*){_if_counted(index, measure)}")


def _total(index: int, measure: Any) -> Aggregate:
    """{n, total, size}: of doubles also the sum of absolute values, by which their sum is bounded."""
    value = _value(index)
    if not measure.resolved.is_floating:
        return Aggregate(f"{{'n': count({value}), 'total': sum({value}), 'size': NULL}}")
    total = f"CASE WHEN isfinite(sum({value})) THEN fsum({value}) ELSE sum({value}) END"
    size = f"sum(abs({value})) FILTER (WHERE isfinite({value}))"
    return Aggregate(f"{{'n': count({value}), 'total': {total}, 'size': coalesce({size}, 0)}}")


def _moments(index: int, measure: Any) -> Aggregate:
    """{n, strange, variance, square}: population variance and mean of squares of the finite values."""
    value = _double(index, measure)
    finite = f"FILTER (WHERE isfinite({value}))"
    return Aggregate(
        f"{{'n': count({_value(index)}), 'strange': count(*) FILTER (WHERE NOT isfinite({value})), "
        f"'variance': var_pop({value}) {finite}, 'square': avg({value} * {value}) {finite}}}"
    )


def _extreme(function: str) -> Callable[[int, Any], Aggregate]:
    return lambda index, _: Aggregate(f"{function}({_value(index)})")


def _edge(function: str) -> Callable[[int, Any], Aggregate]:
    def edge(index: int, _: Any) -> Aggregate:
        value = _value(index)
        place = f"{{'t': _at, 'p': _partition, 'o': _offset, 'v': {value}}}"
        return Aggregate(f"{function}({place}) FILTER (WHERE {value} IS NOT NULL)", "{a}.v")

    return edge


def _quantiles(index: int, measure: Any) -> Aggregate:
    """The exact values of rank ceil(q * n), in the order of `at`."""
    value = _double(index, measure)
    picks = (
        f"list_extract({{a}}, greatest(1, CAST(ceil(CAST({q!r} AS DOUBLE) * len({{a}})) AS BIGINT)))"
        for q in measure.at
    )
    return Aggregate(
        f"list({value} ORDER BY {value}) FILTER (WHERE {_value(index)} IS NOT NULL)", f"[{', '.join(picks)}]"
    )


_AGGREGATES: dict[type[Measure], Callable[[int, Any], Aggregate]] = {
    Count: _count,
    Sum: _total,
    Mean: _total,
    Variance: _moments,
    StdDev: _moments,
    Min: _extreme("min"),
    Max: _extreme("max"),
    First: _edge("min"),
    Last: _edge("max"),
    Quantiles: _quantiles,
    CountBy: lambda index, _: Aggregate("NULL", weight="1"),
    TopK: lambda index, measure: Aggregate("NULL", weight=f"coalesce(g{index}, 0)" if measure.weight else "1"),
    ApproxDistinct: lambda index, _: Aggregate(f"count(DISTINCT {_value(index)})", distinct=True),
}


def aggregate_of(index: int, measure: Measure) -> Aggregate:
    """The recipe for a view's measure number `index`."""
    if measure.plain not in _AGGREGATES:
        return Aggregate("NULL")
    return _AGGREGATES[measure.plain](index, measure)


def category_counts(index: int, by: str, weight: str, table: str = "grouped") -> str:
    """SQL of the counts by group and category."""
    value = _value(index)
    return f"SELECT {by}, {value}, sum({weight}) FROM {table} WHERE {value} IS NOT NULL GROUP BY {by}, {value}"


def net_aggregate_of(index: int, measure: Measure) -> Aggregate | None:
    """The recipe over all rows with their `_sign`, where retractions are subtracted; else None."""
    value = _value(index)
    if isinstance(measure, Count):
        return Aggregate(f"coalesce(sum(_sign){_if_counted(index, measure)}, 0)")
    if isinstance(measure, (Sum, Mean)) and not measure.resolved.is_floating:
        signed = f"CAST({value} AS HUGEINT)" if measure.resolved.is_integer else value
        count = f"coalesce(sum(_sign) FILTER (WHERE {value} IS NOT NULL), 0)"
        return Aggregate(
            f"{{'n': {count}, 'total': sum(CASE WHEN _sign < 0 THEN -{signed} ELSE {signed} END), 'size': NULL}}"
        )
    return None
