"""Finding repeated events in a micro-batch, by the ids of the previous offsets (invariant 11)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tideline.duplicates import DuplicateIndex
from tideline.source import SourceDefinition
from tideline.spark.events import identity_sql

Ids = tuple[int, npt.NDArray[np.int64], npt.NDArray[np.uint64]]


def ids_by_partition(table: pa.Table) -> Iterator[Ids]:
    """(partition, ascending offsets, hashes of shape (n, 2)) of a table of `_partition`, `_offset` and 16-byte `id`."""
    ordered = table.sort_by([("_partition", "ascending"), ("_offset", "ascending")])
    for partition in pc.unique(ordered["_partition"]).to_pylist():
        part = ordered.filter(pc.equal(ordered["_partition"], partition))
        offsets = part["_offset"].to_numpy().astype(np.int64)
        joined = pc.binary_join(pa.array([part["id"].to_pylist()], pa.list_(pa.binary())), b"")[0].as_buffer()
        yield partition, offsets, np.frombuffer(joined, np.uint64).reshape(-1, 2)


class Repeats:
    """The index of one source's recent ids, and what the micro-batch in hand will add to it."""

    def __init__(self, source: SourceDefinition) -> None:
        self.source = source
        self.index = DuplicateIndex(source.horizon)
        self._pending: list[Ids] = []

    def load(self, ids: pa.Table) -> None:
        """Fills the index from the ids before the cut."""
        for partition, offsets, hashes in ids_by_partition(ids):
            self.index.add(partition, offsets, hashes)

    def flag(self, events: DataFrame) -> DataFrame:
        """The events with `_duplicate`. Runs a job over them, so they should be cached."""
        table = (
            events.where("_reason is null")
            .selectExpr("_partition", "_offset", f"{identity_sql(self.source)} as id")
            .toArrow()
        )
        self._pending = list(ids_by_partition(table))
        found = [
            (partition, offsets[self.index.flag(offsets, hashes, partition)])
            for partition, offsets, hashes in self._pending
        ]
        partitions = [np.full(len(offsets), partition, np.int32) for partition, offsets in found]
        # One stretch of memory each: Spark drops what follows an empty chunk of an Arrow table.
        marks = pa.table(
            {
                "_partition": np.concatenate([np.empty(0, np.int32), *partitions]),
                "_offset": np.concatenate([np.empty(0, np.int64), *(offsets for _, offsets in found)]),
            }
        )
        if not marks.num_rows:
            return events.withColumn("_duplicate", F.lit(False))
        marked = events.sparkSession.createDataFrame(marks).withColumn("_repeated", F.lit(True))
        joined = events.join(F.broadcast(marked), ["_partition", "_offset"], "left")
        return joined.withColumn("_duplicate", F.expr("_repeated is not null")).drop("_repeated")

    def committed(self) -> None:
        """The micro-batch in hand is in the store: its ids count from now on."""
        for partition, offsets, hashes in self._pending:
            self.index.add(partition, offsets, hashes)
        self._pending = []
