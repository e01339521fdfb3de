"""From Kafka's rows to events: the record columns, the checksum, decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tideline.decode import decode_batches
from tideline.identity import identified, identified_by
from tideline.runtime.collector import collect_seldom_here
from tideline.source import RETRACT, SourceDefinition
from tideline.spark.columns import quoted
from tideline.types import schema_text

RECORD_TYPES = {
    "_topic": "string",
    "_partition": "int",
    "_offset": "bigint",
    "_timestamp": "timestamp",
    "_hash": "bigint",
    "_key": "binary",
    "_headers": "array<struct<key:string,value:binary>>",
    "_value": "binary",
    "_erased": "boolean",
}
_HEADERS = RECORD_TYPES["_headers"]


def filled_headers(rows: DataFrame) -> DataFrame:
    """Rows whose `_headers` are an empty array instead of null.

    Spark asks for an Arrow batch's size after each row, and Arrow then goes over every list since the last that is
    not null.
    """
    return rows.withColumn("_headers", F.expr(f"coalesce(_headers, cast(array() as {_HEADERS}))"))


def plain_headers(rows: DataFrame) -> DataFrame:
    """Rows as records have them: without `_headers` rather than with an empty array, where they have that column."""
    return rows.withColumn("_headers", F.expr("nullif(_headers, array())")) if "_headers" in rows.columns else rows


def decode(
    rows: DataFrame, source: SourceDefinition, keep: Sequence[str], columns: Sequence[str] | None = None
) -> DataFrame:
    """Records with the columns of `decoded_from` as typed events with `_reason`, and the record columns in `keep`.

    `columns` are those of the event that are wanted, by default all.
    """
    filled = filled_headers(rows) if "_headers" in rows.columns else rows
    decode_all = decode_batches(source, keep, columns)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        collect_seldom_here()
        return decode_all(batches)

    decoded = filled.mapInArrow(run, event_schema(source, keep, columns))
    return plain_headers(decoded)


def event_schema(source: SourceDefinition, keep: Sequence[str], columns: Sequence[str] | None) -> str:
    """The columns that `decode` gives, as SQL."""
    kept = [f"{name} {RECORD_TYPES[name]}" for name in keep]
    typed = [schema_text([column]) for column in source.schema if columns is None or column.name in columns]
    return ", ".join([*kept, *typed, "_reason string"])


def event_ids(events: DataFrame, source: SourceDefinition) -> DataFrame:
    """`_partition`, `_offset` and the 16-byte `id` of events with `_reason`, dead letters left out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        collect_seldom_here()
        for batch in batches:
            table = identified(source, pa.Table.from_batches([batch]))
            yield from table.set_column(2, "id", table["id"].cast(pa.binary())).to_batches()

    columns = map(quoted, identified_by(source))
    alive = events.where("_reason is null").select("_partition", "_offset", *columns)
    return alive.mapInArrow(run, "_partition int, _offset bigint, id binary")


def sign_sql(operation: str) -> str:
    """SQL of 1 for an insertion and -1 for a retraction."""
    return f"if({_retracts(operation)}, -1L, 1L)"


def _retracts(operation: str) -> str:
    return f"{quoted(operation)} = '{RETRACT}'"
