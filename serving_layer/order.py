"""Order and limits of an answer's rows: by key, time, measure or answer; null comes last either way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from serving_layer.query import bad_value, similar, whole
from tideline.definition import ViewDefinition
from tideline.errors import UsageError
from tideline.measures import CountBy, Measure, Quantiles, quantile_name

TIME_NAMES = ("bucket", "window")
T = TypeVar("T")
Lookup = Callable[[T, str, "str | None"], Any]


@dataclass(frozen=True)
class Order:
    """Sort by a column, or by a `field` of a structured measure."""

    name: str
    field: str | None = None
    descending: bool = False


def plan_order(view: ViewDefinition, columns: Sequence[str], texts: Sequence[str]) -> tuple[Order, ...]:
    """The checked order; `columns` are the rows' key columns and time column. Raises UsageError BAD_ORDER."""
    return tuple(_plan_one(view, columns, text) for text in texts)


def _plan_one(view: ViewDefinition, columns: Sequence[str], text: str) -> Order:
    descending = text.startswith("-")
    name, dot, field = text.removeprefix("-").removeprefix("+").partition(".")
    column = _column(columns, name)
    if column is not None and not dot:
        return Order(column, None, descending)
    known = [*columns, *view.shown, *view.answers]
    if name not in view.shown and name not in view.answers:
        raise UsageError(
            "BAD_ORDER",
            f"the rows have no column {name} to order by",
            f"order by one of {', '.join(known)}, with - before it for descending",
            view=view.name,
            order=text,
            similar=similar(name, known),
            known=known,
        )
    if not _has_order(view.measures.get(name), field if dot else None):
        orders = _orders(view, columns, name)
        raise UsageError(
            "BAD_ORDER",
            f"{text} has no order",
            f"order by {' or '.join(orders)}",
            view=view.name,
            order=text,
            known=orders,
        )
    return Order(name, field if dot else None, descending)


def _has_order(measure: Measure | None, field: str | None) -> bool:
    """Whether answers of a measure (None: an answer's) sort, as they are or by that field."""
    if measure is None or measure.answer_type is not None:
        return field is None
    if isinstance(measure, Quantiles):
        return field in [quantile_name(q) for q in measure.at]
    return isinstance(measure, CountBy) and bool(field)


def _orders(view: ViewDefinition, columns: Sequence[str], name: str) -> list[str]:
    """What can be ordered by instead of a measure's structured answer."""
    measure = view.measures.get(name)
    if isinstance(measure, Quantiles):
        return [f"{name}.{quantile_name(q)}" for q in measure.at]
    if isinstance(measure, CountBy):
        return [f"{name}.<category>"]
    plain = [other for other, found in view.shown.items() if found.answer_type is not None]
    return [*columns, *plain, *view.answers]


def _column(columns: Sequence[str], name: str) -> str | None:
    if name in columns:
        return name
    return next((column for column in columns if column in TIME_NAMES), None) if name in TIME_NAMES else None


def plan_limit_by(view: ViewDefinition, columns: Sequence[str], text: str | None) -> tuple[tuple[str, ...], int] | None:
    """(columns, n) of `column,column:n`. Raises UsageError BAD_LIMIT_BY."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise bad_value("limit_by", text, "a column and a number, such as country:10")
    left, colon, right = text.rpartition(":")
    if not colon:
        raise bad_value("limit_by", text, "a column and a number, such as country:10")
    names = [(name, _column(columns, name)) for name in (part.strip() for part in left.split(",")) if name]
    for name, column in names:
        if column is None:
            raise UsageError(
                "BAD_LIMIT_BY",
                f"the rows have no key column {name} to limit by",
                f"limit by one of {', '.join(columns) or 'none: the rows have no key'}",
                view=view.name,
                option="limit_by",
                key=name,
                similar=similar(name, columns),
                known=list(columns),
            )
    return tuple(column for _, column in names if column), whole("limit_by", right, 1) or 1


def arrange(
    rows: list[T],
    order: Sequence[Order],
    limit: int | None,
    limit_by: tuple[tuple[str, ...], int] | None,
    lookup: Lookup[T],
) -> list[T]:
    """The rows in order, cut to the limits; rows that compare equal keep their order."""
    for term in reversed(order):
        rows = _sorted(rows, term, lookup)
    if limit_by is not None:
        rows = _first_of_each(rows, *limit_by, lookup)
    return rows if limit is None else rows[:limit]


def _sorted(rows: list[T], term: Order, lookup: Lookup[T]) -> list[T]:
    valued = [(lookup(row, term.name, term.field), row) for row in rows]
    known = [(_rank(value), row) for value, row in valued if value is not None]
    known.sort(key=lambda pair: pair[0], reverse=term.descending)
    return [row for _, row in known] + [row for value, row in valued if value is None]


def _rank(value: Any) -> tuple[int, Any]:
    """NaN after every number, as in Spark."""
    return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)


def _first_of_each(rows: list[T], names: Sequence[str], count: int, lookup: Lookup[T]) -> list[T]:
    seen: dict[tuple[Any, ...], int] = {}
    kept = []
    for row in rows:
        group = tuple(_hashable(lookup(row, name, None)) for name in names)
        seen[group] = seen.get(group, 0) + 1
        if seen[group] <= count:
            kept.append(row)
    return kept


def _hashable(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value
