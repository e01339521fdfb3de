"""The answer of a statement in each form, and its rows as JSON carries them."""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from serving_layer.proof import json_text
from serving_layer.result import plain
from serving_layer.sql.errors import MOST_BYTES, SqlError

_ROWS = 1_000  # that are made text at once

_NO_SUCH_TIME = (OverflowError, ValueError)
"""What Arrow raises for a time that Python has not: beyond the years 1 to 9999."""


def body_of(form: str, table: pa.Table, proofs: Mapping[str, Any]) -> bytes:
    """An answer as JSON, CSV or an Arrow stream. Raises SqlError SQL_TOO_LARGE.

    Values take more as text than DuckDB's columns do, in which one may stand for many.
    """
    if form == "arrow":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return _checked(sink.getvalue().to_pybytes())
    parts, size = [], 0
    for batch in table.to_batches(_ROWS):
        rows = shown_rows(pa.Table.from_batches([batch], table.schema))
        parts.append(_checked((_json_rows if form == "json" else _csv_rows)(rows), size))
        size += len(parts[-1])
    if form == "csv":
        return _csv_rows([table.column_names]) + b"".join(parts)
    head, end = json_text({"columns": table.column_names}), json_text({"proofs": proofs})
    return b"".join([head[:-1].encode(), b',"rows":[', b",".join(parts), b"],", end[1:].encode()])


def _checked(text: bytes, before: int = 0) -> bytes:
    if before + len(text) > MOST_BYTES:
        raise SqlError("SQL_TOO_LARGE", limit=MOST_BYTES, what="bytes")
    return text


def _json_rows(rows: Sequence[Any]) -> bytes:
    return json_text(rows)[1:-1].encode()


def _csv_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return text.getvalue().encode()


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
