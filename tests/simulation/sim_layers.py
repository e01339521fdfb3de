"""What stands behind the real layers in the simulation, where Spark and Delta stand in production."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from sim_log import Kafka, Message, dead, repeated
from sim_views import MEANINGS

from batch_layer.loading import load_segment, to_merge
from batch_layer.parts import Built, Task
from speed_layer.layer import Parts
from speed_layer.recent import RecentSources
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.duplicates import Ids, RecentIds
from tideline.held import find_held
from tideline.ledger import Ledger, LogStats, Segment
from tideline.plans import Folded, Row, SourcePlan, plan_sources
from tideline.points import reach
from tideline.source import SourceDefinition
from tideline.stores import Store

Flagged = tuple[Message, str | None, bool]
"""A message, why it is dead, and whether it is a repeat."""


def merged(view: ViewDefinition, rows: Iterable[Row]) -> list[Row]:
    """One row for every key and bucket."""
    found: dict[Any, list[Any]] = {}
    merges = [measure.merge for measure in view.measures.values()]
    for key, bucket, states in rows:
        old = found.get((key, bucket))
        found[key, bucket] = states if old is None else [m(a, b) for m, a, b in zip(merges, old, states, strict=True)]
    return [(key, bucket, states) for (key, bucket), states in found.items()]


def fold(views: Iterable[ViewDefinition], flagged: Sequence[Flagged]) -> Folded:
    """The states of these views, and the log's counts."""
    log: dict[int, LogStats] = {}
    for message, reason, again in flagged:
        counts = reason is None and not again
        one = LogStats(
            1,
            message.checksum,
            int(counts),
            {reason: 1} if reason else {},
            int(again),
            message.time if counts else None,
        )
        log[message.partition] = log[message.partition].merge(one) if message.partition in log else one
    counted = [message for message, reason, again in flagged if reason is None and not again]
    rows, rejects = {}, {}
    for view in views:
        meaning = MEANINGS[view.fingerprint]
        taken = [message for message in counted if meaning.takes(message)]
        if any(map(meaning.breaks, taken)):
            raise ValueError(f"{view.fingerprint} cannot be folded")
        rows[view.fingerprint] = merged(view, ((*meaning.place(m), meaning.states(m)) for m in taken))
        if refused := sum(map(meaning.refuses, counted)):
            rejects[view.fingerprint] = refused
    return Folded(rows, log, rejects)


def ids_of(source: SourceDefinition, messages: Iterable[Message]) -> list[Ids]:
    """The hashed ids of the events among messages, by partition."""
    found: dict[int, list[Message]] = {}
    why = dead(source)
    for message in messages:
        if why(message) is None:
            found.setdefault(message.partition, []).append(message)
    return [
        (
            partition,
            np.array([m.offset for m in ms], np.int64),
            np.array([struct.unpack("QQ", blake2b(m.id.encode(), digest_size=16).digest()) for m in ms], np.uint64),
        )
        for partition, ms in found.items()
    ]


@dataclass
class Version:
    """One commit of a master table: its metadata, and all rows as of it."""

    metadata: Mapping[str, Any]
    rows: list[Flagged]


@dataclass
class Disk:
    """What is durable beside the store: the master's tables and the segments'."""

    masters: dict[str, list[Version]] = field(default_factory=dict)
    segments: dict[int, list[Row]] = field(default_factory=dict)
    lost: Message | None = None


def rows_between(rows: Iterable[Flagged], topic: str, begin: Cut, end: Cut) -> list[Flagged]:
    """The rows of [begin, end)."""
    return [
        row for row in rows if begin.offset(topic, (m := row[0]).partition) <= m.offset < end.offset(topic, m.partition)
    ]


class SimFolder:
    """Reads and folds micro-batches. What it remembers dies with its process."""

    def __init__(self, kafka: Kafka, disk: Disk) -> None:
        self.kafka = kafka
        self.disk = disk
        self._recent = RecentSources(self._load)

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        return self.kafka.ids(topics)

    def log_bounds(self, topics: Iterable[str]) -> tuple[Cut, Cut]:
        return self.kafka.bounds(topics)

    def start(self, ledger: Ledger) -> None:
        self._recent.start(ledger)

    def _load(self, source: SourceDefinition, begin: Cut, end: Cut, ledger: Ledger) -> RecentIds:
        recent, topic = RecentIds(source.horizon), source.topic
        table = self.disk.masters.get(source.name, [])
        held = find_held((number, version.metadata) for number, version in reversed([*enumerate(table)]))
        middle = end.least(topic, held.part(topic, ledger.archived)).advance(begin)
        known = rows_between(table[-1].rows, topic, begin, middle) if table else []
        recent.load(ids_of(source, [m for m, _, _ in known]))
        recent.load(ids_of(source, self.kafka.read(topic, middle, end)))
        return recent

    def folded(self, ledger: Ledger, start: Cut, stop: Cut, views: Collection[str]) -> Parts:
        plans = plan_sources(ledger, views)
        self._recent.keep({plan.source for plan in plans})
        return [(plan, self._fold(plan, ledger, start, stop)) for plan in plans]

    def _fold(self, plan: SourcePlan, ledger: Ledger, start: Cut, stop: Cut) -> Folded:
        source, topic = plan.source, plan.source.topic
        found = self.kafka.read(topic, start.restrict([topic]), stop.restrict([topic]))
        recent = self._recent.find(source, ledger)
        again = recent.flag(ids_of(source, found)) if recent else []
        flags = {(partition, offset) for partition, offsets in again for offset in offsets.tolist()}
        why = dead(source)
        return fold(plan.views, [(m, why(m), (m.partition, m.offset) in flags) for m in found])

    def committed(self) -> None:
        self._recent.committed()


