"""From raw records to the events that count, as one Arrow table for DuckDB or Spark to compute on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tideline.cut import Cut
from tideline.oracle.decode import Decoded, PartitionDecoder
from tideline.oracle.records import SCHEMA
from tideline.source import SourceDefinition
from tideline.types import ColumnType

_SLICE = 100_000  # records that are decoded at a time; as Python's values they take some ten times their space
_RECORD = pa.schema([SCHEMA.field(name) for name in ("_partition", "_offset", "_timestamp", "_key", "_headers")])
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

    def before(self, cut: Cut, topic: str) -> Events:
        """The events before an earlier cut; the counts stay those of all records."""
        partitions, offsets = (self.table[name].to_numpy() for name in ("_partition", "_offset"))
        ends = cut.offsets(topic)
        inside = np.zeros(len(self.table), bool)
        for partition, end in ends.items():
            inside |= (partitions == partition) & (offsets < end)
        return replace(self, table=self.table.filter(pa.array(inside)))


def arrow_type(kind: ColumnType) -> pa.DataType:
    """The Arrow type that holds a column."""
    return pa.decimal128(kind.precision, kind.scale) if kind.is_decimal else _ARROW[kind.name]


def _raw_type(kind: ColumnType) -> pa.DataType:
    """The Arrow type of a column's values as they are decoded."""
    return {"timestamp": pa.int64(), "date": pa.int32()}.get(kind.name) or arrow_type(kind)


def decode_events(source: SourceDefinition, log: Iterable[pa.Table]) -> Events:
    """Decodes one source's records, table by table as a `Log` gives them; dead letters and duplicates are left out."""
    found: list[Decoded] = []
    partition: int | None = None
    kept: list[pa.Table] = [_RECORD.empty_table()]
    chunks: list[list[pa.Array]] = [[] for _ in source.schema]
    raw = [_raw_type(column.type) for column in source.schema]
    records = 0
    for table in log:
        records += len(table)
        for begin in range(0, len(table), _SLICE):
            part = table.slice(begin, _SLICE)
            columns = [part[name].to_pylist() for name in ("_partition", "_offset", "_timestamp", "_value", "_key")]
            if partition != columns[0][0]:
                partition, decoder = columns[0][0], PartitionDecoder(source)  # which knows the ids of its partition
                found.append(decoder.found)
            for index, record in enumerate(zip(*columns[1:], strict=True)):
                decoder.add(index, *record)
            positions, values = decoder.found.take()
            kept.append(part.select(_RECORD.names).take(pa.array(positions, pa.int64())))
            for chunk, kind, column in zip(chunks, raw, values, strict=True):
                chunk.append(pa.array(column, kind))
    return Events(
        _event_table(source, [pa.chunked_array(c, kind) for c, kind in zip(chunks, raw, strict=True)], kept),
        records,
        sum(p.events for p in found),
        sum(p.duplicates for p in found),
        sum(p.dead for p in found),
    )


def _event_table(source: SourceDefinition, values: list[pa.ChunkedArray], places: list[pa.Table]) -> pa.Table:
    """The events' columns and what is known of their records."""
    names = [column.name for column in source.schema]
    arrays = [value.cast(arrow_type(column.type)) for value, column in zip(values, source.schema, strict=True)]
    kept = pa.concat_tables(places)
    stamps = kept["_timestamp"]
    at = arrays[names.index(source.event_time)].cast(pa.int64()) if source.event_time in names else stamps
    kept = kept.set_column(2, "_timestamp", stamps.cast(pa.timestamp("us")))
    whole = pa.Table.from_arrays([*arrays, *kept.columns, at], names=[*names, *kept.column_names, "_at"])
    if source.operation:
        said = arrays[names.index(source.operation)].to_pylist()
        whole = whole.append_column("_sign", pa.array([-1 if word == "retract" else 1 for word in said], pa.int8()))
    return whole
