"""From folded rows, as Arrow hands them over, to the states that the store keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tideline.ledger import LogStats
from tideline.plans import Folded, Row
from tideline.spark.fold import LOG_DEAD, LOG_DUPLICATE, LOG_EVENT, LOG_REJECT, LOG_VIEW, Fold, PlannedView
from tideline.types import Column, parse_text


def collect(fold: Fold, table: pa.Table) -> Folded:
    """The states of a fold's result."""
    by_view = {index: table.filter(pc.equal(table["view"], index)) for index in pc.unique(table["view"]).to_pylist()}
    empty = table.slice(0, 0)
    log, rejects = log_stats(fold, by_view.get(LOG_VIEW, empty))
    rows = {p.view.fingerprint: list(_rows(p, by_view[p.index])) for p in fold.planned if p.index in by_view}
    return Folded(rows, log, rejects)


def log_stats(fold: Fold, table: pa.Table) -> tuple[dict[int, LogStats], dict[str, int]]:
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


def _rows(planned: PlannedView, table: pa.Table) -> Iterator[Row]:
    view = planned.view
    keys = []
    for column, slot in zip(view.key, planned.key_slots, strict=True):
        values, read = table[slot].to_pylist(), key_reader(column)
        keys.append(values if read is None else [read(value) for value in values])
    groups = list(
        zip(zip(*keys, strict=True) if keys else ((),) * len(table), table["bucket"].to_pylist(), strict=True)
    )
    numbers = table["entry"].to_pylist() if planned.entries else []
    counted: dict[int, dict[Any, dict[Any, int]]] = {number: {} for number in planned.entries.values()}
    if counted:
        entry_columns = (table[name].to_pylist() for name in ("entry_text", "entry_number", "weight"))
        for group, number, text, value, weight in zip(groups, numbers, *entry_columns, strict=True):
            if number:
                counted[number].setdefault(group, {})[value if text is None else text] = weight
    scalar = table.filter(pc.equal(table["entry"], 0)) if counted else table
    groups = [group for group, number in zip(groups, numbers, strict=True) if not number] if counted else groups
    states = []
    for name, measure in view.measures.items():
        if name in planned.entries:
            entries = counted[planned.entries[name]]
            states.append([measure.from_entries(entries.get(group, {})) for group in groups])
        else:
            columns = [scalar[slot].to_pylist() for slot in planned.part_slots[name]]
            states.append([measure.from_parts(values) for values in zip(*columns, strict=True)])
    for (key, bucket), row in zip(groups, zip(*states, strict=True), strict=True):
        yield key, bucket, list(row)
