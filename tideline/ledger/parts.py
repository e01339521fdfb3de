"""The values that a ledger is made of: statistics of a log range, segments, generations, versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tideline.cut import Cut


@dataclass(frozen=True)
class LogStats:
    """What a range of one partition held.

    `checksum` is the exclusive or of a signed 64-bit hash of (offset, value) per record, so it does not
    depend on order; `dead` counts dead letters by reason; `max_event_time` is in microseconds.
    """

    records: int = 0
    checksum: int = 0
    events: int = 0
    dead: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    max_event_time: int | None = None

    def merge(self, other: LogStats) -> LogStats:
        """The statistics of both ranges."""
        times = [time for time in (self.max_event_time, other.max_event_time) if time is not None]
        return LogStats(
            self.records + other.records,
            self.checksum ^ other.checksum,
            self.events + other.events,
            add_counts(self.dead, other.dead),
            self.duplicates + other.duplicates,
            max(times, default=None),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "checksum": self.checksum,
            "events": self.events,
            "dead": dict(self.dead),
            "duplicates": self.duplicates,
            "max_event_time": self.max_event_time,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LogStats:
        return cls(**data)


Log = Mapping[str, Mapping[int, LogStats]]
"""{topic: {partition: statistics}}."""

NO_RECORDS = LogStats()


def merge_logs(left: Log, right: Log) -> dict[str, dict[int, LogStats]]:
    """The statistics of both, partition by partition."""
    merged = {topic: dict(partitions) for topic, partitions in left.items()}
    for topic, partitions in right.items():
        mine = merged.setdefault(topic, {})
        for partition, stats in partitions.items():
            mine[partition] = mine.get(partition, NO_RECORDS).merge(stats)
    return merged


def log_to_json(log: Log) -> dict[str, Any]:
    return {
        topic: {str(partition): stats.to_json() for partition, stats in partitions.items()}
        for topic, partitions in log.items()
    }


def log_from_json(data: Mapping[str, Any]) -> dict[str, dict[int, LogStats]]:
    return {
        topic: {int(partition): LogStats.from_json(stats) for partition, stats in partitions.items()}
        for topic, partitions in data.items()
    }


def add_counts(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    """Counts by name of both."""
    total = dict(left)
    for name, count in right.items():
        total[name] = total.get(name, 0) + count
    return total


@dataclass(frozen=True)
class Segment:
    """An immutable set of `rows` states of one view over [begin, end) of its topic.

    `view` is the view's fingerprint; `mode` says how it was made: incremental, full or compacted.
    """

    id: int
    view: str
    begin: Cut
    end: Cut
    rows: int
    mode: str

    @property
    def space(self) -> str:
        """Where the serving store keeps it."""
        return f"s{self.id}"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "view": self.view,
            "begin": self.begin.to_json(),
            "end": self.end.to_json(),
            "rows": self.rows,
            "mode": self.mode,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Segment:
        return cls(**{**data, "begin": Cut.from_json(data["begin"]), "end": Cut.from_json(data["end"])})


@dataclass(frozen=True)
class Loss:
    """Offsets [begin, end) of a partition whose records are gone, or are not what was counted once.

    `why` is `expired`, where Kafka deleted them before they were archived: the log goes on without them; or `replaced`,
    where Kafka holds other records than the speed layer read there: what Kafka holds is the log now. `counted` is how
    many records of them had been counted.
    """

    topic: str
    partition: int
    begin: int
    end: int
    why: str
    counted: int = 0

    def shift(self, by: Mapping[int, int]) -> Loss:
        """The same, in the places that a log has to which `by` is added, partition by partition."""
        offsets = by.get(self.partition, 0)
        return replace(self, begin=self.begin + offsets, end=self.end + offsets)

    def __str__(self) -> str:
        return f"{self.topic} partition {self.partition} offsets [{self.begin}, {self.end}) {self.why}"

    def to_json(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "partition": self.partition,
            "begin": self.begin,
            "end": self.end,
            "why": self.why,
            "counted": self.counted,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Loss:
        return cls(**data)


def merge_losses(known: Iterable[Loss], more: Iterable[Loss]) -> tuple[Loss, ...]:
    """Every loss once, by place."""
    return tuple(sorted({*known, *more}, key=lambda loss: (loss.topic, loss.partition, loss.begin, loss.end, loss.why)))


@dataclass(frozen=True)
class Generation:
    """The speed layer's interval between two seals; `end` is None while it is open.

    `definitions` are the fingerprints fixed at its opening, sorted. A generation that the batch layer
    took over from a speed layer that was down has none: it holds no states, and must be published before
    it can be answered from.
    """

    id: int
    begin: Cut
    end: Cut | None
    definitions: tuple[str, ...]
    log: Log = field(default_factory=dict)
    rejects: Mapping[str, int] = field(default_factory=dict)

    def space(self, fingerprint: str) -> str:
        """Where the serving store keeps a view's states of this generation."""
        return f"g{self.id}/{fingerprint}"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "begin": self.begin.to_json(),
            "end": None if self.end is None else self.end.to_json(),
            "definitions": list(self.definitions),
            "log": log_to_json(self.log),
            "rejects": dict(self.rejects),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Generation:
        return cls(
            data["id"],
            Cut.from_json(data["begin"]),
            None if data["end"] is None else Cut.from_json(data["end"]),
            tuple(data["definitions"]),
            log_from_json(data["log"]),
            data["rejects"],
        )


@dataclass(frozen=True)
class Version:
    """The outcome of a publish: for every view the batch segments that tile [origin, cut).

    `views` maps fingerprints to segment ids in log order, `live` names to fingerprints, `floors`
    fingerprints to the bucket start (microseconds) before which nothing is answered, `kept` fingerprints to
    the shortest retention (microseconds) by which a floor ever rose. `log` and `rejects`
    count from the origin to the cut. `published_at` is in seconds since the epoch; nothing depends on
    it.
    """

    id: int
    cut: Cut
    views: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    live: Mapping[str, str] = field(default_factory=dict)
    floors: Mapping[str, int] = field(default_factory=dict)
    log: Log = field(default_factory=dict)
    rejects: Mapping[str, int] = field(default_factory=dict)
    published_at: float = 0.0
    kept: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "cut": self.cut.to_json(),
            "views": {fingerprint: list(segments) for fingerprint, segments in self.views.items()},
            "live": dict(self.live),
            "floors": dict(self.floors),
            "log": log_to_json(self.log),
            "rejects": dict(self.rejects),
            "published_at": self.published_at,
            "kept": dict(self.kept),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Version:
        return cls(
            data["id"],
            Cut.from_json(data["cut"]),
            {fingerprint: tuple(segments) for fingerprint, segments in data["views"].items()},
            data["live"],
            data["floors"],
            log_from_json(data["log"]),
            data["rejects"],
            data["published_at"],
            data.get("kept", {}),
        )
