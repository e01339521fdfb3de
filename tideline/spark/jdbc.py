"""Rows into a table of a database, by its JDBC driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from tideline.export import ExportError

_DIGITS = 31
"""Of a decimal that every database has room for."""


def export_jdbc(spark: SparkSession, found: pa.Table, url: str, table: str, properties: Mapping[str, str]) -> int:
    """Replaces a table of a database by rows, through Spark; how many rows. Structured answers become JSON texts.

    The table is emptied and filled where it is there already, so that its grants and indexes stay. It is read back and
    compared: a database that keeps other values is an error, after the fact. Raises ExportError.
    """
    plain = _flat(found)
    target = f"{_without_secrets(url)} {table}"
    try:
        frame = spark.createDataFrame(plain.combine_chunks())
        writer: Any = frame.coalesce(1).write.mode("overwrite").option("truncate", "true")
        writer.jdbc(url, table, properties=dict(properties))
        changed = _changed(frame, spark.read.jdbc(url, table, properties=dict(properties)))
    except Exception as error:  # noqa: BLE001 - whatever a driver raises
        reason = _reason(error).replace(url, _without_secrets(url))
        for secret in filter(None, [properties.get("password")]):
            reason = reason.replace(secret, "***")
        raise ExportError("NOT_EXPORTED", target=target, reason=reason[:300]) from None
    if changed:
        reason = f"it does not keep the values of {', '.join(changed)} as they are"
        raise ExportError("NOT_EXPORTED", target=target, reason=reason)
    return len(plain)


def _changed(frame: DataFrame, kept: DataFrame) -> list[str]:
    """The columns whose values are others in what a database keeps, which may have its own types and case of names."""
    names = {name.lower(): name for name in kept.columns}
    back = kept.selectExpr(
        *[
            f"cast(`{names[field.name.lower()]}` as {field.dataType.simpleString()}) as `{field.name}`"
            for field in frame.schema
        ]
    )
    if frame.exceptAll(back).isEmpty() and back.exceptAll(frame).isEmpty():
        return []
    columns = (name for name in frame.columns if not frame.select(name).exceptAll(back.select(name)).isEmpty())
    return list(columns) or frame.columns


def _reason(error: Exception) -> str:
    """What the driver says, where it was one: the last cause of Java's exception."""
    cause = getattr(error, "java_exception", None)
    while cause is not None and cause.getCause() is not None:
        cause = cause.getCause()
    text = str(error) if cause is None else str(cause.toString())
    return (text.splitlines() or [type(error).__name__])[0]


def _without_secrets(url: str) -> str:
    """A database's address without what may hold a password: what follows ? or ;, and what stands before the last @."""
    shown = url.partition("?")[0].partition(";")[0]
    start, at, host = shown.rpartition("@")
    return f"{':'.join(start.split(':', 2)[:2])}:***@{host}" if at else shown


def _flat(table: pa.Table) -> pa.Table:
    """With the columns that a database has no type for as JSON texts."""

    def column(values: pa.ChunkedArray) -> pa.ChunkedArray:
        if pa.types.is_decimal128(values.type) and values.type.precision > _DIGITS:
            narrow = pa.decimal128(_DIGITS, values.type.scale)
            return values.cast(narrow) if _fits(values, narrow) else values
        if not pa.types.is_nested(values.type):
            return values
        plain: Callable[[Any], Any] = dict if pa.types.is_map(values.type) else lambda value: value
        texts = [
            None if value is None else json.dumps(plain(value), ensure_ascii=False) for value in values.to_pylist()
        ]
        return pa.chunked_array([pa.array(texts, pa.string())])

    columns = {name: column(table[name]) for name in table.column_names}
    return pa.table(columns)


def _fits(values: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
