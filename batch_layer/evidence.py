"""What `erase` did, and what Kafka still holds of it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tideline import delta_files
from tideline.erased import ERASED
from tideline.runtime.topics import log_start_offsets, topic_settings
from tideline.scan import Scan
from tideline.types import json_value

Place = tuple[int, int]
"""Partition and offset."""
Dead = Mapping[Place, tuple[str, dt.datetime]]
"""A dead letter's reason and its record's time stamp."""


@dataclass(frozen=True)
class Standing:
    """What of the erased records Kafka still holds, of all that was ever erased from the source.

    `retention_ends` is when the last of it has been kept for the topic's `retention.ms`; Kafka deletes whole segments
    of its log, so it may stand until `gone_by`. Both are None where the topic keeps its records for good.
    """

    topic: str
    records: Mapping[int, int]
    newest: dt.datetime | None
    retention_ends: dt.datetime | None
    gone_by: dt.datetime | None

    def to_json(self) -> dict[str, Any]:
        times = {name: json_value(getattr(self, name)) for name in ("newest", "retention_ends", "gone_by")}
        return {"topic": self.topic, "records": {str(p): n for p, n in self.records.items()}, **times}


@dataclass
class Evidence:
    """What an erasure did. `records` and `dead_letters` are by partition; `found` are files and numbers of the ids."""

    source: str
    ids: int
    entered: int
    records: Mapping[int, int]
    dead_letters: Mapping[int, int]
    version: int
    versions_dropped: Sequence[int]
    files_removed: int
    store_bytes: tuple[int, int]
    standing: Standing
    lines_removed: int = 0
    too_short: int = 0
    scan: Scan = field(default_factory=Scan)

    @property
    def ok(self) -> bool:
        """Whether the scan found nothing."""
        return not self.scan.found

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "ids": self.ids,
            "entered": self.entered,
            "records": {str(p): n for p, n in self.records.items()},
            "dead_letters": {str(p): n for p, n in self.dead_letters.items()},
            "version": self.version,
            "versions_dropped": list(self.versions_dropped),
            "files_removed": self.files_removed,
            "store_bytes": dict(zip(("before", "after"), self.store_bytes, strict=True)),
            "log_lines_removed": self.lines_removed,
            "scan": {
                "files": self.scan.files,
                "bytes": self.scan.bytes,
                "ids_too_short": self.too_short,
                "found": [{"file": str(path), "id": number} for path, number in self.scan.found],
            },
            "kafka": self.standing.to_json(),
        }


def dead_letters(master: Path) -> Dead:
    """The dead letters of a master."""
    if not delta_files.exists(master):
        return {}
    from deltalake import DeltaTable

    columns = ["_partition", "_offset", "_reason", "_timestamp"]
    table = DeltaTable(str(master)).to_pyarrow_dataset().to_table(columns, pc.field("_reason").is_valid())
    return {(row["_partition"], row["_offset"]): (row["_reason"], row["_timestamp"]) for row in table.to_pylist()}


def erased(dead: Dead) -> set[Place]:
    """Those that are dead because they are erased."""
    return {place for place, (reason, _) in dead.items() if reason == ERASED}


def by_partition(places: Iterable[Place]) -> dict[int, int]:
    """How many of these places each partition has."""
    return dict(sorted(Counter(partition for partition, _ in places).items()))


def standing(bootstrap: str, topic: str, dead: Dead) -> Standing:
    """What of the erased records Kafka still holds, and until when. Raises KafkaFault."""
    starts = log_start_offsets(bootstrap, [topic])[topic]
    held = {place: dead[place][1] for place in erased(dead) if place[1] >= starts.get(place[0], 0)}
    newest = max(held.values(), default=None)
    settings = topic_settings(bootstrap, topic)
    retention, segment = int(settings["retention.ms"]), int(settings["segment.ms"])
    kept = newest is None or retention < 0 or "delete" not in settings["cleanup.policy"]
    ends = None if kept or newest is None else newest + dt.timedelta(milliseconds=retention)
    gone = None if ends is None else ends + dt.timedelta(milliseconds=segment)
    return Standing(topic, by_partition(held), newest, ends, gone)
