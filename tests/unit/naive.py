"""Every measure computed the plain way, row by row in Python: what the clever ways must equal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from datasketches import hll_sketch, hll_union, tgt_hll_type

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
class Row:
    """One event as a measure sees it: a wire value, whether `where` holds, a weight, and its place in the
    log.
    """

    value: Any
    holds: bool | None = True
    weight: int | None = 1
    at: int = 0
    partition: int = 0
    offset: int = 0


def fold(measure: Measure, rows: Sequence[Row]) -> Any:
    """The state of these rows. Rows on which `where` does not hold, or whose value is null, are left out."""
    kept = [row for row in rows if row.holds and (row.value is not None or measure.expression is None)]
    return _FOLDS[type(measure)](measure, kept)


def _order(value: Any) -> tuple[bool, Any]:
    """NaN is the largest number."""
    strange = isinstance(value, float) and math.isnan(value)
    return strange, 0 if strange else value


def _total(measure: Measure, rows: Sequence[Row]) -> Any:
    values = [row.value for row in rows]
    exactly = measure.resolved.is_floating and all(map(math.isfinite, values))
    total = _sum_of_doubles(values) if exactly else sum(values, 0.0 if measure.resolved.is_floating else 0)
    return [len(values), total]


def _sum_of_doubles(values: Sequence[float]) -> float:
    """Rounded once; infinite where it is beyond a double, which `fsum` raises an error for."""
    total = sum(map(Fraction, values), Fraction())
    try:
        return float(total)
    except OverflowError:
        return math.copysign(math.inf, total)


def _moments(measure: Measure, rows: Sequence[Row]) -> Any:
    if any(isinstance(row.value, float) and not math.isfinite(row.value) for row in rows):
        return [len(rows), math.nan, math.nan]
    values = [Fraction(row.value) / 10**measure.resolved.scale for row in rows]
    if not values:
        return [0, 0.0, 0.0]
    mean = sum(values) / len(values)
    return [len(values), float(mean), float(sum((value - mean) ** 2 for value in values))]


def _extreme(choose: Callable[..., Any]) -> Callable[[Measure, Sequence[Row]], Any]:
    return lambda _, rows: choose((row.value for row in rows), key=_order, default=None)


def _edge(choose: Callable[..., Any]) -> Callable[[Measure, Sequence[Row]], Any]:
    def edge(_: Measure, rows: Sequence[Row]) -> Any:
        row = choose(rows, key=lambda row: (row.at, row.partition, row.offset), default=None)
        return None if row is None else [row.at, row.partition, row.offset, row.value]

    return edge


def _weights(measure: Any, rows: Sequence[Row]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for row in rows:
        total[row.value] += (row.weight or 0) if measure.weight else 1
    return dict(total)


def _bins(measure: Measure, rows: Sequence[Row]) -> dict[int, int]:
    return dict(
        Counter(
            _bin(
                float(Fraction(row.value) / 10**measure.resolved.scale)
                if measure.resolved.is_decimal
                else float(row.value)
            )
            for row in rows
        )
    )


def _bin(x: float) -> int:
    if math.isnan(x):
        return 2_000_000
    if x == 0:
        return 0
    size = 1_000_000 if math.isinf(x) else 100_000 + math.ceil(math.log(abs(x)) / math.log(1.01 / 0.99))
    return int(math.copysign(size, x))


def _sketch(measure: Any, rows: Sequence[Row]) -> bytes:
    if not rows:
        return b""
    sketch = hll_sketch(measure.lg_k, tgt_hll_type.HLL_8)
    for row in rows:
        sketch.update(f"v{row.value}")
    union = hll_union(measure.lg_k)
    union.update(sketch)
    return bytes(union.get_result(tgt_hll_type.HLL_8).serialize_compact())


_FOLDS: dict[type[Measure], Callable[[Any, Sequence[Row]], Any]] = {
    Count: lambda _, rows: len(rows),
    Sum: _total,
    Mean: _total,
    Variance: _moments,
    StdDev: _moments,
    Min: _extreme(min),
    Max: _extreme(max),
    First: _edge(min),
    Last: _edge(max),
    CountBy: lambda _, rows: dict(Counter(row.value for row in rows)),
    TopK: _weights,
    Quantiles: _bins,
    ApproxDistinct: _sketch,
}
