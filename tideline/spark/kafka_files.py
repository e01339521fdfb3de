"""Ranges of Kafka's log as files of the master: each task reads, decodes and writes a piece of one partition.

Few records are read and written in the driver: to start a job takes longer.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from tideline.cut import Cut
from tideline.decode import decode_batch
from tideline.duplicates import Ids
from tideline.erased import ERASED
from tideline.identity import identities
from tideline.source import SourceDefinition
from tideline.spark.kafka import collect_pieces
from tideline.spark.ranges import MASTER_COLUMNS
from tideline.spark.worker_folds import FEW, gathered

_FOUND = pa.schema(
    {"file": pa.string(), "records": pa.int64(), "partition": pa.int32(), "offsets": pa.binary(), "ids": pa.binary()}
)
_UNLIKE = ("_offset", "_hash", "_timestamp", "_key", "_value")
"""Columns whose values hardly come twice: no dictionary is tried on them."""


@dataclass(frozen=True)
class MasterFile:
    """A file of a partition's records, and of its events the offsets and, of shape (n, 2), the 128-bit ids."""

    path: Path
    records: int
    partition: int
    offsets: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint64]

    def mark(self, repeated: npt.NDArray[np.int64]) -> None:
        """Writes it again where it holds some of these offsets, with `_duplicate` at them."""
        repeated = repeated[np.isin(repeated, self.offsets)]
        if not len(repeated):
            return
        with pq.ParquetFile(self.path) as file:
            tables = [file.read_row_group(number) for number in range(file.num_row_groups)]
        place = tables[0].column_names.index("_duplicate")
        with _writer(self.path, tables[0].schema) as writer:
            for table in tables:
                flags = pa.array(np.isin(table["_offset"].to_numpy(), repeated))
                writer.write_table(table.set_column(place, "_duplicate", flags))


def ids_of(files: Sequence[MasterFile]) -> Iterator[Ids]:
    """The ids of all files, by partition."""
    for partition in sorted({file.partition for file in files}):
        own = sorted((file for file in files if file.partition == partition and len(file.offsets)), key=_begin)
        if own:
            yield partition, np.concatenate([f.offsets for f in own]), np.concatenate([f.ids for f in own])


def _begin(file: MasterFile) -> int:
    return int(file.offsets[0])


def kafka_files(
    spark: SparkSession, bootstrap: str, source: SourceDefinition, begin: Cut, end: Cut, folder: Path
) -> list[MasterFile]:
    """Writes the records of [begin, end) into a folder, none of them marked as a repeat.

    Ids are there where repeats are looked for. A range that Kafka lacks is an error.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tables = gathered(_stored(source, decode_batch(source, batch, MASTER_COLUMNS)) for batch in batches)
        for first in tables:
            yield _written(source, chain([first], tables), folder / f"part-{uuid.uuid4()}.snappy.parquet")

    few = end.count_since(begin) <= FEW
    table = collect_pieces(None if few else spark, bootstrap, source.topic, begin, end, MASTER_COLUMNS, run, _FOUND)
    return [
        MasterFile(
            folder / row["file"],
            row["records"],
            row["partition"],
            np.frombuffer(row["offsets"], np.int64),
            np.frombuffer(row["ids"], np.uint64).reshape(-1, 2),
        )
        for row in table.to_pylist()
    ]


def _written(source: SourceDefinition, tables: Iterator[pa.Table], file: Path) -> pa.RecordBatch:
    """Writes a file; what `MasterFile` says of it."""
    first = next(tables)
    records, offsets, ids = 0, bytearray(), bytearray()
    with _writer(file, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)
            records += len(table)
            if source.event_id and source.horizon:
                events = table.filter(pc.is_null(table["_reason"]))
                offsets += events["_offset"].to_numpy().astype(np.int64).tobytes()
                ids += b"".join(identities(source, events))
    partition = first["_partition"][0].as_py()
    found: dict[str, Any] = {"file": file.name, "records": records, "partition": partition}
    return pa.RecordBatch.from_pylist([{**found, "offsets": bytes(offsets), "ids": bytes(ids)}], _FOUND)


def _writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    alike = [name for name in schema.names if name not in _UNLIKE]
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