class SimTable:
    """One process's hold on the master's table of one source."""

    def __init__(self, kafka: Kafka, disk: Disk, source: SourceDefinition, origin: Cut) -> None:
        self.kafka = kafka
        self.disk = disk
        self.source = source
        self.topic = source.topic
        self.versions = disk.masters.setdefault(source.name, [])
        self.pinned: Version | None = None

    def commits(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        return ((number, self.versions[number].metadata) for number in reversed(range(len(self.versions))))

    def pin(self, version: int) -> None:
        self.pinned = self.versions[version]

    def records(self, begin: Cut, end: Cut) -> list[Flagged]:
        return rows_between(self.pinned.rows if self.pinned else [], self.topic, begin, end)

    def append(self, begin: Cut, end: Cut, metadata: Mapping[str, Any], check: Callable[[], None]) -> int:
        read = self.kafka.read(self.topic, begin, end)
        before = self.versions[-1].rows if self.versions else []
        again = repeated(self.source, sorted([*(m for m, _, _ in before), *read], key=_place))
        why = dead(self.source)
        kept = [(m, why(m), m in again) for m in read if m != self.disk.lost]
        check()
        reach("archive.write")
        if self._is_late(metadata):
            return 0
        before = self.versions[-1].rows if self.versions else []
        self.versions.append(Version({**metadata, "records": len(kept)}, [*before, *kept]))
        return len(kept)

    def _is_late(self, metadata: Mapping[str, Any]) -> bool:
        """As Delta's transactions: whether another was planned after this version, or a later one."""
        planned = [version.metadata["after"] for version in self.versions if not version.metadata.get("restored")]
        return metadata["after"] <= max(planned, default=-2)

    def skip(self, metadata: Mapping[str, Any]) -> None:
        if self._is_late(metadata):
            return
        self.versions.append(Version(metadata, self.versions[-1].rows if self.versions else []))

    def restore(self, version: int | None, metadata: Mapping[str, Any]) -> None:
        rows = [] if version is None else self.versions[version].rows
        self.versions.append(Version({**metadata, "restored": True}, rows))

    def rewrite(self, metadata: Mapping[str, Any]) -> int:
        newest = self.versions[-1]
        if self._is_late(metadata):
            return 0
        messages = sorted((m for m, _, _ in newest.rows), key=_place)
        again = repeated(self.source, messages)
        why = dead(self.source)
        rows = [(m, why(m), m in again) for m in messages]
        kept = {"end": newest.metadata["end"], "records": len(rows)}
        self.versions.append(Version({**metadata, **kept}, rows))
        return len(rows)


def _place(message: Message) -> tuple[int, int]:
    return message.partition, message.offset


class SimEngine:
    """The batch layer's engine over a disk; nothing of it outlives a process but the disk."""

    def __init__(self, kafka: Kafka, disk: Disk, store: Store) -> None:
        self.kafka = kafka
        self.disk = disk
        self.store = store
        self._tables: dict[str, SimTable] = {}

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        return self.kafka.ids(topics)

    def log_bounds(self, topics: Iterable[str]) -> tuple[Cut, Cut]:
        return self.kafka.bounds(topics)

    def table(self, source: SourceDefinition, origin: Cut) -> SimTable:
        table = self._tables[source.name] = SimTable(self.kafka, self.disk, source, origin)
        return table

    @contextmanager
    def fold(self, plan: SourcePlan, begin: Cut, end: Cut) -> Iterator[SimRange]:
        yield SimRange(self, fold(plan.views, self._tables[plan.source.name].records(begin, end)))

    def remove_dead(self, ledger: Ledger) -> None:
        kept = {
            id: rows for id, rows in self.disk.segments.items() if id in ledger.segments or id >= ledger.next_segment
        }
        self.disk.segments = kept


class SimRange:
    """The states of a range of the master."""

    def __init__(self, engine: SimEngine, folded: Folded) -> None:
        self.engine = engine
        self.folded = folded

    @property
    def log(self) -> Mapping[int, LogStats]:
        return self.folded.log

    @property
    def rejects(self) -> Mapping[str, int]:
        return self.folded.rejects

    def build(self, tasks: Sequence[Task]) -> list[Built]:
        return [self._build(task) for task in tasks]

    def _build(self, task: Task) -> Built:
        rows, begin = self.folded.rows.get(task.view.fingerprint, []), task.begin
        mode = "incremental" if task.earlier else "full"
        old = to_merge(task.published, len(rows))
        if old:
            begin, mode = old[0].begin, "compacted"
            earlier = [row for segment in old for row in self.engine.disk.segments[segment.id]]
            rows = merged(task.view, [*earlier, *rows])
        if task.floor is not None:
            rows = [row for row in rows if row[1] is not None and row[1] >= task.floor]
        reach("segment.write")
        self.engine.disk.segments.setdefault(task.id, []).extend(rows)
        segment = Segment(task.id, task.view.fingerprint, begin, task.end, 0, mode)
        loaded = load_segment(self.engine.store, task.view, segment, rows)
        return Built(loaded, tuple(segment.id for segment in old))
