"""Segments: building a view's states from the master, keeping them in Delta, and copying them to the serving store.

Every view has one Delta table, partitioned by segment id. An incremental run adds a segment for the new events. Once a
view has six, the last ones are merged with the new one, as long as they are no larger than twice what is merged: so the
number of segments stays small and the cost of merging is amortised.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tideline import delta_log
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.errors import OutsideError
from tideline.ledger import Segment
from tideline.merge import Row, segment_items
from tideline.spark.fold import PlannedView
from tideline.spark.states import merge_states, rows_of, segment_rows
from tideline.stores import Store
from tideline.stores.base import Item

FORMAT = 1
_LOAD_ROWS = 10_000  # rows of one write transaction: the speed layer's commits go between
_READ_ROWS = 20_000
_MANY_SEGMENTS = 6  # a lookup touches no more, and the new one
_DEAD_SEGMENTS = 4  # so many unreferenced segments of a view are removed together
_KEEP_FILES = 3600.0  # seconds that a Delta reader may still need the files of a removed segment


@dataclass(frozen=True)
class Built:
    """A segment that is in Delta and in the store, and those that it takes the place of."""

    segment: Segment
    replaces: tuple[int, ...]


class Segments:
    """The segment tables of an installation."""

    def __init__(self, spark: SparkSession, store: Store, folder: Path) -> None:
        self.spark = spark
        self.store = store
        self.folder = folder
        self._removed: set[int] = set()

    def table(self, view: ViewDefinition) -> Path:
        """Where a view's segments are."""
        return self.folder / f"{view.name}-{view.fingerprint}"

    def build(
        self,
        id: int,
        folded: DataFrame,
        planned: PlannedView,
        begin: Cut,
        end: Cut,
        rows: int,
        floor: int | None,
        earlier: Sequence[Segment],
    ) -> Built:
        """Writes the segment [begin, end) of a view, merged with the last of the `earlier` ones where they are small.

        `rows` is how many states the new events gave; buckets before `floor` (microseconds) are left out.
        """
        view = planned.view
        merged = _to_merge(earlier, rows)
        states = segment_rows(folded, planned)
        mode = "incremental" if earlier else "full"
        if merged:
            begin, mode = merged[0].begin, "compacted"
            states = merge_states(self._read(view, merged).unionByName(states), view)
        if floor is not None:
            states = states.where(F.expr(f"unix_micros(bucket) >= {floor}"))
        files = self._write(view, id, states) if rows or merged else ()
        loaded = self._load(view, f"s{id}", files)
        return Built(Segment(id, view.fingerprint, begin, end, loaded, mode), tuple(segment.id for segment in merged))

    def _read(self, view: ViewDefinition, segments: Sequence[Segment]) -> DataFrame:
        ids = [segment.id for segment in segments]
        table = self.spark.read.format("delta").load(str(self.table(view)))
        return table.where(F.col("segment").isin(ids)).drop("segment")

    def _write(self, view: ViewDefinition, id: int, states: DataFrame) -> tuple[Path, ...]:
        table = self.table(view)
        rows = states.withColumn("segment", F.lit(id).cast("bigint"))
        writer = rows.write.format("delta").mode("append").partitionBy("segment")
        writer.option("userMetadata", f'{{"format": {FORMAT}, "segment": {id}}}').save(str(table))
        commit = delta_log.newest(table)
        if commit.metadata.get("segment") != id:
            raise OutsideError(
                "TWO_WRITERS", f"{table} was written by another process", "run one batch layer", path=str(table)
            )
        delta_log.sync(table, commit)
        return commit.files

    def _load(self, view: ViewDefinition, space: str, files: Sequence[Path]) -> int:
        """Copies a segment's files into a space of the store, in short transactions; how many rows."""
        items = segment_items(view, _states(view, files))
        for chunk in _chunks(items, _LOAD_ROWS):
            with self.store.write() as txn:
                txn.load(space, chunk)
        return len(items)

    def remove_dead(self, view: ViewDefinition, live: frozenset[int]) -> None:
        """Deletes a view's segments that nothing names any more, once there are some, and their files an hour later.

        Delta's own vacuum would take seconds to find what the names of the folders say.
        """
        table = self.table(view)
        dead = {id: folder for id, folder in _segments_on_disk(table).items() if id not in live}
        fresh = dead.keys() - self._removed
        if len(fresh) >= _DEAD_SEGMENTS:
            self.spark.sql(f"delete from delta.`{table}` where segment in ({', '.join(map(str, fresh))})")
            for id in fresh:
                os.utime(dead[id])
            self._removed |= fresh
        for id in dead.keys() & self._removed:
            if time.time() - dead[id].stat().st_mtime > _KEEP_FILES:
                shutil.rmtree(dead[id])

    def remove_views(self, kept: Sequence[ViewDefinition]) -> None:
        """Removes the tables of views that the ledger no longer knows."""
        names = {self.table(view).name for view in kept}
        for table in self.folder.iterdir() if self.folder.is_dir() else ():
            if table.name not in names:
                shutil.rmtree(table)


def _states(view: ViewDefinition, files: Sequence[Path]) -> Iterator[Row]:
    """The rows of a segment's files."""
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(_READ_ROWS):
                yield from rows_of(view, batch)


def _to_merge(earlier: Sequence[Segment], rows: int) -> list[Segment]:
    """The last segments that are small beside the new one, once a view has many; at least one then."""
    merged: list[Segment] = []
    total = rows
    if len(earlier) < _MANY_SEGMENTS:
        return merged
    for segment in reversed(earlier):
        if merged and segment.rows > 2 * total:
            break
        merged.insert(0, segment)
        total += segment.rows
    return merged


def _segments_on_disk(table: Path) -> dict[int, Path]:
    return {int(folder.name.partition("=")[2]): folder for folder in table.glob("segment=*")}


def _chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`; one empty list where there are none, so that an empty segment exists too."""
    iterator = iter(items)
    yield list(islice(iterator, size))
    while chunk := list(islice(iterator, size)):
        yield chunk
