"""Order and limits of an answer's rows: by key, time, measure or answer; null comes last either way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving_layer.query import bad_value, brief, names, similar, whole
from tideline.definition import ViewDefinition
from tideline.errors import UsageError
from tideline.measures import CountBy, Measure, Quantiles, quantile_name

TIME_NAMES = ("bucket", "window")
MOST_TERMS = 16  # of an order: each is one more column of all rows, and one more sort of them
_NAN = "NaN"
Lookup = Callable[[str, "str | None"], Sequence[Any]]
"""The values of a column, or of a field of its answers, one for each row."""


@dataclass(frozen=True)
class Order:
    """Sort by a column, or by a `field` of a structured measure."""

    name: str
    field: str | None = None
    descending: bool = False


def plan_order(view: ViewDefinition, columns: Sequence[str], texts: Sequence[str]) -> tuple[Order, ...]:
    """The checked order; `columns` are the rows' key columns and time column. Raises UsageError BAD_ORDER."""
    if len(texts) > MOST_TERMS:
        raise UsageError(
            "BAD_ORDER",
            f"the order has {len(texts)} terms, more than {MOST_TERMS}",
            "order by the first of them",
            view=view.name,
            count=len(texts),
            limit=MOST_TERMS,
        )
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
            f"the rows have no column {brief(name)} to order by",
            f"order by one of {', '.join(known)}, with - before it for descending",
            view=view.name,
            order=brief(text),
            similar=similar(name, known),
            known=known,
        )
    if not _has_order(view.measures.get(name), field if dot else None):
        orders = _orders(view, columns, name)
        raise UsageError(
            "BAD_ORDER",
            f"{brief(text)} has no order",
            f"order by {' or '.join(orders)}",
            view=view.name,
            order=brief(text),
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
    """(columns, n) of `column,column:n`. Raises UsageError BAD_LIMIT_BY, and BAD_VALUE for a column named twice."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise bad_value("limit_by", text, "a column and a number, such as country:10")
    left, colon, right = text.rpartition(":")
    if not colon:
        raise bad_value("limit_by", text, "a column and a number, such as country:10")
    found = [(name, _column(columns, name)) for name in names("limit_by", left) or ()]
    for name, column in found:
        if column is None:
            raise UsageError(
                "BAD_LIMIT_BY",
                f"the rows have no key column {brief(name)} to limit by",
                f"limit by one of {', '.join(columns) or 'none: the rows have no key'}",
                view=view.name,
                option="limit_by",
                key=brief(name),
                similar=similar(name, columns),
                known=list(columns),
            )
    return tuple(column for _, column in found if column), whole("limit_by", right, 1) or 1


def arrange(
    count: int,
    order: Sequence[Order],
    limit_by: tuple[tuple[str, ...], int] | None,
    column: Lookup,
    start: tuple[int, Sequence[Any]] | None = None,
) -> Sequence[int]:
    """The places of `count` rows in order, the first of each value of `limit_by`; rows that compare equal keep theirs.

    With `start`, (before which place it stands, what each term of the order has of it), those behind a row that is none
    of them. Raises TypeError where that has values of other types.
    """
    places: Sequence[int] = range(count)
    if start is not None:
        places = [*places[: start[0]], count, *places[start[0] :]]
    for number, term in reversed(list(enumerate(order))):
        values = column(term.name, term.field)
        places = _sorted(places, values if start is None else [*values, start[1][number]], term.descending)
    rows = places if start is None else [place for place in places if place != count]
    if limit_by is not None:
        by, most = limit_by
        rows = _first_of_each(rows, [column(name, None) for name in by], most)
    if start is None:
        return rows
    behind = frozenset(places[places.index(count) + 1 :])
    return [place for place in rows if place in behind]


def _sorted(places: Sequence[int], values: Sequence[Any], descending: bool) -> list[int]:
    known = [place for place in places if values[place] is not None]
    null = [place for place in places if values[place] is None] if len(known) < len(places) else []
    # NaN comes after every number, as in Spark.
    ranks = [(1, 0) if _is_nan(value) else (0, value) for value in values] if any(map(_is_nan, values)) else values
    known.sort(key=ranks.__getitem__, reverse=descending)
    return known + null


def _first_of_each(places: Sequence[int], columns: Sequence[Sequence[Any]], most: int) -> list[int]:
    comparable = [[_NAN if _is_nan(value) else value for value in values] for values in columns]
    groups = list(zip(*comparable, strict=True)) or [()] * len(places)  # of no columns all rows are one group
    seen: Counter[tuple[Any, ...]] = Counter()
    kept = []
    for place in places:
        group = groups[place]
        seen[group] += 1
        if seen[group] <= most:
            kept.append(place)
    return kept


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
