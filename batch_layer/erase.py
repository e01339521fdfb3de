"""Erasing people: a changed declaration of their source, the batch run that follows from it, and clearing what was.

An erased id is a keyed hash in the source's entry in the ledger, so it is part of the source's fingerprint: the next
batch run decodes the master anew, without the records of that id, and builds every view of the source anew. The layers
must be down. Every step can be run again, and goes on where it was cut off.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from pyspark.sql import SparkSession

from batch_layer.engine import SparkEngine
from batch_layer.purge import purge
from batch_layer.run import BatchLayer
from tideline.apply import redefined, register
from tideline.definition import ViewDefinition
from tideline.erased import ERASED, KEY_COLUMN, Erased
from tideline.errors import UsageError
from tideline.ledger import Ledger
from tideline.points import reach
from tideline.runtime.home import Home
from tideline.runtime.installation import open_applied
from tideline.runtime.topics import log_start_offsets, topic_settings
from tideline.scan import Needle, Scan, drop_lines, holds, scan
from tideline.source import SourceDefinition
from tideline.stores import Store, collect_garbage
from tideline.stores.lmdb_rewrite import rewrite, unused
from tideline.types import json_value

Id = tuple[str, str]
"""A column, and the text of an id in it."""
Dead = Mapping[tuple[int, int], tuple[str, dt.datetime]]
"""By partition and offset, a dead letter's reason and the record's time stamp."""


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


class _NoSpeedLayer:
    """The eraser holds the speed layer's lock itself."""

    def locked_by(self, name: str) -> int | None:
        return None


def check_ids(ledger: Ledger, source: str, ids: Iterable[Id]) -> None:
    """Raises UsageError where the source or a column is unknown, or a column holds no ids; never with an id."""
    if source not in ledger.sources:
        known = sorted(ledger.sources)
        raise UsageError(
            "UNKNOWN_SOURCE", f"there is no source {source}", f"sources: {', '.join(known)}", source=source, known=known
        )
    columns = {column.name: column.type for column in SourceDefinition.from_json(ledger.sources[source]).schema}
    fit = [KEY_COLUMN, *(name for name, kind in columns.items() if kind.is_integer or kind.name == "string")]
    earlier = SourceDefinition.from_json(ledger.sources[source]).erased
    fit += [name for name, _ in (earlier.hashes if earlier else ()) if name not in columns]
    for number, (column, text) in enumerate(ids, 1):
        if column not in fit:
            raise UsageError(
                "UNKNOWN_COLUMN",
                f"source {source} has no column {column} that could hold an id",
                f"columns of text or whole numbers: {', '.join(fit)}",
                source=source,
                column=column,
                known=fit,
            )
        kind = columns.get(column)
        if not text or (kind is not None and kind.is_integer and Needle(text.removeprefix("-")).number is None):
            raise UsageError(
                "BAD_ID", f"id {number} is not a value of {column}", "write it as the column holds it", column=column
            )


def erase(home: Home, spark: SparkSession, bootstrap: str, source: str, ids: Sequence[Id]) -> Evidence:
    """Erases ids of a source from master, views, states and versions; the caller holds the home's locks.

    What scratch files and logs hold is not looked at yet: see `clear`. Raises UsageError, StoreError, KafkaFault,
    ProtocolError.
    """
    with open_applied(home) as store:
        with store.snapshot() as snapshot:
            before = snapshot.ledger
        check_ids(before, source, ids)
        dead_before = _dead(home.master / source)
        reach("erase.register")
        entered = _enter(store, source, ids)
        reach("erase.registered")
        engine = SparkEngine(spark, store, home, bootstrap)
        BatchLayer(store, _NoSpeedLayer(), engine, keep_versions=1).run()
        tables = _segment_files(home)
        ledger = _forget(store)
        engine.remove_dead(ledger)
        reach("erase.published")
        removed = len(tables - _segment_files(home)) + purge(spark, home.master / source)
    reach("erase.purged")
    sizes = rewrite(home.path)
    reach("erase.stored")
    dead = _dead(home.master / source)
    fresh = [place for place, (reason, _) in dead.items() if reason == ERASED and not _was(dead_before, place, ERASED)]
    return Evidence(
        source,
        len(ids),
        entered,
        _by_partition(fresh),
        _by_partition(place for place in fresh if place in dead_before),
        ledger.version.id,
        [version.id for version in before.versions if version.id != ledger.version.id],
        removed,
        sizes,
        standing(bootstrap, str(ledger.sources[source]["topic"]), dead),
    )


