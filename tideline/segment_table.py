"""Segments as tables, by Arrow: what `spark.states.segment_rows` and `merge_states` do by Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tideline.arrow_fold import COMBINED, grouped
from tideline.arrow_terms import plainly, without_nan
from tideline.arrow_types import arrow_type
from tideline.definition import ViewDefinition
from tideline.fold_plan import PlannedView, is_text_key
from tideline.measures.base import Part
from tideline.types import STRING, TIMESTAMP, Column


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


def can_merge(view: ViewDefinition) -> bool:
    """Whether `merge_tables` takes segments of a view."""
    plain = all(column.type == STRING or not is_text_key(column.type) for column in view.key)
    measures = view.measures.values()
    return plain and all(m.entries() is None and all(p.function in COMBINED for p in m.parts()) for m in measures)


def merge_tables(view: ViewDefinition, tables: Sequence[pa.Table]) -> pa.Table:
    """Segments of a view that `can_merge`: one row per key and bucket, its states merged.

    Raises NotPlain where a least or largest number may be NaN.
    """
    keys = {f"k{place}": (column.name, arrow_type(column.type)) for place, column in enumerate(view.key)}
    keys["bucket"] = "bucket", arrow_type(TIMESTAMP)
    parts = [(name, part) for name, measure in view.measures.items() for part in measure.parts()]
    with plainly():
        flat = [_flat(table, keys, parts) for table in tables]
        wanted = [(f"s{place}", COMBINED[part.function], None, f"s{place}") for place, (_, part) in enumerate(parts)]
        together = pa.concat_tables(flat)
        merged = grouped(together, list(keys), wanted) if len(together) else together
        columns = {name: merged[slot].cast(kind) for slot, (name, kind) in keys.items()}
        for name, measure in view.measures.items():
            places = [place for place, (of, _) in enumerate(parts) if of == name]
            arrays = [merged[f"s{place}"].cast(part_type(parts[place][1])).combine_chunks() for place in places]
            columns[name] = pa.StructArray.from_arrays(arrays, [part.name for part in measure.parts()])
        return pa.table(columns)


def _flat(table: pa.Table, keys: Mapping[str, tuple[str, pa.DataType]], parts: Sequence[tuple[str, Part]]) -> pa.Table:
    columns = {slot: table[name].cast(kind) for slot, (name, kind) in keys.items()}
    for place, (name, part) in enumerate(parts):
        values = pc.struct_field(table[name], part.name).cast(part_type(part))
        columns[f"s{place}"] = without_nan(values) if part.function in ("min", "max") else values
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
