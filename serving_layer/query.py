"""A query as a value: what is asked of one view, in Python values or text, not yet held against the view."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

from tideline.cut import Cut
from tideline.durations import to_micros
from tideline.errors import UsageError

Time = dt.datetime | dt.date | str | int
"""ISO 8601 text, a datetime or date (UTC where it has no zone), or microseconds since the epoch."""
Duration = dt.timedelta | str | int
"""A timedelta, text such as `15m`, or a number of seconds."""

ALL = "all"
NULL_TEXT = "\\N"
DEFAULT_TIMEOUT = 10.0
MAX_TIMEOUT = 300.0
KEY_PREFIX = "key."
MOST_PARAMETERS = 10_100  # the most keys that may be asked for, and every option
MOST_PARTITIONS = 10_000  # of a cut to wait for
_LONGEST_TOPIC = 249  # letters, as Kafka has it
_LONGEST_TOLD = 200  # letters of a value that an error repeats
_LONGEST_GUESSED = 100  # letters of a name that known ones are compared with, which takes their product


@dataclass(frozen=True)
class Query:
    """One question.

    `key` filters by key columns, any of them; text is read by the column's type, and `\\N` is null. A list of
    values is any of them.
    `start` and `end` are half open. `window` merges buckets into larger windows aligned to 1970-01-01
    UTC (`all`: into one row), every `slide` a new one; in a `zone`, such as Europe/Berlin, to its days.
    `group_by` names the key columns to keep (default all, empty: one group). `measures` selects measures and
    answers. `order` lists columns, `-` for descending. `limit_by` is `column:n`, the first n rows of each value.
    `cursor` goes on where an answer with a `limit` ended. `at_least` waits up to `timeout` seconds until the answer
    covers that cut, `max_staleness` until it covers what Kafka held so long ago; `version` asks an older batch
    version. With `parts` each row also has the batch side's and the speed side's answers.
    """

    view: str
    key: Mapping[str, Any] = field(default_factory=dict)
    start: Time | None = None
    end: Time | None = None
    window: Duration | None = None
    slide: Duration | None = None
    zone: str | None = None
    group_by: str | Sequence[str] | None = None
    measures: str | Sequence[str] | None = None
    order: str | Sequence[str] | None = None
    limit: int | str | None = None
    limit_by: str | None = None
    cursor: str | None = None
    at_least: Cut | Mapping[str, Mapping[str, int]] | str | None = None
    max_staleness: Duration | None = None
    version: int | str | None = None
    timeout: float | str = DEFAULT_TIMEOUT
    parts: bool | str = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Query:
        """The query of an object of fields; start and end are `from` and `to`, null is not given. Raises UsageError."""
        if not isinstance(data.get("view"), str):
            raise UsageError("MISSING_VIEW", "a query needs a view", "set view to the name of one", known=QUERY_FIELDS)
        named = {_FIELD_NAMES.get(name, name): value for name, value in data.items() if value is not None}
        for name in data:
            if name not in QUERY_FIELDS:
                raise _unknown(name, QUERY_FIELDS)
        if not isinstance(named.get("key", {}), Mapping):
            raise bad_value("key", named["key"], "an object of key columns and their values")
        return cls(**named)

    @classmethod
    def from_params(cls, view: str, params: Sequence[tuple[str, str]]) -> Query:
        """The query of HTTP parameters: options by name, all others key columns (or `key.NAME`, always one).

        A key column that is given several times may have any of these values. Raises UsageError for an option that is
        given twice, and TOO_MANY_PARAMETERS; whether a key column exists the view will say.
        """
        if len(params) > MOST_PARAMETERS:
            raise UsageError(
                "TOO_MANY_PARAMETERS",
                f"the query has {len(params)} parameters, more than {MOST_PARAMETERS}",
                "ask for fewer keys at a time",
                count=len(params),
                limit=MOST_PARAMETERS,
            )
        options: dict[str, Any] = {}
        key: dict[str, Any] = {}
        for name, value in params:
            if name not in OPTIONS:
                column = name.removeprefix(KEY_PREFIX)
                before = key.get(column)
                if before is None:
                    key[column] = value
                elif isinstance(before, list):
                    before.append(value)
                else:
                    key[column] = [before, value]
                continue
            slot = _FIELD_NAMES.get(name, name)
            if slot in options:
                raise UsageError(
                    "REPEATED_PARAMETER",
                    f"the parameter {name} is given twice",
                    "give it once",
                    parameter=name,
                )
            options[slot] = value
        return cls(view, key, **options)

    @cached_property
    def shape(self) -> Hashable:
        """Equal for queries that differ in the values of their keys, where they go on and what they wait for, alone.

        None where a field has no hash.
        """
        several = tuple(map(is_several, self.key.values()))
        shape = (self.view, *self.key), several, tuple((type(value), _told(value)) for value in _shape(self))
        try:
            hash(shape)
        except TypeError:
            return None
        return shape

    @property
    def waits(self) -> bool:
        """Whether it may have to wait for a cut."""
        return self.at_least is not None or self.max_staleness is not None

    def with_key(self, key: Mapping[str, Any]) -> Query:
        """The same query with other key filters."""
        return replace(self, key=key)


def is_several(value: Any) -> bool:
    """Whether a key filter is a list of values."""
    return isinstance(value, (list, tuple))


def _told(value: Any) -> Any:
    """What tells a value from others: of two equal times of a clock that is put back one may be the later."""
    return repr(value) if isinstance(value, dt.datetime) else value


_OTHERWISE = ("view", "key", "cursor", "at_least", "max_staleness", "timeout")
_shape = attrgetter(*(f.name for f in fields(Query) if f.name not in _OTHERWISE))
_FIELD_NAMES = {"from": "start", "to": "end"}
_SPELLED = {field: name for name, field in _FIELD_NAMES.items()}
QUERY_FIELDS = [_SPELLED.get(f.name, f.name) for f in fields(Query)]
OPTIONS = [name for name in QUERY_FIELDS if name not in ("view", "key")]


def brief(value: object) -> str:
    """A value as an error repeats it: its text, of at most 200 letters."""
    text = str(value)
    return text if len(text) <= _LONGEST_TOLD else f"{text[: _LONGEST_TOLD - 1]}…"


def similar(name: str, known: Iterable[str]) -> list[str]:
    """At most three of the known names that `name` may have meant; of a long one, none."""
    if len(name) > _LONGEST_GUESSED:
        return []
    return difflib.get_close_matches(name, list(known), 3, 0.6)


def _unknown(name: str, known: Sequence[str]) -> UsageError:
    return UsageError(
        "UNKNOWN_FIELD",
        f"a query has no field {brief(name)}",
        f"fields: {', '.join(known)}",
        field=brief(name),
        similar=similar(name, known),
        known=list(known),
    )


def bad_value(name: str, value: Any, expected: str) -> UsageError:
    """The error for an option whose value cannot be read."""
    return UsageError(
        "BAD_VALUE",
        f"{name} {brief(repr(value))} is not {expected}",
        f"give {name} as {expected}",
        option=name,
        value=brief(value),
        expected=expected,
    )


def names(option: str, value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """A list of names, given as a list or as text with commas. Raises UsageError for one named twice."""
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise bad_value(option, value, "a list of names")
    found = tuple(part.strip() for part in parts if part.strip())
    if len(set(found)) < len(found):
        raise bad_value(option, value, "a list that names each column once")
    return found


def whole(option: str, value: int | str | None, least: int) -> int | None:
    """A whole number of at least `least`. Raises UsageError."""
    if value is None:
        return None
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = least - 1
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise bad_value(option, value, f"a whole number from {least}")
    return number


def flag(option: str, value: bool | str) -> bool:
    """True or false. Raises UsageError."""
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "": True, "false": False, "0": False}
    if not isinstance(value, str) or value.lower() not in known:
        raise bad_value(option, value, "true or false")
    return known[value.lower()]


def seconds(option: str, value: float | str) -> float:
    """Seconds from 0 to 300. Raises UsageError."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= MAX_TIMEOUT or isinstance(value, bool):
        raise bad_value(option, value, f"a number of seconds from 0 to {MAX_TIMEOUT:g}")
    return number


