"""Finding repeated events in a micro-batch, by the ids of the previous offsets (invariant 11)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tideline.duplicates import Ids, RecentIds
from tideline.identity import identities
from tideline.source import SourceDefinition
from tideline.spark.events import identity_sql


def ids_by_partition(table: pa.Table) -> Iterator[Ids]:
    """(partition, ascending offsets, hashes of shape (n, 2)) of a table of `_partition`, `_offset` and 16-byte `id`."""
    ordered = table.sort_by([("_partition", "ascending"), ("_offset", "ascending")])
    for partition in pc.unique(ordered["_partition"]).to_pylist():
        part = ordered.filter(pc.equal(ordered["_partition"], partition))
        offsets = part["_offset"].to_numpy().astype(np.int64)
        joined = pc.binary_join(pa.array([part["id"].to_pylist()], pa.list_(pa.binary())), b"")[0].as_buffer()
        yield partition, offsets, np.frombuffer(joined, np.uint64).reshape(-1, 2)


class Repeats:
    """The recent ids of one source, as Spark finds them."""

    def __init__(self, source: SourceDefinition) -> None:
        self.source = source
        self._recent = RecentIds(source.horizon)

    def load(self, ids: pa.Table) -> None:
        """Fills the index from the ids before the cut."""
        self._recent.load(ids_by_partition(ids))

    def flag(self, events: DataFrame) -> DataFrame:
        """The events with `_duplicate`. Runs a job over them, so they should be cached."""
        table = (
            events.where("_reason is null")
            .selectExpr("_partition", "_offset", f"{identity_sql(self.source)} as id")
            .toArrow()
        )
        found = self._recent.flag(ids_by_partition(table))
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

    def flag_table(self, events: pa.Table) -> pa.Table:
        """The same for events in memory."""
        counted = events.filter(pc.is_null(events["_reason"]))
        columns = {name: counted[name] for name in ("_partition", "_offset")}
        ids = pa.table({**columns, "id": pa.array(identities(self.source, counted), pa.binary(16))})
        repeated = np.zeros(len(events), np.bool_)
        partitions, offsets = events["_partition"].to_numpy(), events["_offset"].to_numpy()
        for partition, found in self._recent.flag(ids_by_partition(ids)):
            repeated |= (partitions == partition) & np.isin(offsets, found)
        return events.append_column("_duplicate", pa.array(repeated))

    def committed(self) -> None:
        """The micro-batch in hand is in the store: its ids count from now on."""
        self._recent.committed()
