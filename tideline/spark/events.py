"""From Kafka's rows to events: the record columns, the checksum, decoding."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tideline.cut import Cut
from tideline.decode import decode_batches
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
_RECORD_SQL = {
    "_topic": "topic",
    "_partition": "partition",
    "_offset": "offset",
    "_timestamp": "timestamp",
    "_hash": "xxhash64(offset, value)",
    "_key": "key",
    "_headers": "headers",
    "_value": "value",
}


def kafka_options(bootstrap: str, topics: Sequence[str], extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Options of Spark's Kafka reader for whole records of committed transactions; a lost range is an error."""
    return {
        "kafka.bootstrap.servers": bootstrap,
        "subscribe": ",".join(topics),
        "kafka.isolation.level": "read_committed",
        "failOnDataLoss": "true",
        "includeHeaders": "true",
        "kafka.max.partition.fetch.bytes": str(8 << 20),
        **(extra or {}),
    }


def offsets_json(cut: Cut, partitions: Mapping[str, Sequence[int]]) -> str:
    """A cut as Spark's Kafka reader takes it, with every one of these partitions listed."""
    return json.dumps({topic: {str(p): cut.offset(topic, p) for p in ids} for topic, ids in partitions.items()})


def records(rows: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Kafka's rows as record columns (`_partition`, `_offset`, ...); `_hash` is the checksum of offset and value."""
    return rows.selectExpr(*(f"{_RECORD_SQL[name]} as {name}" for name in columns))


def stream_records(rows: DataFrame) -> DataFrame:
    """Kafka's rows with every record column and `_topic`; headers that a record lacks are an empty array."""
    return filled_headers(records(rows, list(_RECORD_SQL)))


def filled_headers(rows: DataFrame) -> DataFrame:
    """Rows whose `_headers` are an empty array instead of null.

    Spark asks for an Arrow batch's size after each row, and Arrow then goes over every list since the last that is
    not null.
    """
    return rows.withColumn("_headers", F.expr(f"coalesce(_headers, cast(array() as {_HEADERS}))"))


def plain_headers(rows: DataFrame) -> DataFrame:
    """Rows as records have them: without `_headers` rather than with an empty array, where they have that column."""
    return rows.withColumn("_headers", F.expr("nullif(_headers, array())")) if "_headers" in rows.columns else rows


def decode(rows: DataFrame, source: SourceDefinition, keep: Sequence[str]) -> DataFrame:
    """Records with the columns of `decoded_from` as typed events with `_reason`, and the record columns in `keep`."""
    kept = ", ".join(f"{name} {RECORD_TYPES[name]}" for name in keep)
    schema = f"{kept}, {schema_text(source.schema)}, _reason string"
    filled = filled_headers(rows) if "_headers" in rows.columns else rows
    return plain_headers(filled.mapInArrow(decode_batches(source, keep), schema))


def identity_sql(source: SourceDefinition) -> str:
    """SQL of the 16 bytes that stand for an event's id; a retraction's are not those of its insertion."""
    id = f"cast({source.event_id} as string)"
    if source.operation:
        id = f"concat(if({_retracts(source.operation)}, '-', '+'), {id})"
    return f"unhex(md5({id}))"


def sign_sql(operation: str) -> str:
    """SQL of 1 for an insertion and -1 for a retraction."""
    return f"if({_retracts(operation)}, -1L, 1L)"


def _retracts(operation: str) -> str:
    return f"{quoted(operation)} = '{RETRACT}'"
