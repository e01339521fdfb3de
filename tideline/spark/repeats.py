"""Finding repeated events in a micro-batch, by the ids of the previous offsets (invariant 11)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tideline.duplicates import Ids, Offsets, RecentIds
from tideline.identity import identified
from tideline.source import SourceDefinition
from tideline.spark.events import event_ids

_NO_HASHES = np.empty((0, 2), np.uint64)


def ids_by_partition(table: pa.Table) -> Iterator[Ids]:
    """(partition, ascending offsets, hashes of shape (n, 2)) of a table of `_partition`, `_offset` and 16-byte `id`."""
    partitions, offsets = table["_partition"].to_numpy(), table["_offset"].to_numpy().astype(np.int64)
    ids = table["id"].cast(pa.binary(16)).combine_chunks()
    data = ids.buffers()[1]
    hashes = np.frombuffer(data, np.uint64, 2 * len(ids), 16 * ids.offset).reshape(-1, 2) if data else _NO_HASHES
    for partition in np.unique(partitions):
        places = np.flatnonzero(partitions == partition)
        places = places[np.argsort(offsets[places], kind="stable")]
        yield int(partition), offsets[places], hashes[places]


class Repeats:
    """The recent ids of one source, as Spark finds them."""

    def __init__(self, source: SourceDefinition) -> None:
        self.source = source
        self._recent = RecentIds(source.horizon)

    def load(self, ids: pa.Table) -> None:
        """Fills the index from the ids before the cut."""
        self._recent.load(ids_by_partition(ids))

    def find(self, ids: Iterable[Ids]) -> list[tuple[int, Offsets]]:
        """The offsets of repeats, by partition."""
        return self._recent.flag(ids)

    def flag(self, events: DataFrame) -> DataFrame:
        """The events with `_duplicate`. Runs a job over them, so they should be cached."""
        found = self._recent.flag(ids_by_partition(event_ids(events, self.source).toArrow()))
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
        repeated = np.zeros(len(events), np.bool_)
        partitions, offsets = events["_partition"].to_numpy(), events["_offset"].to_numpy()
        for partition, found in self._recent.flag(ids_by_partition(identified(self.source, counted))):
            repeated |= (partitions == partition) & np.isin(offsets, found)
        return events.append_column("_duplicate", pa.array(repeated))

    def committed(self) -> None:
        """The micro-batch in hand is in the store: its ids count from now on."""
        self._recent.committed()
