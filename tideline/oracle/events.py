"""From raw records to the events that count, as one Arrow table for DuckDB or Spark to compute on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tideline.oracle.decode import PartitionDecoder
from tideline.oracle.records import Records
from tideline.source import SourceDefinition
from tideline.types import ColumnType

_ARROW = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "binary": pa.binary(),
    "timestamp": pa.timestamp("us"),
}


@dataclass(frozen=True)
class Events:
    """One source's counted events before a cut.

    `table` has the schema's columns, timestamps without a zone in UTC, then `_partition`, `_offset`,
    `_timestamp`, `_key`, `_headers` and `_at`, the event time in microseconds; where rows may be retracted also
    `_sign`, 1 or -1. The counts are of records.
    """

    table: pa.Table
    records: int
    events: int
    duplicates: int
    dead: int


def arrow_type(kind: ColumnType) -> pa.DataType:
    """The Arrow type that holds a column."""
    return pa.decimal128(kind.precision, kind.scale) if kind.is_decimal else _ARROW[kind.name]


def decode_events(source: SourceDefinition, records: Records) -> Events:
    """Decodes one source's records; dead letters and duplicates are counted and left out."""
    table = records.table
    decoders: dict[int, PartitionDecoder] = {}
    names = ("_partition", "_offset", "_timestamp", "_value", "_key")
    for index, (partition, *record) in enumerate(zip(*(table[n].to_pylist() for n in names), strict=True)):
        decoder = decoders.get(partition)
        if decoder is None:
            decoder = decoders[partition] = PartitionDecoder(source)
        decoder.add(index, *record)
    found = [decoders[partition].found for partition in sorted(decoders)]
    positions = pa.array([index for part in found for index in part.positions], pa.int64())
    arrays: list[Any] = []
    for place, column in enumerate(source.schema):
        kind = arrow_type(column.type)
        raw = pa.int64() if column.type.name == "timestamp" else pa.int32() if column.type.name == "date" else kind
        arrays.append(pa.chunked_array([pa.array(part.columns[place], raw) for part in found], raw).cast(kind))
    kept = table.select(["_partition", "_offset", "_timestamp", "_key", "_headers"]).take(positions)
    stamps = kept["_timestamp"]
    columns = [column.name for column in source.schema]
    at = arrays[columns.index(source.event_time)].cast(pa.int64()) if source.event_time in columns else stamps
    kept = kept.set_column(2, "_timestamp", stamps.cast(pa.timestamp("us")))
    whole = pa.Table.from_arrays([*arrays, *kept.columns, at], names=[*columns, *kept.column_names, "_at"])
    if source.operation:
        said = arrays[columns.index(source.operation)].to_pylist()
        whole = whole.append_column("_sign", pa.array([-1 if word == "retract" else 1 for word in said], pa.int8()))
    return Events(
        whole,
        len(table),
        sum(p.events for p in found),
        sum(p.duplicates for p in found),
        sum(p.dead for p in found),
    )
