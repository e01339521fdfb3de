"""Folded rows of a view as the table of a segment, by Arrow: what `spark.states.segment_rows` makes of Spark's."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tideline.arrow_types import arrow_type
from tideline.fold_plan import PlannedView
from tideline.measures.base import Part
from tideline.types import TIMESTAMP, Column


def segment_table(planned: PlannedView, rows: pa.Table) -> pa.Table:
    """The states of a view without entries whose groups come once each: its keys, `bucket`, a struct for each measure.

    Raises ArrowInvalid where a sum has outgrown its type.
    """
    view = planned.view
    columns = {column.name: _key(column, rows[slot]) for column, slot in zip(view.key, planned.key_slots, strict=True)}
    columns["bucket"] = rows["bucket"].cast(arrow_type(TIMESTAMP))
    for name, measure in view.measures.items():
        parts = {
            part.name: (part, rows[slot]) for part, slot in zip(measure.parts(), planned.part_slots[name], strict=True)
        }
        arrays = [column.cast(part_type(part)).combine_chunks() for part, column in parts.values()]
        columns[name] = pa.StructArray.from_arrays(arrays, list(parts))
    return pa.table(columns)


def from_floor(table: pa.Table, floor: int) -> pa.Table:
    """The rows of a segment from a bucket on."""
    return table.filter(pc.greater_equal(table["bucket"], pa.scalar(floor, arrow_type(TIMESTAMP))))


def _key(column: Column, slot: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if kind.name == "date":
        slot = slot.cast(pa.int32())
    return slot.cast(arrow_type(kind))


def part_type(part: Part) -> pa.DataType:
    """The Arrow type of a part's result; sums are wide enough to be added up for good."""
    kind = arrow_type(part.type)
    match part.function:
        case "count":
            return pa.int64()
        case "sum":
            return pa.float64() if part.type.is_floating else pa.decimal128(38, part.type.scale)
        case "first" | "last":
            place = {"at": pa.int64(), "partition": pa.int32(), "offset": pa.int64()}
            return pa.struct({**place, "value": kind})
        case "moments":
            return pa.struct({"n": pa.int64(), "mean": pa.float64(), "m2": pa.float64()})
        case "hll":
            return pa.binary()
    return kind
