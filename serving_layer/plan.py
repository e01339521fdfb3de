"""A query held against its view: every name known, every value of the right type, every time on a bucket."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from serving_layer import query as read
from serving_layer.order import Order, plan_limit_by, plan_order
from serving_layer.query import NULL_TEXT, OPTIONS, Query, brief, is_several, similar
from serving_layer.windows import Windows, plan_windows
from serving_layer.zones import Zone, find_zone
from tideline.answers import Answer
from tideline.cut import Cut
from tideline.definition import ROWS, ViewDefinition
from tideline.errors import UsageError
from tideline.types import Column, parse_text, to_wire

MOST_KEYS = 10_000  # of one query


@dataclass(frozen=True)
class Plan:
    """What to read and how to answer.

    `filtered` are the indices of the key columns that have to have a value, `several` those of them that may have one
    of several, `group` those of the key columns to keep. Times are shown in `zone`, else in UTC. `answers` are the
    view's expressions over measures, `shown` the measures and answers of a row, in order. `slots` are all measures to
    merge.
    """

    view: ViewDefinition
    filtered: tuple[int, ...]
    several: tuple[int, ...]
    windows: Windows
    zone: Zone | None
    group: tuple[int, ...]
    shown: tuple[str, ...]
    answers: Mapping[str, Answer]
    order: tuple[Order, ...]
    limit: int | None
    limit_by: tuple[tuple[str, ...], int] | None
    time_name: str | None
    version: int | None
    parts: bool

    @cached_property
    def depth(self) -> int:
        """How many leading key columns have to have one value."""
        single = [index for index in self.filtered if index not in self.several]
        return next((place for place, index in enumerate(single) if place != index), len(single))

    @cached_property
    def rows_of_key(self) -> int | None:
        """The most stored rows of one key that is named whole; None where keys are not, or there is no end to them."""
        start, end, bucket = self.windows.start, self.windows.end, self.view.bucket
        if len(self.filtered) < len(self.view.key):
            return None
        if bucket is None:
            return 1
        return None if start is None or end is None else -(-(end - start) // bucket)

    @property
    def is_lookup(self) -> bool:
        """Whether the stored rows are named by their whole keys, and their bucket if they have one."""
        return self.rows_of_key == 1

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """The indices of the measures that the rows, their answers and their order need."""
        needed = {*self.shown, *(order.name for order in self.order), ROWS}
        for name in tuple(needed):
            if name in self.answers:
                needed |= self.answers[name].names
        return tuple(index for index, name in enumerate(self.view.measures) if name in needed)

    @cached_property
    def rows_at(self) -> int | None:
        """The place of the measure that says how many rows a group has: one whose rows were all retracted is none.

        None where rows cannot be retracted.
        """
        names = list(self.view.measures)
        return names.index(ROWS) if ROWS in names else None

    @cached_property
    def keeps_rows(self) -> bool:
        """Whether every stored row is a row of the answer: nothing is merged but the two sides."""
        if self.group != tuple(range(len(self.view.key))) or self.windows.zone is not None:
            return False
        return self.view.bucket is None or self.windows.width == self.windows.slide == self.view.bucket

    @property
    def reads_in_order(self) -> bool:
        """Whether rows are answered as they are stored, in that order."""
        return self.keeps_rows and not self.order and self.limit_by is None


@dataclass(frozen=True)
class Patience:
    """The cut that an answer must cover, how old in seconds it may be, and how many seconds to wait for that."""

    cut: Cut | None
    staleness: float | None
    seconds: float


def patience(query: Query) -> Patience:
    """What the query says of waiting. Raises UsageError."""
    stale = query.max_staleness
    return Patience(
        read.cut(query.at_least),
        None if stale is None else read.length("max_staleness", stale) / 1_000_000,
        read.seconds("timeout", query.timeout),
    )


def plan_query(query: Query, view: ViewDefinition) -> Plan:
    """The plan of a query on its view. Raises UsageError, whose params say what would be right."""
    zone = find_zone(brief(query.zone) if isinstance(query.zone, str) else query.zone)
    windows = plan_windows(view, query.start, query.end, query.window, query.slide, zone)
    group = _group(view, query)
    time_name = None if view.bucket is None or windows.width == 0 else "bucket" if query.window is None else "window"
    answers = {name: Answer(text, view.shown) for name, text in view.answers.items()}
    shown = _shown(view, read.names("measures", query.measures))
    columns = tuple(view.key[index].name for index in group) + ((time_name,) if time_name else ())
    return Plan(
        view,
        _filtered(view, query.key),
        tuple(index for index, column in enumerate(view.key) if is_several(query.key.get(column.name))),
        windows,
        zone,
        group,
        shown,
        answers,
        plan_order(view, columns, read.names("order", query.order) or ()),
        read.whole("limit", query.limit, 0),
        plan_limit_by(view, columns, query.limit_by),
        time_name,
        read.whole("version", query.version, 0),
        read.flag("parts", query.parts),
    )


def _filtered(view: ViewDefinition, key: Mapping[str, Any]) -> tuple[int, ...]:
    known = [column.name for column in view.key]
    for name in key:
        if name not in known:
            raise UsageError(
                "UNKNOWN_KEY",
                f"view {view.name} has no key column {brief(name)}, and no option is called so",
                f"key columns: {', '.join(known) or 'none'}; options: {', '.join(OPTIONS)}",
                view=view.name,
                key=brief(name),
                similar=similar(name, known + OPTIONS),
                known=known,
                options=OPTIONS,
            )
    return tuple(index for index, column in enumerate(view.key) if column.name in key)


def key_values(plan: Plan, key: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The wire values that the filtered key columns may have, in all combinations. Raises UsageError."""
    columns = [plan.view.key[index] for index in plan.filtered]
    if not plan.several:
        return [tuple(key_value(column, key[column.name]) for column in columns)]
    given = [
        key[column.name] if index in plan.several else [key[column.name]]
        for index, column in zip(plan.filtered, columns, strict=True)
    ]
    # Before any value is read. An empty list makes the product 0, and not the others short.
    lengths = [len(several) for several in given]
    count = max(math.prod(lengths), *lengths)
    if count > MOST_KEYS:
        raise UsageError(
            "TOO_MANY_KEYS",
            f"the query asks for {count} keys of view {plan.view.name}, more than {MOST_KEYS}",
            "ask for fewer at a time, or filter by fewer key columns",
            view=plan.view.name,
            count=count,
            limit=MOST_KEYS,
        )
    values = [[key_value(column, one) for one in several] for column, several in zip(columns, given, strict=True)]
    return list(itertools.product(*values))


