"""Files that are written of pieces of Kafka's partitions where these are decoded, and what is told of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tideline.duplicates import Hashes, Ids, Offsets
from tideline.identity import identities
from tideline.source import SourceDefinition

TOLD = pa.schema(
    {"file": pa.string(), "records": pa.int64(), "partition": pa.int32(), "offsets": pa.binary(), "ids": pa.binary()}
)


@dataclass(frozen=True)
class PieceFile:
    """A file of a partition's records, and of its events the offsets and, of shape (n, 2), the 128-bit ids.

    Both are empty where no repeats are looked for.
    """

    path: Path
    records: int
    partition: int
    offsets: Offsets
    ids: Hashes


class Telling:
    """Gathers what is told of a file while it is written."""

    def __init__(self, source: SourceDefinition) -> None:
        self._source = source
        self._partition: int | None = None
        self._records = 0
        self._offsets, self._ids = bytearray(), bytearray()

    def add(self, events: pa.Table) -> None:
        """Some decoded records of the file."""
        self._partition = events["_partition"][0].as_py()
        self._records += len(events)
        if self._source.event_id and self._source.horizon:
            counted = events.filter(pc.is_null(events["_reason"]))
            self._offsets += counted["_offset"].to_numpy().astype(np.int64).tobytes()
            self._ids += identities(self._source, counted)

    def told(self, path: Path) -> pa.RecordBatch:
        """What is told of it: a row of `TOLD`."""
        row: dict[str, Any] = {"file": path.name, "records": self._records, "partition": self._partition}
        return pa.RecordBatch.from_pylist([{**row, "offsets": bytes(self._offsets), "ids": bytes(self._ids)}], TOLD)


def piece_files(told: pa.Table, folder: Path) -> list[PieceFile]:
    """The files of a folder of which this was told."""
    return [
        PieceFile(
            folder / row["file"],
            row["records"],
            row["partition"],
            np.frombuffer(row["offsets"], np.int64),
            np.frombuffer(row["ids"], np.uint64).reshape(-1, 2),
        )
        for row in told.to_pylist()
    ]


def ids_of(files: Sequence[PieceFile]) -> Iterator[Ids]:
    """The ids of all files, by partition."""
    for partition in sorted({file.partition for file in files}):
        own = sorted((file for file in files if file.partition == partition and len(file.offsets)), key=_begin)
        if own:
            yield partition, np.concatenate([f.offsets for f in own]), np.concatenate([f.ids for f in own])


def _begin(file: PieceFile) -> int:
    return int(file.offsets[0])