def clear(home: Home, ids: Sequence[Id], evidence: Evidence) -> Evidence:
    """Removes scratch files and the lines of logs that hold an id, then looks into every file outside Kafka.

    No process of the home may run any more, nor a Spark session of this one.
    """
    texts = [text for _, text in ids]
    patterns = [pattern for text in texts for pattern in Needle(text).patterns]
    with unused(home.path):
        for path in home.tmp.iterdir() if home.tmp.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        lines = 0
        for path in [path for path in home.run.rglob("*") if path.is_file() and holds(path, patterns)]:
            lines += drop_lines(path, patterns)
        reach("erase.cleared")
        short = sum(not Needle(text).patterns for text in texts)
        return replace(evidence, lines_removed=lines, too_short=short, scan=scan(home, texts))


def _enter(store: Store, name: str, ids: Iterable[Id]) -> int:
    """Enters the hashes into the source and its views into the ledger under their new fingerprints; how many ids."""
    with store.write() as txn:
        ledger = txn.ledger
        source = SourceDefinition.from_json(ledger.sources[name])
        known = source.erased or Erased.none_yet()
        erased = known.adding(ids)
        if erased == source.erased:
            return 0
        changed = replace(source, erased=erased)
        views = [ViewDefinition.from_json(ledger.definition(wanted)) for wanted in ledger.wanted.values()]
        mine = redefined({view.name: view for view in views if view.source == name}, {name: changed})
        register(
            txn,
            {**ledger.sources, name: changed.to_json()},
            [mine.get(view.name, view) for view in views],
            ledger.topic_ids,
            ledger.origin,
        )
        return len(erased.hashes) - len(known.hashes)


def _forget(store: Store) -> Ledger:
    """Drops older versions and definitions, which a speed layer would go on folding until the next seal."""
    with store.write() as txn:
        ledger, token = txn.ledger.take_fence("batch")
        txn.put_ledger(ledger.seal(token).expire(token, 1))
        collect_garbage(txn)
        return txn.ledger


def _dead(master: Path) -> Dead:
    """The dead letters of a master."""
    if not (master / "_delta_log").is_dir():
        return {}
    from deltalake import DeltaTable

    columns = ["_partition", "_offset", "_reason", "_timestamp"]
    table = DeltaTable(str(master)).to_pyarrow_dataset().to_table(columns, pc.field("_reason").is_valid())
    return {(row["_partition"], row["_offset"]): (row["_reason"], row["_timestamp"]) for row in table.to_pylist()}


def _was(dead: Dead, place: tuple[int, int], reason: str) -> bool:
    return place in dead and dead[place][0] == reason


def _by_partition(places: Iterable[tuple[int, int]]) -> dict[int, int]:
    return dict(sorted(Counter(partition for partition, _ in places).items()))


def _segment_files(home: Home) -> set[Path]:
    return {path for path in home.batch.rglob("*") if path.is_file()}


def standing(bootstrap: str, topic: str, dead: Dead) -> Standing:
    """What of the erased records Kafka still holds, and until when. Raises KafkaFault."""
    starts = log_start_offsets(bootstrap, [topic])[topic]
    held = {
        place: at for place, (reason, at) in dead.items() if reason == ERASED and place[1] >= starts.get(place[0], 0)
    }
    newest = max(held.values(), default=None)
    settings = topic_settings(bootstrap, topic)
    retention, segment = int(settings["retention.ms"]), int(settings["segment.ms"])
    kept = newest is None or retention < 0 or "delete" not in settings["cleanup.policy"]
    ends = None if kept or newest is None else newest + dt.timedelta(milliseconds=retention)
    gone = None if ends is None else ends + dt.timedelta(milliseconds=segment)
    return Standing(topic, _by_partition(held), newest, ends, gone)


def run_erase(
    home: Home, bootstrap: str, source: str, ids: Sequence[Id], session: Callable[[], SparkSession]
) -> Evidence:
    """Erases with a Spark session of its own, which ends before scratch files are cleared."""
    with open_applied(home) as store, store.snapshot() as snapshot:
        check_ids(snapshot.ledger, source, ids)
    with unused(home.path):
        pass
    spark = session()
    try:
        evidence = erase(home, spark, bootstrap, source, ids)
    finally:
        spark.stop()
    return clear(home, ids, evidence)