def key_value(column: Column, value: Any) -> Any:
    """The wire value of a key given as text or as a Python value of its type. Raises UsageError BAD_VALUE."""
    kind = column.type
    if value is None or value == NULL_TEXT:
        return None
    fits = (
        (kind.name == "timestamp" and isinstance(value, dt.datetime))
        or (kind.name == "date" and isinstance(value, dt.date) and not isinstance(value, dt.datetime))
        or (kind.name == "binary" and isinstance(value, bytes))
        or (kind.name == "boolean" and isinstance(value, bool))
    )
    if fits:
        return to_wire(kind, value)
    number = kind.is_numeric and not isinstance(value, (bool, str, dt.date, bytes))
    if not isinstance(value, str) and not number:
        raise UsageError(
            "BAD_VALUE",
            f"key {column.name}: {brief(repr(value))} is not a value of type {kind.sql}",
            f"give text or a Python value of type {kind.sql}",
            key=column.name,
            value=brief(value),
            expected=f"a value of type {kind.sql}",
        )
    try:
        return parse_text(kind, str(value))
    except UsageError as error:
        raise UsageError(
            error.condition,
            f"key {column.name}: {brief(repr(value))} is not a value of type {kind.sql}",
            f"give a value of type {kind.sql}",
            key=column.name,
            **{**error.params, "value": brief(value)},
        ) from None


def _group(view: ViewDefinition, query: Query) -> tuple[int, ...]:
    known = [column.name for column in view.key]
    given = query.group_by
    if given == "none" and "none" not in known:
        given = ()
    wanted = read.names("group_by", given)
    for name in wanted or ():
        if name not in known:
            raise UsageError(
                "UNKNOWN_KEY",
                f"view {view.name} has no key column {brief(name)} to group by",
                f"key columns: {', '.join(known) or 'none'}",
                view=view.name,
                key=brief(name),
                known=known,
                similar=similar(name, known),
                option="group_by",
            )
    return tuple(range(len(known))) if wanted is None else tuple(known.index(name) for name in wanted)


def _shown(view: ViewDefinition, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    known = [*view.shown, *view.answers]
    for name in wanted or ():
        if name not in known:
            raise UsageError(
                "UNKNOWN_MEASURE",
                f"view {view.name} has no measure or answer {brief(name)}",
                f"measures and answers: {', '.join(known)}",
                view=view.name,
                measure=brief(name),
                known=known,
                similar=similar(name, known),
            )
    return tuple(known) if wanted is None else wanted
