"""Rows into a table of a database, by its JDBC driver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from tideline.export import ExportError


def export_jdbc(spark: SparkSession, found: pa.Table, url: str, table: str, properties: Mapping[str, str]) -> int:
    """Replaces a table of a database by rows, through Spark; how many rows. Structured answers become JSON texts.

    The table is emptied and filled where it is there already, so that its grants and indexes stay. Raises ExportError.
    """
    plain = _flat(found)
    try:
        frame = spark.createDataFrame(plain.combine_chunks())
        writer: Any = frame.coalesce(1).write.mode("overwrite").option("truncate", "true")
        writer.jdbc(url, table, properties=dict(properties))
    except Exception as error:  # noqa: BLE001 - whatever a driver raises
        reason = str(error).splitlines()[0][:300]
        where = url.partition("?")[0].partition(";")[0]  # what follows may hold a password
        raise ExportError("NOT_EXPORTED", target=f"{where} {table}", reason=reason) from None
    return len(plain)


def _flat(table: pa.Table) -> pa.Table:
    """With the columns that a database has no type for as JSON texts."""

    def column(values: pa.ChunkedArray) -> pa.ChunkedArray:
        if not pa.types.is_nested(values.type):
            return values
        texts = [
            None if value is None else json.dumps(_json(value), ensure_ascii=False) for value in values.to_pylist()
        ]
        return pa.chunked_array([pa.array(texts, pa.string())])

    columns = {name: column(table[name]) for name in table.column_names}
    return pa.table(columns)


def _json(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return dict(value)
    return value
