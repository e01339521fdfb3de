"""The raw records before a cut, read back from Kafka and from the master dataset.

Kafka is the first witness, the master the second: what Kafka still holds is read from Kafka, what it has
deleted from the master, and where both have a range they must hold the same records, byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tideline.cut import Cut
from tideline.erased import ERASED
from tideline.errors import OutsideError, Texts

PATIENCE = 30.0  # seconds without a record before a read is given up
_SHOWN = 10
_MILLISECOND = 1000
_COMPARED = ("_value", "_key", "_timestamp")
HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
SCHEMA = pa.schema(
    [
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_timestamp", pa.int64()),
        ("_key", pa.large_binary()),  # more than 2 GB of a topic
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
        "MASTER_UNREADABLE": (
            "the master dataset {path} cannot be read: {reason}",
            "check the home folder; the ledger says that it holds records",
        ),
    }


@dataclass(frozen=True)
class Records:
    """One topic's records before a cut, by (partition, offset), and what was found wrong with them.

    `table` has `_partition`, `_offset`, `_timestamp` (microseconds), `_key`, `_value`, `_headers`. `twice`
    is how many records both Kafka and the master held; `faults` name the partitions and offsets at which
    they differ. Of an erased record the master holds the place alone.
    """

    table: pa.Table
    from_kafka: int
    from_master: int
    twice: int
    faults: tuple[str, ...] = field(default=())


def read_records(topic: str, begin: Cut, end: Cut, archived: Cut, master: Path, bootstrap: str | None) -> Records:
    """The topic's records in [begin, end). Raises LogUnreadableError, KafkaFault."""
    starts = _kafka_starts(topic, bootstrap)
    kept = Cut({topic: {p: min(archived.offset(topic, p), end.offset(topic, p)) for p in end.offsets(topic)}})
    _check_whole(topic, begin, end, kept, starts)
    live = {p: max(begin.offset(topic, p), starts[p]) for p in end.offsets(topic) if p in starts}
    old, erased = _read_master(master, topic, begin, kept)
    new = _read_kafka(topic, live, end, bootstrap) if bootstrap else SCHEMA.empty_table()
    both_old = _where(old, lambda p, o: o >= live.get(p, 1 << 62))
    both_new = _where(new, lambda p, o: o < kept.offset(topic, p))
    faults = tuple(differences(old.filter(both_old), _blank(new, erased).filter(both_new)))
    table = pa.concat_tables([old.filter(pc.invert(both_old)), new]).sort_by(
        [("_partition", "ascending"), ("_offset", "ascending")]
    )
    return Records(table.combine_chunks(), len(new), len(old), pc.sum(both_new).as_py() or 0, faults)


def _kafka_starts(topic: str, bootstrap: str | None) -> dict[int, int]:
    if bootstrap is None:
        return {}
    from tideline.runtime.topics import log_start_offsets

    return log_start_offsets(bootstrap, [topic])[topic]


def _check_whole(topic: str, begin: Cut, end: Cut, kept: Cut, starts: Mapping[int, int]) -> None:
    for partition, last in end.offsets(topic).items():
        reached = max(kept.offset(topic, partition), begin.offset(topic, partition))
        start = starts.get(partition)
        if reached < last and (start is None or start > reached):
            raise LogUnreadableError("LOG_LOST", topic=topic, partition=partition, start=start, archived=reached)


def _where(table: pa.Table, holds: Callable[[int, npt.NDArray[np.int64]], Any]) -> pa.Array:
    """Which rows satisfy a condition on (partition, offsets)."""
    partitions, offsets = table["_partition"].to_numpy(), table["_offset"].to_numpy()
    found = np.zeros(len(table), np.bool_)
    for partition in np.unique(partitions):
        here = partitions == partition
        found[here] = holds(int(partition), offsets[here])
    return pa.array(found)


