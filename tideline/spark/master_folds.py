"""Ranges of the master dataset folded by Arrow: each task reads some of the table's files, with no row of Spark's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from tideline import delta_files
from tideline.arrow_types import arrow_type
from tideline.collect import PACKED, Tables
from tideline.cut import Cut
from tideline.fold_plan import FoldPlan
from tideline.runtime.collector import collect_seldom_here
from tideline.spark.ranges import Bounds, bounds_of, may_hold
from tideline.spark.worker_folds import FEW, folds, results
from tideline.types import Column, ColumnType

_PIECES = 2  # tasks for each core, as files are not of a size
_ROWS = 1 << 17  # of a batch
_PLACE = pa.schema({"_partition": pa.int32(), "_offset": pa.int64()})


def master_folds(
    spark: SparkSession, path: Path, plan: FoldPlan, begin: Cut, end: Cut, version: int | None
) -> list[Tables] | None:
    """[begin, end) of a plan that is plain, folded; `version` is the table's, by default the newest.

    A result for each part of it; None where the events are not as plain as the plan.
    """
    bounds = bounds_of(plan.source.topic, begin, end)
    files = delta_files.live(path, version).whole(lambda file: may_hold(file, bounds))
    schema = _schema(plan)

    def folded(paths: Iterable[Path]) -> Iterator[pa.RecordBatch]:
        return folds(plan, (batch for path in paths for batch in _read(path, schema, bounds)))

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        collect_seldom_here()
        return folded(files[number] for batch in batches for number in batch.column("id").to_pylist())

    if sum(high - low for _, low, high in bounds) <= FEW:
        return results(folded(files))
    tasks = min(len(files), _PIECES * spark.sparkContext.defaultParallelism)
    return results(spark.range(0, len(files), 1, max(1, tasks)).mapInArrow(run, PACKED).toArrow().to_batches())


def _schema(plan: FoldPlan) -> pa.Schema:
    flags = (Column("_hash", ColumnType("bigint")), Column("_reason", ColumnType("string")))
    wanted = (*flags, Column("_duplicate", ColumnType("boolean")), *plan.used_columns)
    return pa.schema([*_PLACE, *(pa.field(column.name, arrow_type(column.type)) for column in wanted)])


def _read(file: Path, schema: pa.Schema, bounds: Bounds) -> Iterator[pa.RecordBatch]:
    """The rows of a file that lie within bounds. Raises OSError, which names the file, where it is damaged."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True, coerce_int96_timestamp_unit="us") as parquet:
            there = set(parquet.schema_arrow.names)
            for batch in parquet.iter_batches(_ROWS, columns=[name for name in schema.names if name in there]):
                columns = [_column(batch, field) for field in schema]
                yield _within(pa.RecordBatch.from_arrays(columns, schema=schema), bounds)
    except (OSError, pa.ArrowException) as error:
        raise OSError(f"{file}: {error}") from error


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    """A column as events have it; nulls where the file was written before there was one."""
    if field.name not in batch.schema.names:
        return pa.nulls(len(batch), field.type)
    found = batch.column(field.name)
    return found if found.type == field.type else found.cast(field.type)


def _within(batch: pa.RecordBatch, bounds: Bounds) -> pa.RecordBatch:
    partitions, offsets = (batch.column(name).to_numpy() for name in _PLACE.names)
    kept = np.zeros(len(batch), np.bool_)
    for partition, low, high in bounds:
        kept |= (partitions == partition) & (offsets >= low) & (offsets < high)
    return batch if kept.all() else batch.filter(pa.array(kept))
