"""Segments: building a view's states from the master, keeping them in Delta, and copying them to the serving store.

Every view has one Delta table, partitioned by segment id. An incremental run adds a segment for the new events. The
last ones are merged with the new one as long as they are no larger than twice what is merged, where that is a moment's
work, and where a view has six: so the number of segments stays small and the cost of merging is amortised.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from batch_layer.loading import load_segment, to_merge
from batch_layer.parts import Built, Task
from tideline import delta_files, delta_log
from tideline.arrow_terms import NotPlain
from tideline.definition import ViewDefinition
from tideline.ledger import Segment
from tideline.merge import Row
from tideline.points import reach
from tideline.segment_table import can_merge, from_floor, merge_tables
from tideline.spark.faults import TableFault, table_faults
from tideline.spark.states import merge_states, rows_of
from tideline.spark.tables import read_files, table_schema, write_files
from tideline.stores import Store

FORMAT = 1
States: TypeAlias = "pa.Table | DataFrame | None"
"""Rows of a segment: in memory, as Spark will compute them, or none."""
_READ_ROWS = 20_000
_IN_MEMORY = 1_000_000  # rows that are merged in the driver
_DEAD_SEGMENTS = 4  # so many unreferenced segments of a view are removed together
_KEEP_FILES = 3600.0  # seconds that a Delta reader may still need the files of a removed segment


class Segments:
    """The segment tables of an installation."""

    def __init__(self, spark: SparkSession, store: Store, folder: Path) -> None:
        self.spark = spark
        self.store = store
        self.folder = folder

    def table(self, view: ViewDefinition) -> Path:
        """Where a view's segments are."""
        return self.folder / f"{view.name}-{view.fingerprint}"

    def build(self, task: Task, states: States, rows: int) -> Built:
        """Writes a segment, merged with the last of the earlier ones where they are small, and loads it.

        `states` are those of the new events, of `rows` keys and buckets.
        """
        table = self.table(task.view)
        delta_log.check(table)
        with table_faults(table, "SEGMENTS_DAMAGED"):
            return self._build(task, states, rows)

    def _build(self, task: Task, states: States, rows: int) -> Built:
        view, begin = task.view, task.begin
        merged = to_merge(task.published, rows, can_merge(view))
        mode = "incremental" if task.earlier else "full"
        if merged:
            begin, mode = merged[0].begin, "compacted"
        if held := [segment for segment in merged if segment.rows]:  # the table of a view without states is not there
            states = self._merged(view, held, states)
        if task.floor is not None:
            states = _from_floor(states, task.floor)
        reach("segment.write")
        files = self._write(view, task.id, states) if states is not None and (rows or held) else ()
        segment = Segment(task.id, view.fingerprint, begin, task.end, 0, mode)
        loaded = load_segment(self.store, view, segment, _rows(view, states if isinstance(states, pa.Table) else files))
        return Built(loaded, tuple(segment.id for segment in merged))

    def _merged(self, view: ViewDefinition, segments: Sequence[Segment], states: States) -> pa.Table | DataFrame:
        if can_merge(view) and not isinstance(states, DataFrame) and sum(s.rows for s in segments) <= _IN_MEMORY:
            with suppress(NotPlain):
                return merge_tables(view, [*self._tables(view, segments), *(() if states is None else (states,))])
        known = self._read(view, segments)
        if isinstance(states, pa.Table):
            states = self.spark.createDataFrame(states.combine_chunks())
        return merge_states(known if states is None else known.unionByName(states), view)

    def _tables(self, view: ViewDefinition, segments: Sequence[Segment]) -> list[pa.Table]:
        """The same in memory, without Spark: a table for each file."""
        live, tables, found = delta_files.live(self.table(view)), list[pa.Table](), dict[int, int]()
        for segment in segments:
            of_segment = [_table(file) for file in live.whole(partial(_is_of, segment.id))]
            found[segment.id] = sum(map(len, of_segment))
            tables += of_segment
        self._check(view, segments, found)
        return tables

    def _read(self, view: ViewDefinition, segments: Sequence[Segment]) -> DataFrame:
        """The states of segments, all of them. Raises TableFault where the table and the ledger do not agree."""
        ids = [segment.id for segment in segments]
        rows = read_files(self.spark, self.table(view), lambda file: file["partition.segment"] in ids)
        self._check(view, segments, {row["segment"]: row["count"] for row in rows.groupBy("segment").count().collect()})
        return rows.drop("segment")

    def _check(self, view: ViewDefinition, segments: Sequence[Segment], found: Mapping[int, int]) -> None:
        for segment in segments:
            if found.get(segment.id, 0) != segment.rows:
                reason = f"segment {segment.id} has {segment.rows} rows, the table {found.get(segment.id, 0)}"
                raise TableFault("SEGMENTS_DAMAGED", path=str(self.table(view)), reason=reason)

    def _write(self, view: ViewDefinition, id: int, states: pa.Table | DataFrame) -> tuple[Path, ...]:
        table = self.table(view)
        folder = table / f"segment={id}"
        if folder.exists() and delta_files.exists(table):  # of a store that was put back to an earlier time
            delta_files.remove(table, f"segment = {id}")
        writer = delta_files.Writer(table_schema(states, segment="long"), {"segment": str(id)})
        writer.add(table, write_files(states, table, folder), {"format": FORMAT, "segment": id})
        commit = delta_files.settle(table)
        if commit.metadata.get("segment") != id:
            raise delta_files.two_writers(table)
        return commit.files

    def remove_dead(self, view: ViewDefinition, live: frozenset[int], before: int) -> None:
        """Deletes a view's segments that nothing names any more, once there are some, and their files an hour later.

        Those of an id from `before` on are left alone.

        Delta's own vacuum would take seconds to find what the names of the folders say.
        """
        table = self.table(view)
        dead = {id: folder for id, folder in _segments_on_disk(table).items() if id not in live and id < before}
        if not dead:
            return
        with table_faults(table, "SEGMENTS_DAMAGED"):
            listed = dead.keys() & {file["partition.segment"] for file in delta_files.live(table).files}
            if len(listed) >= _DEAD_SEGMENTS:
                delta_files.remove(table, f"segment in ({', '.join(map(str, listed))})")
                for id in listed:
                    os.utime(dead[id])
                listed = set()
            for id in dead.keys() - listed:
                if time.time() - dead[id].stat().st_mtime > _KEEP_FILES:
                    shutil.rmtree(dead[id])

    def remove_views(self, kept: Sequence[ViewDefinition], before: int) -> None:
        """Removes the tables of views that the ledger no longer knows, unless a segment has an id from `before` on."""
        names = {self.table(view).name for view in kept}
        for table in self.folder.iterdir() if self.folder.is_dir() else ():
            if table.name not in names and all(id < before for id in _segments_on_disk(table)):
                shutil.rmtree(table)


def _is_of(id: int, said: Mapping[str, Any]) -> bool:
    return bool(said["partition.segment"] == id)


def _table(file: Path) -> pa.Table:
    """A whole file. Raises OSError, which names it, where it is damaged."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True, coerce_int96_timestamp_unit="us") as parquet:
            return parquet.read()
    except (OSError, pa.ArrowException) as error:
        raise OSError(f"{file}: {error}") from error


def _from_floor(states: States, floor: int) -> States:
    if isinstance(states, pa.Table):
        return from_floor(states, floor)
    return states if states is None else states.where(F.expr(f"unix_micros(bucket) >= {floor}"))


def _rows(view: ViewDefinition, states: pa.Table | Sequence[Path]) -> Iterator[Row]:
    """The rows of a segment, from memory or from its files."""
    if isinstance(states, pa.Table):
        for batch in states.to_batches(_READ_ROWS):
            yield from rows_of(view, batch)
        return
    for file in states:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            for batch in parquet.iter_batches(_READ_ROWS):
                yield from rows_of(view, batch)


def _segments_on_disk(table: Path) -> dict[int, Path]:
    return {int(folder.name.partition("=")[2]): folder for folder in table.glob("segment=*")}