def length(option: str, value: Duration) -> int:
    """A length of time in microseconds. Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, (dt.timedelta, str, int)):
        raise bad_value(option, value, "a length of time, such as 1d")
    return to_micros(brief(value) if isinstance(value, str) else value)


def cut(value: Cut | Mapping[str, Mapping[str, int]] | str | None) -> Cut | None:
    """A cut from its text or its JSON, of at most 10,000 partitions. Raises UsageError."""
    if value is None or isinstance(value, Cut):
        return value
    try:
        # Counted before they are read: a text has a comma between two.
        count = value.count(",") + 1 if isinstance(value, str) else sum(max(len(one), 1) for one in value.values())
        if count > MOST_PARTITIONS:
            raise UsageError(
                "BAD_CUT",
                f"the cut has {count} partitions, more than {MOST_PARTITIONS}",
                "name those alone that have to be waited for",
                text=brief(value),
                count=count,
                limit=MOST_PARTITIONS,
            )
        found = _parsed_cut(value) if isinstance(value, str) else Cut.from_json(value)
        numbers = () if isinstance(value, str) else [number for topic in value.values() for number in topic.values()]
        if not all(type(number) is int for number in numbers) or any(min(p, o) < 0 for _, p, o in found.partitions()):
            raise ValueError(value)
        if any(len(topic) > _LONGEST_TOPIC for topic in found.topics()):
            raise ValueError(value)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise UsageError("BAD_CUT", text=brief(value)) from None
    return found


def _parsed_cut(text: str) -> Cut:
    try:
        return Cut.parse(text)
    except UsageError:
        raise UsageError("BAD_CUT", text=brief(text)) from None
