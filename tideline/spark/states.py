"""States as DataFrames: the rows of a batch segment, in columns that any Delta reader understands.

A segment has the view's key columns, `bucket` (the start of the time bucket, null for a view without), and one column a
measure: a struct of its parts, or a map from category to count. `merge_states` is the Spark twin of `Measure.merge`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tideline.collect import python_values
from tideline.definition import ViewDefinition
from tideline.fold_plan import PlannedView
from tideline.measures.base import Entries, Measure, Part
from tideline.spark.columns import quoted, slot_to_key
from tideline.types import BIGINT, ColumnType, to_wire


def part_type(part: Part) -> str:
    """The SQL type of a part's result; sums are wide enough to be added up for good."""
    kind = part.type.sql
    match part.function:
        case "count":
            return "bigint"
        case "sum":
            return "double" if part.type.is_floating else f"decimal(38,{part.type.scale})"
        case "first" | "last":
            return f"struct<at:bigint,partition:int,offset:bigint,value:{kind}>"
        case "moments":
            return "struct<n:bigint,mean:double,m2:double>"
        case "hll":
            return "binary"
    return kind


def entries_type(entries: Entries) -> str:
    """The SQL type of a map-like state."""
    return f"map<{entries.type.sql},bigint>"


def segment_rows(rows: DataFrame, planned: PlannedView) -> DataFrame:
    """The states of one view from its folded rows."""
    view = planned.view
    group = [*dict.fromkeys(planned.key_slots), "bucket"]
    columns: list[SparkColumn] = []
    for name, measure in view.measures.items():
        entries = measure.entries()
        if entries is not None:
            category = "entry_number" if entries.type == BIGINT else "entry_text"
            pair = f"if(entry = {planned.entries[name]}, struct({category}, weight), null)"
            state = F.expr(f"cast(map_from_entries(collect_list({pair})) as {entries_type(entries)})")
        else:
            parts = zip(measure.parts(), planned.part_slots[name], strict=True)
            one = "first(if(entry = 0, {0}, null), true)" if planned.entries else "{0}"
            fields = ", ".join(f"'{p.name}', cast({one.format(slot)} as {part_type(p)})" for p, slot in parts)
            state = F.expr(f"named_struct({fields})")
        columns.append(state.alias(name))
    # Without entries each row is a group of its own already.
    rows = rows.groupBy(*group).agg(*columns) if planned.entries else rows.select(*group, *columns)
    keys = [
        F.expr(slot_to_key(column, slot)).alias(column.name)
        for column, slot in zip(view.key, planned.key_slots, strict=True)
    ]
    return rows.select(
        *keys, F.expr("timestamp_micros(bucket)").alias("bucket"), *(quoted(name) for name in view.measures)
    )


def merge_states(rows: DataFrame, view: ViewDefinition) -> DataFrame:
    """One row per key and bucket, its states merged."""
    keys = [quoted(column.name) for column in view.key]
    columns = [_merged(name, measure).alias(name) for name, measure in view.measures.items()]
    return rows.groupBy(*keys, "bucket").agg(*columns)


def _merged(name: str, measure: Measure) -> SparkColumn:
    entries = measure.entries()
    column = quoted(name)
    if entries is not None:
        kind = entries_type(entries)
        add = "map_zip_with(a, b, (k, x, y) -> coalesce(x, 0L) + coalesce(y, 0L))"
        if type(measure) is not measure.plain:
            add = f"map_filter({add}, (k, n) -> n <> 0)"
        return F.expr(f"aggregate(collect_list({column}), cast(map() as {kind}), (a, b) -> {add})")
    fields = ", ".join(
        f"'{p.name}', cast({_merged_part(p, f'{column}.{p.name}')} as {part_type(p)})" for p in measure.parts()
    )
    return F.expr(f"named_struct({fields})")


def _merged_part(part: Part, sql: str) -> str:
    if part.function == "moments":
        return _merged_moments(sql)
    if part.function == "hll":
        return f"hll_union_agg({sql}, true)"
    return {"count": "sum", "first": "min", "last": "max"}.get(part.function, part.function) + f"({sql})"


def _merged_moments(sql: str) -> str:
    """Chan's formula, state by state, as `measures.numbers.merge_moments` has it."""
    zero = "named_struct('n', 0L, 'mean', 0D, 'm2', 0D)"
    count = "(a.n + b.n)"
    mean = f"(a.n * a.mean + b.n * b.mean) / {count}"
    m2 = f"a.m2 + b.m2 + (b.mean - a.mean) * (b.mean - a.mean) * a.n * b.n / {count}"
    both = f"named_struct('n', {count}, 'mean', {mean}, 'm2', {m2})"
    step = f"case when b.n = 0 or b.n is null then a when a.n = 0 then b else {both} end"
    return f"aggregate(collect_list({sql}), {zero}, (a, b) -> {step})"


def _wire_values(kind: ColumnType, column: pa.ChunkedArray) -> list[Any]:
    values = python_values(column)
    return values if kind.name == "string" or kind.is_integer else [to_wire(kind, value) for value in values]


def rows_of(
    view: ViewDefinition, table: pa.Table | pa.RecordBatch
) -> Iterator[tuple[tuple[Any, ...], int | None, list[Any]]]:
    """(key, bucket, states) in wire values of a segment's rows as Arrow holds them."""
    table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    keys = [_wire_values(c.type, table[c.name]) for c in view.key]
    buckets = python_values(table["bucket"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()))
    states = []
    for name, measure in view.measures.items():
        if measure.entries() is not None:
            states.append([measure.from_entries(dict(value or ())) for value in table[name].to_pylist()])
        else:
            parts = [python_values(pc.struct_field(table[name], part.name)) for part in measure.parts()]
            states.append(measure.states(parts))
    columns = zip(*keys, strict=True) if keys else iter([()] * len(buckets))
    for key, bucket, row in zip(columns, buckets, zip(*states, strict=True), strict=True):
        yield key, bucket, list(row)