def _read_master(path: Path, topic: str, begin: Cut, kept: Cut) -> tuple[pa.Table, pa.Table]:
    """The records, and `_partition` and `_offset` of those that are erased."""
    wanted = {p: (begin.offset(topic, p), o) for p, o in kept.offsets(topic).items() if o > begin.offset(topic, p)}
    if not wanted:
        return SCHEMA.empty_table(), SCHEMA.empty_table()
    try:
        import deltalake

        found = deltalake.DeltaTable(str(path)).to_pyarrow_table(columns=[*SCHEMA.names, "_reason"])
    except Exception as error:
        raise LogUnreadableError("MASTER_UNREADABLE", path=str(path), reason=str(error)[:300]) from error
    times = found["_timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    erased = found.filter(pc.equal(found["_reason"], ERASED))
    found = found.set_column(found.schema.get_field_index("_timestamp"), "_timestamp", times).select(SCHEMA.names)
    found = found.cast(SCHEMA)
    low = {p: bounds[0] for p, bounds in wanted.items()}
    high = {p: bounds[1] for p, bounds in wanted.items()}
    inside = _where(found, lambda p, o: (o >= low.get(p, 1 << 62)) & (o < high.get(p, 0)))
    ordered = found.filter(inside).sort_by([("_partition", "ascending"), ("_offset", "ascending")])
    return ordered, erased.select(["_partition", "_offset"])


def _blank(table: pa.Table, places: pa.Table) -> pa.Table:
    """The records as the master holds them, with nothing of those at these places."""
    gone = set(zip(*(places[name].to_pylist() for name in ("_partition", "_offset")), strict=True))
    if not gone:
        return table
    here = zip(table["_partition"].to_pylist(), table["_offset"].to_pylist(), strict=True)
    mask = pa.array([place in gone for place in here])
    for name in ("_value", "_key"):
        kept = pc.if_else(mask, pa.scalar(None, pa.large_binary()), table[name])
        table = table.set_column(table.schema.get_field_index(name), name, kept)
    return table


def _read_kafka(topic: str, begin: Mapping[int, int], end: Cut, bootstrap: str) -> pa.Table:
    """The records that a `read_committed` consumer sees in [begin, end), with offsets set and no group."""
    from kafka import KafkaConsumer, TopicPartition

    parts: dict[int, list[pa.Table]] = {p: [] for p, offset in begin.items() if offset < end.offset(topic, p)}
    if not parts:
        return SCHEMA.empty_table()
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        client_id="tideline-verify",
        group_id=None,
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_poll_records=50_000,
        fetch_max_bytes=64 << 20,
        max_partition_fetch_bytes=16 << 20,
        metrics_enabled=False,
    )
    try:
        places = {p: TopicPartition(topic, p) for p in parts}
        consumer.assign(list(places.values()))
        for partition, place in places.items():
            consumer.seek(place, begin[partition])
        open_, deadline = set(parts), time.monotonic() + PATIENCE
        while open_:
            left = sum(end.offset(topic, p) - consumer.position(places[p]) for p in open_)
            for place, records in consumer.poll(timeout_ms=500, max_records=max(1, min(left, 50_000))).items():
                p = place.partition
                parts[p].append(_table(p, records, end.offset(topic, p)))
                deadline = time.monotonic() + PATIENCE
            done = {p for p in open_ if consumer.position(places[p]) >= end.offset(topic, p)}
            consumer.pause(*(places[p] for p in done))
            open_ -= done
            if open_ and time.monotonic() > deadline:
                reached = {p: consumer.position(places[p]) for p in open_}
                wanted = {p: end.offset(topic, p) for p in open_}
                raise LogUnreadableError("LOG_STALLED", topic=topic, seconds=PATIENCE, reached=reached, wanted=wanted)
    finally:
        consumer.close()
    return pa.concat_tables([SCHEMA.empty_table(), *(table for p in sorted(parts) for table in parts[p])])


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


def differences(master: pa.Table, kafka: pa.Table) -> Iterator[str]:
    """What is not the same in two tables of records of one range: partition, offset, and which bytes."""
    names = sorted({*master["_partition"].unique().to_pylist(), *kafka["_partition"].unique().to_pylist()})
    for partition in names:
        old = master.filter(pc.equal(master["_partition"], partition))
        new = kafka.filter(pc.equal(kafka["_partition"], partition))
        old_offsets, new_offsets = old["_offset"].to_numpy(), new["_offset"].to_numpy()
        for text, missing in (
            ("in Kafka, not in the master", np.setdiff1d(new_offsets, old_offsets)),
            ("in the master, not in Kafka", np.setdiff1d(old_offsets, new_offsets)),
        ):
            if len(missing):
                yield f"partition {partition}: {len(missing)} records {text}, offsets {_few(missing)}"
        if len(np.unique(old_offsets)) != len(old_offsets):
            twice = old_offsets[1:][old_offsets[1:] == old_offsets[:-1]]
            yield f"partition {partition}: {len(twice)} records twice in the master, offsets {_few(twice)}"
            continue
        same, here, there = np.intersect1d(old_offsets, new_offsets, return_indices=True)
        old, new = old.take(pa.array(here)), new.take(pa.array(there))
        for name in _COMPARED:
            left, right = old[name], new[name]
            equal = pc.or_kleene(pc.fill_null(pc.equal(left, right), False), pc.and_(left.is_null(), right.is_null()))
            wrong = same[~equal.combine_chunks().to_numpy(zero_copy_only=False)] if len(same) else same
            if len(wrong):
                yield f"partition {partition}: {len(wrong)} records differ in {name}, offsets {_few(wrong)}"


def _few(offsets: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(str(offset) for offset in offsets[:_SHOWN])
    return shown if len(offsets) <= _SHOWN else f"{shown}, ..."
