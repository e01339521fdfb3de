"""Rows into a table of a database, by its JDBC driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DecimalType, IntegralType

from tideline.export import ExportError

_DIGITS = 31
"""Of a decimal that every database has room for."""


def export_jdbc(spark: SparkSession, found: pa.Table, url: str, table: str, properties: Mapping[str, str]) -> int:
    """Replaces a table of a database by rows, through Spark; how many rows. Structured answers become JSON texts.

    The table is emptied and filled where it is there already, so that its grants and indexes stay. Its numbers are read
    back and added up: a database that rounds them is an error, after the fact. Raises ExportError.
    """
    plain = _flat(found)
    where = url.partition("?")[0].partition(";")[0]  # what follows may hold a password
    try:
        frame = spark.createDataFrame(plain.combine_chunks())
        writer: Any = frame.coalesce(1).write.mode("overwrite").option("truncate", "true")
        writer.jdbc(url, table, properties=dict(properties))
        told, kept = _sums(frame), _sums(spark.read.jdbc(url, table, properties=dict(properties)))
    except Exception as error:  # noqa: BLE001 - whatever a driver raises
        reason = str(error).splitlines()[0][:300]
        raise ExportError("NOT_EXPORTED", target=f"{where} {table}", reason=reason) from None
    changed = [name for name, value in told.items() if kept.get(name) != value]
    if changed:
        reason = f"its type for {', '.join(changed)} does not keep the values"
        raise ExportError("NOT_EXPORTED", target=f"{where} {table}", reason=reason)
    return len(plain)


def _sums(frame: DataFrame) -> dict[str, Any]:
    """The number of rows, and the sum of each column of whole numbers or decimals."""
    exact = [f.name for f in frame.schema.fields if isinstance(f.dataType, (IntegralType, DecimalType))]
    sums = [f"sum(cast(`{name}` as decimal(38, 10))) as `{name}`" for name in exact]
    found: dict[str, Any] = frame.selectExpr("count(*) as `rows`", *sums).collect()[0].asDict()
    return {name.lower(): value for name, value in found.items()}


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
