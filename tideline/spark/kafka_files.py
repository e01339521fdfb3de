"""Ranges of Kafka's log as files of the master: each task reads, decodes and writes a piece of one partition.

Few records are read and written in the driver: to start a job takes longer.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from tideline.cut import Cut
from tideline.decode import decode_batch
from tideline.erased import ERASED
from tideline.source import SourceDefinition
from tideline.spark.kafka import LogRange, collect_pieces
from tideline.spark.piece_files import TOLD, PieceFile, Telling, piece_files
from tideline.spark.ranges import MASTER_COLUMNS
from tideline.spark.worker_folds import gathered

FEW = 100_000  # records that are read and written in the driver: to start a job takes as long
_UNLIKE = frozenset({"_offset", "_hash", "_timestamp", "_key", "_value"})
"""Columns whose values hardly come twice: no dictionary is tried on them, nor on an event's id."""


def mark(source: SourceDefinition, file: PieceFile, repeated: npt.NDArray[np.int64]) -> None:
    """Writes a file again where it holds some of these offsets, with `_duplicate` at them."""
    repeated = repeated[np.isin(repeated, file.offsets)]
    if not len(repeated):
        return
    with pq.ParquetFile(file.path) as parquet:
        tables = [parquet.read_row_group(number) for number in range(parquet.num_row_groups)]
    place = tables[0].column_names.index("_duplicate")
    with _writer(source, file.path, tables[0].schema) as writer:
        for table in tables:
            flags = pa.array(np.isin(table["_offset"].to_numpy(), repeated))
            writer.write_table(table.set_column(place, "_duplicate", flags))


def kafka_files(
    spark: SparkSession, bootstrap: str, source: SourceDefinition, begin: Cut, end: Cut, folder: Path
) -> list[PieceFile]:
    """Writes the records of [begin, end) into a folder, none of them marked as a repeat.

    Ids are there where repeats are looked for. A range that Kafka lacks is an error.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tables = gathered(_stored(source, decode_batch(source, batch, MASTER_COLUMNS)) for batch in batches)
        for first in tables:
            yield _written(source, chain([first], tables), folder / f"part-{uuid.uuid4()}.snappy.parquet")

    few = end.count_since(begin) <= FEW
    log = LogRange(bootstrap, source.topic, begin, end)
    told = collect_pieces(None if few else spark, log, MASTER_COLUMNS, run, TOLD)
    return piece_files(told, folder)


def _written(source: SourceDefinition, tables: Iterator[pa.Table], file: Path) -> pa.RecordBatch:
    """Writes a file; what is told of it."""
    first, telling = next(tables), Telling(source)
    with _writer(source, file, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)
            telling.add(table)
    return telling.told(file)


def _writer(source: SourceDefinition, file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    alike = [name for name in schema.names if name not in _UNLIKE | {source.event_id}]
    options = {"write_page_checksum": True, "store_schema": False}
    return pq.ParquetWriter(file, schema, compression="snappy", use_dictionary=alike, **options)


def _stored(source: SourceDefinition, events: pa.RecordBatch) -> pa.RecordBatch:
    """Events as the master has them: without headers rather than with none, of an erased record its place and hash."""
    columns = dict(zip(events.schema.names, events.columns, strict=True))
    headers = columns["_headers"]
    columns["_headers"] = _without(headers, pc.equal(pc.list_value_length(headers), 0))
    if source.erased:
        erased = pc.equal(columns["_reason"], ERASED)
        columns |= {name: _without(columns[name], erased) for name in ("_key", "_headers", "_value")}
    return pa.RecordBatch.from_pydict({**columns, "_duplicate": pa.array(np.zeros(len(events), np.bool_))})


def _without(column: pa.Array, places: pa.Array) -> pa.Array:
    """The column with null at these places."""
    gone = pc.fill_null(places, False).to_numpy(zero_copy_only=False)
    return column.take(pa.array(np.arange(len(column)), mask=gone)) if gone.any() else column
