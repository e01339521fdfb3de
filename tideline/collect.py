"""From folded rows, as Arrow tables, to the states that the store keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tideline.fold_plan import LOG_DEAD, LOG_DUPLICATE, LOG_EVENT, LOG_REJECT, LOG_VIEW, FoldPlan, PlannedView
from tideline.ledger import LogStats
from tideline.plans import Folded, Row
from tideline.types import Column, parse_text

Tables = Mapping[int, pa.Table]
"""A fold's result: by the number of each view that has rows, and of the log's own, its group columns and slots."""


def collect(fold: FoldPlan, *tables: Tables) -> Folded:
    """The states of a fold's results over parts of a range; a group has as many as there are results that hold it."""
    logs = [table[LOG_VIEW] for table in tables if LOG_VIEW in table]
    log, rejects = log_stats(fold, pa.concat_tables(logs)) if logs else ({}, {})
    rows = {
        planned.view.fingerprint: list(chain.from_iterable(_rows(planned, table) for table in found))
        for planned in fold.planned
        if (found := [table[planned.index] for table in tables if planned.index in table])
    }
    return Folded(rows, log, rejects)


def by_view(table: pa.Table) -> Tables:
    """The rows of Spark's fold by view."""
    ordered = table.take(pc.sort_indices(table["view"])).combine_chunks()
    numbers, counts = np.unique(ordered["view"].to_numpy(), return_counts=True)
    ends = np.cumsum(counts)
    places = zip(numbers.tolist(), counts.tolist(), ends.tolist(), strict=True)
    return {number: ordered.slice(end - count, count) for number, count, end in places}


PACKED = "view int, rows binary"
"""Results as Spark carries them between its processes: each view's table as an Arrow stream."""


def packed(tables: Tables) -> pa.RecordBatch:
    """A fold's result as rows of `PACKED`."""
    rows = []
    for table in tables.values():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        rows.append(sink.getvalue().to_pybytes())
    return pa.RecordBatch.from_arrays([pa.array(tables, pa.int32()), pa.array(rows, pa.binary())], ["view", "rows"])


def unpacked(table: pa.RecordBatch) -> list[Tables]:
    """The results that `packed` packed, one for each row."""
    pairs = zip(table["view"].to_pylist(), table["rows"].to_pylist(), strict=True)
    return [{view: pa.ipc.open_stream(rows).read_all()} for view, rows in pairs]


def python_values(column: pa.ChunkedArray) -> list[Any]:
    """`column.to_pylist()`, which takes 0.1 us a value and more, by way of numpy where that tells the same.

    Decimals without a fraction may be whole numbers.
    """
    if column.null_count == len(column):
        return [None] * len(column)
    kind = column.type
    if pa.types.is_decimal(kind) and kind.scale == 0:
        with contextlib.suppress(pa.ArrowInvalid):  # beyond 64 bits
            column = column.cast(pa.int64())
            kind = column.type
    if pa.types.is_string(kind) or (
        not column.null_count and (pa.types.is_integer(kind) or pa.types.is_floating(kind))
    ):
        with contextlib.suppress(pa.ArrowException):  # text that is not UTF-8, which `to_pylist` names
            found: list[Any] = column.to_numpy().tolist()
            return found
    plain: list[Any] = column.to_pylist()
    return plain


def log_stats(fold: FoldPlan, table: pa.Table) -> tuple[dict[int, LogStats], dict[str, int]]:
    """The log's counts by partition, and the rejected events by view, from the rows of the log's own view."""
    fingerprints = {str(planned.index): planned.view.fingerprint for planned in fold.planned}
    log: dict[int, LogStats] = {}
    rejects: dict[str, int] = {}
    names = ["kn0", "bucket", "kt0", *fold.log_slots]
    for partition, status, text, records, checksum, latest in zip(*(table[n].to_pylist() for n in names), strict=True):
        if status == LOG_REJECT:
            for view in map(fingerprints.__getitem__, text.split(",")):
                rejects[view] = rejects.get(view, 0) + records
            continue
        stats = LogStats(
            records=records,
            checksum=checksum,
            events=records if status == LOG_EVENT else 0,
            dead={text: records} if status == LOG_DEAD else {},
            duplicates=records if status == LOG_DUPLICATE else 0,
            max_event_time=latest,
        )
        log[partition] = log[partition].merge(stats) if partition in log else stats
    return log, rejects


def key_reader(column: Column) -> Any:
    """A function from a slot's value to the key's wire value; None where they are the same."""
    kind = column.type
    if kind.name == "boolean":
        return lambda value: None if value is None else bool(value)
    if kind.name == "string" or kind.name in ("timestamp", "date") or kind.is_integer:
        return None
    return lambda value: None if value is None else parse_text(kind, value)


def _rows(planned: PlannedView, table: pa.Table) -> list[Row]:
    view, counted = planned.view, _counted(planned, table) if planned.entries else {}
    scalar = table.filter(pc.equal(table["entry"], 0)) if planned.entries else table
    raw, buckets = _groups(planned, scalar)
    states = []
    for name, measure in view.measures.items():
        if name in planned.entries:
            entries = counted[planned.entries[name]]
            groups = zip(*raw, buckets, strict=True)
            states.append([measure.from_entries(entries.get(group, {})) for group in groups])
        else:
            states.append(measure.states([python_values(scalar[slot]) for slot in planned.part_slots[name]]))
    columns = []
    for column, values in zip(view.key, raw, strict=True):
        read = key_reader(column)
        columns.append(values if read is None else [read(value) for value in values])
    keys: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if columns else ((),) * len(scalar)
    return list(zip(keys, buckets, zip(*states, strict=True), strict=True))


def _groups(planned: PlannedView, table: pa.Table) -> tuple[list[list[Any]], list[Any]]:
    """The columns of keys and the buckets as they stand in their slots, where NaN is a text that equals itself."""
    return [python_values(table[slot]) for slot in planned.key_slots], python_values(table["bucket"])


def _counted(planned: PlannedView, table: pa.Table) -> dict[int, dict[Any, dict[Any, int]]]:
    """The categories of measures whose states are maps: by the measure's number and the group's slots."""
    counted: dict[int, dict[Any, dict[Any, int]]] = {number: {} for number in planned.entries.values()}
    raw, buckets = _groups(planned, table)
    columns = (table[name].to_pylist() for name in ("entry", "entry_text", "entry_number", "weight"))
    for group, number, text, value, weight in zip(zip(*raw, buckets, strict=True), *columns, strict=True):
        if number:
            counted[number].setdefault(group, {})[value if text is None else text] = weight
    return counted
