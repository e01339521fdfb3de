"""The types of a declaration's options: a catalog is its user's Python, which holds nobody to them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tideline.durations import to_micros
from tideline.errors import DefinitionError, UsageError

Check = tuple[Callable[[Any], bool], str]


def _is_length(value: Any) -> bool:
    try:
        return value is None or (isinstance(value, (str, dt.timedelta)) and abs(to_micros(value)) >= 0)
    except UsageError:
        return False


def _is_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _is_names(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(name, str) for name in value)


TEXT: Check = (lambda value: isinstance(value, str), "text")
OPTIONAL_TEXT: Check = (lambda value: value is None or isinstance(value, str), "text or None")
WHOLE: Check = (lambda value: isinstance(value, int), "a whole number")
LENGTH: Check = (_is_length, "a length of time, such as hours(1), of less than 292,000 years")
NAMES: Check = (_is_names, "a column's name, or a list of them")
TEXTS: Check = (_is_texts, "a mapping from a name to an expression")
NAMED: Check = (
    lambda value: isinstance(value, Mapping) and all(isinstance(name, str) for name in value),
    "a mapping from a name to a measure",
)

SOURCE_OPTIONS: Mapping[str, Check] = {
    "name": TEXT,
    "schema": TEXT,
    "event_time": TEXT,
    "event_id": OPTIONAL_TEXT,
    "topic": OPTIONAL_TEXT,
    "max_ahead": LENGTH,
    "max_behind": LENGTH,
    "horizon": WHOLE,
}
VIEW_OPTIONS: Mapping[str, Check] = {
    "name": TEXT,
    "measures": NAMED,
    "key": NAMES,
    "bucket": LENGTH,
    "columns": TEXTS,
    "where": OPTIONAL_TEXT,
    "answers": TEXTS,
    "keep": LENGTH,
}
MEASURE_OPTIONS: Mapping[str, Check] = {"expression": OPTIONAL_TEXT, "where": OPTIONAL_TEXT, "weight": OPTIONAL_TEXT}


def check_options(declared: object, options: Mapping[str, Check]) -> None:
    """Raises DefinitionError BAD_OPTION for the first option that is of another type; those it lacks are skipped."""
    for option, (fits, expected) in options.items():
        value = getattr(declared, option, None)
        if hasattr(declared, option) and not fits(value):
            raise DefinitionError("BAD_OPTION", option=option, value=repr(value)[:100], expected=expected)
