"""The rows of a statement as JSON carries them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from serving_layer.result import plain

_NO_SUCH_TIME = (OverflowError, ValueError)
"""What Arrow raises for a time that Python has not: beyond the years 1 to 9999."""


def shown_rows(table: pa.Table) -> list[list[Any]]:
    """Row by row; decimals are text, times ISO 8601, an interval or a UUID its text."""
    columns = [list(map(_shown, _values(column))) for column in table.columns]
    return list(map(list, zip(*columns, strict=True)))


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    try:
        found: list[Any] = column.to_pylist()
    except _NO_SUCH_TIME:
        return list(map(_value, column))
    return found


def _value(scalar: Any) -> Any:
    """The value of one of Arrow's; of a time that Python has not Arrow's text."""
    if isinstance(scalar, pa.StructScalar) and scalar.is_valid:
        return {name: _value(inner) for name, inner in scalar.items()}
    if isinstance(scalar, (pa.ListScalar, pa.LargeListScalar, pa.FixedSizeListScalar)) and scalar.is_valid:
        return list(map(_value, scalar.values))
    try:
        return scalar.as_py()
    except _NO_SUCH_TIME:
        text = str(scalar.cast(pa.string()))
        return text.replace(" ", "T") if text[0] != "<" else "-infinity" if "-" in text else "infinity"


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _shown(inner) for name, inner in value.items()}
    if isinstance(value, pa.MonthDayNano):
        seconds, rest = divmod(abs(value.nanoseconds), 10**9)
        sign, time = "-" * (value.nanoseconds < 0), f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{value.months} months {value.days} days {sign}{time}" + (f".{rest:09}".rstrip("0") if rest else "")
    if isinstance(value, (list, tuple)):
        return list(map(_shown, value))
    if isinstance(value, (dt.time, dt.timedelta, uuid.UUID)):
        return str(value)
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.isoformat()
    return plain(value)
