"""The raw records before a cut, read back from Kafka and from the master dataset.

Kafka is the first witness, the master the second: what Kafka still holds is read from Kafka, what it has
deleted from the master, and where both have a range they must hold the same records, byte for byte. They are read a
slice of a partition at a time, so that a topic may be larger than memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tideline.cut import Cut
from tideline.erased import ERASED
from tideline.errors import OutsideError, Texts
from tideline.runtime.kafka_access import kafka_python

PATIENCE = 30.0  # seconds without a record before a read is given up
SLICE = 250_000  # offsets that are read at a time
_POLL = 50_000
_SHOWN = 10
_MILLISECOND = 1000
_COMPARED = ("_value", "_key", "_timestamp")
HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
SCHEMA = pa.schema(
    [
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_timestamp", pa.int64()),
        ("_key", pa.large_binary()),  # a slice may have more than 2 GB
        ("_value", pa.large_binary()),
        ("_headers", HEADERS),
    ]
)


class LogUnreadableError(OutsideError):
    """The log before the cut cannot be read back in full."""

    texts: ClassVar[Texts] = {
        "LOG_STALLED": (
            "topic {topic}: Kafka gave no record for {seconds} s at {reached}, before {wanted}",
            "check the broker, then verify again",
        ),
        "LOG_LOST": (
            "{topic} partition {partition}: Kafka begins at offset {start}, the master ends at {archived}",
            "offsets between them are lost, so that no recompute can cover them",
        ),
        "NO_KAFKA": (
            "{topic} partition {partition}: offsets [{begin}, {end}) are in Kafka alone, and nothing says where it is",
            "start tideline up, or name it with --bootstrap-server",
        ),
        "MASTER_UNREADABLE": (
            "the master dataset {path} cannot be read: {reason}",
            "check the home folder; the ledger says that it holds records",
        ),
    }


@dataclass
class Log:
    """One topic's records in [begin, end): iterate over tables with `SCHEMA` in the order of (partition, offset).

    Each is of one partition. The counts and the `faults` are of what was read so far: `twice` is how many records both
    Kafka and the master held, and a fault names the partition and offsets at which they differ. Of an erased record the
    master holds the place alone. Iterating raises LogUnreadableError, KafkaFault.
    """

    topic: str
    begin: Cut
    end: Cut
    archived: Cut
    path: Path
    bootstrap: str | None
    from_kafka: int = 0
    from_master: int = 0
    twice: int = 0
    faults: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[pa.Table]:
        master = _Master(self.path)
        with _Kafka(self.topic, self.bootstrap) as kafka:
            for partition, last in sorted(self.end.offsets(self.topic).items()):
                self._check_held(partition, self.begin.offset(self.topic, partition), last, kafka.start(partition))
            for partition, last in sorted(self.end.offsets(self.topic).items()):
                for low in range(self.begin.offset(self.topic, partition), last, SLICE):
                    yield self._read(master, kafka, partition, low, min(low + SLICE, last))

    def _check_held(self, partition: int, low: int, high: int, start: int | None) -> None:
        """Kafka, which begins at `start`, or the master must hold each offset of [low, high)."""
        kept = max(low, min(high, self.archived.offset(self.topic, partition)))
        if kept < high and self.bootstrap is None:
            raise LogUnreadableError("NO_KAFKA", topic=self.topic, partition=partition, begin=kept, end=high)
        if kept < high and (start is None or start > kept):
            raise LogUnreadableError("LOG_LOST", topic=self.topic, partition=partition, start=start, archived=kept)

    def _read(self, master: _Master, kafka: _Kafka, partition: int, low: int, high: int) -> pa.Table:
        """The records of [low, high)."""
        kept = self.archived.offset(self.topic, partition)
        old, erased = master.read(partition, low, min(high, kept))
        while True:
            start = kafka.start(partition)
            self._check_held(partition, low, high, start)
            start = high if start is None else start
            new = kafka.read(partition, max(low, start), high)
            if new is not None:  # else Kafka deleted some of it in between
                break
        gone = _place(old, start)
        both = new.slice(0, _place(new, kept))
        self.from_kafka, self.from_master, self.twice = (
            self.from_kafka + len(new),
            self.from_master + len(old),
            self.twice + len(both),
        )
        self.faults += repeats(partition, old) or differences(partition, old.slice(gone), _blank(both, erased))
        return pa.concat_tables([old.slice(0, gone), new])


def _place(table: pa.Table, offset: int) -> int:
    """How many records of one partition lie before an offset."""
    return int(np.searchsorted(table["_offset"].to_numpy(), offset))


class _Master:
    """The master dataset, at the version that it has when it is first read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data: Any = None

    def read(self, partition: int, low: int, high: int) -> tuple[pa.Table, pa.Array]:
        """The records of [low, high) by offset, and the offsets of those that are erased."""
        if low >= high:
            return SCHEMA.empty_table(), pa.array([], pa.int64())
        try:
            found = self._find(partition, low, high)
        except Exception as error:
            raise LogUnreadableError("MASTER_UNREADABLE", path=str(self.path), reason=str(error)[:300]) from error
        erased = found.filter(pc.equal(found["_reason"], ERASED))["_offset"]
        times = found["_timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        found = found.set_column(found.schema.get_field_index("_timestamp"), "_timestamp", times)
        return found.select(SCHEMA.names).cast(SCHEMA), erased.combine_chunks()

    def _find(self, partition: int, low: int, high: int) -> pa.Table:
        import deltalake
        import pyarrow.dataset as ds

        if self._data is None:
            self._data = deltalake.DeltaTable(str(self.path)).to_pyarrow_dataset()
        offset = ds.field("_offset")
        inside = (ds.field("_partition") == partition) & (offset >= low) & (offset < high)
        return self._data.to_table(columns=[*SCHEMA.names, "_reason"], filter=inside).sort_by("_offset")


def _blank(table: pa.Table, offsets: pa.Array) -> pa.Table:
    """The records as the master holds them, with nothing of those at these offsets."""
    if not len(offsets):
        return table
    gone = pc.is_in(table["_offset"], offsets)
    for name in ("_value", "_key"):
        kept = pc.if_else(gone, pa.scalar(None, pa.large_binary()), table[name])
        table = table.set_column(table.schema.get_field_index(name), name, kept)
    return table


class _Kafka:
    """What a `read_committed` consumer sees, with offsets set and no group."""

    def __init__(self, topic: str, bootstrap: str | None) -> None:
        self.topic = topic
        self.bootstrap = bootstrap
        self._consumer: Any = None

    def __enter__(self) -> _Kafka:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def start(self, partition: int) -> int | None:
        """The first offset that Kafka holds now; None without a Kafka, or where it has no such partition."""
        if self.bootstrap is None:
            return None
        from tideline.runtime.topics import log_start_offsets

        return log_start_offsets(self.bootstrap, [self.topic])[self.topic].get(partition)

    def read(self, partition: int, low: int, high: int) -> pa.Table | None:
        """The records of [low, high); None where Kafka does not hold `low`, or some offset after it, any more."""
        if low >= high or not self.bootstrap:
            return SCHEMA.empty_table()
        from kafka import TopicPartition
        from kafka.errors import OffsetOutOfRangeError

        consumer, place = self._connected(self.bootstrap), TopicPartition(self.topic, partition)
        if consumer.assignment() != {place}:
            consumer.assign([place])
            consumer.seek(place, low)
        elif consumer.position(place) != low:
            consumer.seek(place, low)
        parts, deadline = [SCHEMA.empty_table()], time.monotonic() + PATIENCE
        while (reached := consumer.position(place)) < high:
            if time.monotonic() > deadline:
                where, wanted = {partition: reached}, {partition: high}
                raise LogUnreadableError(
                    "LOG_STALLED", topic=self.topic, seconds=PATIENCE, reached=where, wanted=wanted
                )
            try:
                polled = consumer.poll(timeout_ms=500, max_records=min(high - reached, _POLL))
            except OffsetOutOfRangeError:
                consumer.unsubscribe()  # assigns, and seeks, the next time
                return None
            for records in polled.values():
                parts.append(_table(partition, records, high))
                deadline = time.monotonic() + PATIENCE
        return pa.concat_tables(parts)

    def _connected(self, bootstrap: str) -> Any:
        from kafka import KafkaConsumer

        if self._consumer is None:
            self._consumer = KafkaConsumer(
                **kafka_python(bootstrap),
                client_id="tideline-verify",
                group_id=None,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_poll_records=_POLL,
                fetch_max_bytes=64 << 20,
                max_partition_fetch_bytes=16 << 20,
                metrics_enabled=False,
            )
        return self._consumer


def _table(partition: int, records: Sequence[Any], end: int) -> pa.Table:
    kept = [record for record in records if record.offset < end]
    columns = [
        [partition] * len(kept),
        [r.offset for r in kept],
        [r.timestamp * _MILLISECOND for r in kept],
        [r.key for r in kept],
        [r.value for r in kept],
        [[{"key": k, "value": v} for k, v in r.headers] if r.headers else None for r in kept],
    ]
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def repeats(partition: int, master: pa.Table) -> list[str]:
    """What stands twice in the master, of its records of one partition in the order of their offsets."""
    offsets = master["_offset"].to_numpy()
    twice = offsets[1:][offsets[1:] == offsets[:-1]]
    if not len(twice):
        return []
    return [f"partition {partition}: {len(twice)} records twice in the master, offsets {_few(twice)}"]


def differences(partition: int, master: pa.Table, kafka: pa.Table) -> Iterator[str]:
    """What is not the same in two tables of a partition's records in one range, by offset: which offsets and bytes."""
    old_offsets, new_offsets = master["_offset"].to_numpy(), kafka["_offset"].to_numpy()
    for text, missing in (
        ("in Kafka, not in the master", np.setdiff1d(new_offsets, old_offsets)),
        ("in the master, not in Kafka", np.setdiff1d(old_offsets, new_offsets)),
    ):
        if len(missing):
            yield f"partition {partition}: {len(missing)} records {text}, offsets {_few(missing)}"
    same, here, there = np.intersect1d(old_offsets, new_offsets, return_indices=True)
    if len(same) < max(len(master), len(kafka)):
        master, kafka = master.take(pa.array(here)), kafka.take(pa.array(there))
    for name in _COMPARED if len(same) else ():
        left, right = master[name], kafka[name]
        equal = pc.or_kleene(pc.fill_null(pc.equal(left, right), False), pc.and_(left.is_null(), right.is_null()))
        wrong = same[~equal.combine_chunks().to_numpy(zero_copy_only=False)]
        if len(wrong):
            yield f"partition {partition}: {len(wrong)} records differ in {name}, offsets {_few(wrong)}"


def _few(offsets: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(str(offset) for offset in offsets[:_SHOWN])
    return shown if len(offsets) <= _SHOWN else f"{shown}, ..."
