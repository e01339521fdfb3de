"""Python values as text that the server reads as `tideline.open` reads the values."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping
from typing import Any

from tideline.cut import Cut
from tideline.durations import to_micros, to_text
from tideline.errors import UsageError
from tideline.types import MICROSECOND, TIMESTAMP, parse_type, to_json

NULL_TEXT = "\\N"
_LENGTHS = frozenset({"window", "slide", "max_staleness", "every"})
_TIMES = frozenset({"start", "end"})


def option_text(name: str, value: Any) -> str:
    """An option of a query. Raises UsageError BAD_DURATION, BAD_CUT."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if name in _LENGTHS and (is_number or isinstance(value, dt.timedelta)):
        return to_text(to_micros(value))
    if name in _TIMES and is_number:
        return _moment_text(value)
    if name == "at_least" and isinstance(value, Mapping):
        return str(_cut(value))
    return ",".join(map(_text, value)) if isinstance(value, (list, tuple)) else _text(value)


def key_texts(value: Any) -> list[str]:
    """The values that a key column may have."""
    return [NULL_TEXT if one is None else _text(one) for one in _several(value)]


def is_text(key: Mapping[str, Any]) -> bool:
    """Whether all values of key columns are text or null, which any column takes."""
    return all(one is None or isinstance(one, str) for value in key.values() for one in _several(value))


def check_key(types: Mapping[str, str], key: Mapping[str, Any]) -> None:
    """Raises UsageError BAD_VALUE for a value of a type that its key column does not take; `types` are as SQL has them.

    What text or number is none of the column's the server says.
    """
    for name, value in key.items():
        for one in _several(value):
            if name in types and not _fits(types[name], one):
                expected = f"a value of type {types[name]}"
                raise UsageError(
                    "BAD_VALUE",
                    f"key {name}: {one!r} is not {expected}",
                    f"give text or a Python value of type {types[name]}",
                    key=name,
                    value=str(one),
                    expected=expected,
                )


def json_default(value: Any) -> str:
    """What JSON has no value for, as text. Raises UsageError BAD_VALUE."""
    if isinstance(value, (set, frozenset)):
        raise UsageError("BAD_VALUE", f"{value!r} is no JSON", "give a list", value=str(value), expected="a list")
    return _text(value)


def _several(value: Any) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, (list, tuple)) else [value]


def _fits(type_name: str, value: Any) -> bool:
    """Whether `serving_layer.plan.key_value` looks at the value at all."""
    if value is None or isinstance(value, str):
        return True
    kind = parse_type(type_name)
    if kind.is_numeric:
        return not isinstance(value, (bool, dt.date, bytes))
    if kind.name == "date":
        return isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    taken = {"timestamp": dt.datetime, "binary": bytes, "boolean": bool}.get(kind.name)
    return taken is not None and isinstance(value, taken)


def _moment_text(micros: int) -> str:
    try:
        return str(to_json(TIMESTAMP, micros))
    except OverflowError:
        return str(micros)  # which the server refuses


def _cut(value: Mapping[str, Mapping[str, int]]) -> Cut:
    try:
        if all(type(offset) is int for offsets in value.values() for offset in offsets.values()):
            return Cut.from_json(value)
    except (AttributeError, TypeError, ValueError, OverflowError):
        pass
    raise UsageError("BAD_CUT", text=str(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return f"{value // MICROSECOND}us" if isinstance(value, dt.timedelta) else str(value)
