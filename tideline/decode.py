"""Decoding: from records to events, or to the reasons why they are dead letters.

One decoder serves both layers, so they cannot disagree. It works on Arrow batches: what `decode_block.py` is sure of is
decoded as a block, the rest record by record in `decode_record.py`. What bytes each type accepts is the table in
`docs/decoding.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tideline.decode_block import decode_block
from tideline.decode_record import Dead, decode_column, parse_record
from tideline.erased import ERASED, KEY_COLUMN, Erased, header_bytes
from tideline.source import INSERT, RETRACT, SourceDefinition

Fields = Mapping[str, Any]


def decode_values(
    source: SourceDefinition,
    values: pa.Array,
    times: pa.Array,
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[Any] | None = None,
) -> tuple[list[pa.Array], pa.Array]:
    """The typed columns of the records and the reason of each that is dead (null for an event).

    `values` are the records' bytes, `times` their own time stamps; keys and headers matter only where the source has
    erased ids. A dead record has null in every column.
    """
    columns, reasons, fields = _decoded(source, values)
    by_name = {column.name: array for column, array in zip(source.schema, columns, strict=True)}
    for role, name in (("time", source.event_time), ("id", source.event_id)):
        if name in by_name and by_name[name].null_count:
            for index in pc.indices_nonzero(by_name[name].is_null()).to_pylist():
                reasons[index] = reasons[index] or f"missing event {role}"
    if source.operation:
        _check_operation(source.operation, by_name[source.operation], reasons)
    if source.event_time in by_name:
        _check_distance(source, by_name[source.event_time], times, reasons)
    if source.erased:
        _mark_erased(source.erased, fields, values, keys, headers, reasons)
    said = pa.array(reasons, pa.string())
    if said.null_count < len(said):
        alive = said.is_null()
        columns = [pc.if_else(alive, column, pa.scalar(None, column.type)) for column in columns]
    return columns, said


def _decoded(source: SourceDefinition, values: pa.Array) -> tuple[list[pa.Array], list[str | None], list[Fields]]:
    """Columns and reasons by the records' values alone; of each record the fields in which ids may be erased."""
    asked = source.erased.columns - {KEY_COLUMN} if source.erased else frozenset()
    known = {column.name for column in source.schema if column.type.name == "string" or column.type.is_integer}
    block = decode_block(source.schema, values if asked <= known else values.slice(0, 0))
    taken = np.flatnonzero(block.taken)
    rest = np.setdiff1d(np.arange(len(values)), taken, assume_unique=True)
    rows: list[dict[str, Any]] = []
    said: list[str | None] = [None] * len(rest)
    for index, value in enumerate(values.take(pa.array(rest)).to_pylist()):
        try:
            rows.append(parse_record(value))
        except Dead as dead:
            said[index] = str(dead)
            rows.append({})
    columns = block.columns
    if len(rest):
        order = pa.array(np.argsort(np.concatenate([taken, rest])))
        others = [decode_column(column, rows, said) for column in source.schema]
        columns = [pa.concat_arrays(pair).take(order) for pair in zip(columns, others, strict=True)]
    reasons: list[str | None] = [None] * len(values)
    for place, reason in zip(rest.tolist(), said, strict=True):
        reasons[place] = reason
    if not source.erased:
        return columns, reasons, []
    ids = {c.name: array.to_pylist() for c, array in zip(source.schema, columns, strict=True) if c.name in asked}
    fields: list[Fields] = [dict(zip(ids, found, strict=True)) for found in zip(*ids.values(), strict=True)]
    fields = fields or [{}] * len(values)
    for place, row in zip(rest.tolist(), rows, strict=True):
        fields[place] = row
    return columns, reasons, fields


def _mark_erased(
    erased: Erased,
    fields: Sequence[Fields],
    values: pa.Array,
    keys: Sequence[bytes | None] | None,
    headers: Sequence[Any] | None,
    reasons: list[str | None],
) -> None:
    """A record of an erased id is dead for that reason before any other; one that is dead anyway, if it holds one."""
    for index, found in enumerate(fields):
        key = keys[index] if keys else None
        if erased.names(found, key) or (
            reasons[index] is not None
            and erased.within((values[index].as_py(), key, *header_bytes(headers[index] if headers else None)))
        ):
            reasons[index] = ERASED


def _check_operation(name: str, operations: pa.Array, reasons: list[str | None]) -> None:
    known = pc.is_in(operations, value_set=pa.array([INSERT, RETRACT, None], pa.string()))
    for index in pc.indices_nonzero(pc.invert(known)).to_pylist():
        reasons[index] = reasons[index] or f"{name}: neither {INSERT} nor {RETRACT}"


def _check_distance(source: SourceDefinition, events: pa.Array, times: pa.Array, reasons: list[str | None]) -> None:
    ahead = pc.subtract(events.cast(pa.int64()), times.cast(pa.int64()))
    for limit, sign, text in ((source.max_ahead, 1, "ahead of"), (source.max_behind, -1, "behind")):
        if limit is not None:
            beyond = pc.greater(pc.multiply(ahead, sign), limit)
            for index in pc.indices_nonzero(pc.fill_null(beyond, False)).to_pylist():
                reasons[index] = reasons[index] or f"event time too far {text} the record's"


def decoded_from(source: SourceDefinition) -> list[str]:
    """The record's columns that decide what it decodes to."""
    return ["_timestamp", "_value", *(["_key", "_headers"] if source.erased else [])]


def decode_batches(
    source: SourceDefinition, keep: Sequence[str], columns: Sequence[str] | None = None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `mapInArrow`: from batches with the columns of `decoded_from` to the `keep` columns, those of the
    source's schema that are in `columns` (by default all), and `_reason`."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield decode_batch(source, batch, keep, columns)

    return run


def decode_batch(
    source: SourceDefinition, batch: pa.RecordBatch, keep: Sequence[str], columns: Sequence[str] | None = None
) -> pa.RecordBatch:
    """The same for one batch."""
    places = [batch.column(name).to_pylist() for name in decoded_from(source)[2:]]
    decoded, dead = decode_values(source, batch.column("_value"), batch.column("_timestamp"), *places)
    found = {column.name: array for column, array in zip(source.schema, decoded, strict=True)}
    wanted = {name: array for name, array in found.items() if columns is None or name in columns}
    return pa.RecordBatch.from_pydict({**{name: batch.column(name) for name in keep}, **wanted, "_reason": dead})
