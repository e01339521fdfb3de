"""Archiving: copying a range of Kafka into the master dataset, every record of it, with explicit offsets.

One Delta table a source. Rows are the record (`_partition`, `_offset`, `_timestamp`, `_hash`, `_key`, `_headers`,
`_value`), the event's typed columns, `_reason` where the record is a dead letter, and `_duplicate`. Files hold one
Kafka partition's records in offset order, so that a range reads only the files that overlap it. Each commit says in
its user metadata which range it holds; the table's log is the truth of the archived cut (invariant 4).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from tideline import delta_log
from tideline.cut import Cut
from tideline.errors import OutsideError, ProtocolError
from tideline.source import SourceDefinition
from tideline.spark.events import decode, identity_sql
from tideline.spark.ranges import MASTER_COLUMNS, behind, event_ids, is_empty, kafka_records
from tideline.spark.repeats import Repeats

FORMAT = 1
CHUNK = 1_000_000  # offsets of one commit
_PROPERTIES = {"delta.dataSkippingNumIndexedCols": "3"}


class Master:
    """The master dataset of one source."""

    def __init__(
        self, spark: SparkSession, bootstrap: str, folder: Path, source: SourceDefinition, origin: Cut
    ) -> None:
        self.spark = spark
        self.bootstrap = bootstrap
        self.path = folder / source.name
        self.source = source
        self.topic = source.topic
        self.origin = origin.restrict([source.topic])
        self._repeats: tuple[Cut, Repeats] | None = None

    @property
    def archived(self) -> Cut:
        """The archived cut, from the table's own log."""
        return Cut.from_json(self._head()["end"]) if self._head() else self.origin

    @property
    def is_current(self) -> bool:
        """Whether the table was decoded as the source is declared now; true of an empty one."""
        head = self._head()
        return not head or head["source"] == self.source.fingerprint

    def _head(self) -> dict[str, Any]:
        for commit in delta_log.commits(self.path):
            if "end" in commit.metadata:
                if commit.metadata["format"] > FORMAT:
                    raise OutsideError(
                        "MASTER_FORMAT",
                        f"{self.path} has format {commit.metadata['format']}, {FORMAT} is known",
                        "use the release that wrote it, or a newer one",
                        path=str(self.path),
                    )
                return commit.metadata
        return {}

    def archive(self, end: Cut, before_commit: Callable[[], None]) -> int:
        """Copies what lies between the archived cut and `end`; how many records. `before_commit` may refuse."""
        total, begin = 0, self.archived
        while not is_empty(self.topic, begin, end):
            stop = _chunk(self.topic, begin, end)
            total += self._append(begin, stop, before_commit)
            begin = self.archived
            if not begin.covers(stop):
                raise ProtocolError(
                    "ARCHIVE_LOST",
                    f"the master holds {begin} after archiving up to {stop}",
                    "check the disk and run the batch layer again",
                    path=str(self.path),
                )
        return total

    def _append(self, begin: Cut, end: Cut, before_commit: Callable[[], None]) -> int:
        rows = kafka_records(self.spark, self.bootstrap, self.topic, begin, end)
        events = decode(rows, self.source, MASTER_COLUMNS).persist()
        try:
            repeats = self._repeats_at(begin)
            flagged = repeats.flag(events) if repeats else events.withColumn("_duplicate", F.lit(False))
            count = events.count()
            before_commit()
            self._write(flagged.select(*events.columns, "_duplicate"), begin, end, count, "append")
        finally:
            events.unpersist()
        if repeats:
            repeats.committed()
            self._repeats = (end, repeats)
        return count

    def _repeats_at(self, begin: Cut) -> Repeats | None:
        """The index of the ids before `begin`; kept from the last append where it ended there."""
        if not self.source.event_id or not self.source.horizon:
            return None
        if self._repeats and self._repeats[0] == begin:
            return self._repeats[1]
        repeats = Repeats(self.source)
        start = behind(begin, self.topic, self.source.horizon).advance(self.origin)
        repeats.load(event_ids(self.spark, self.bootstrap, self.path, self.source, start, begin, begin).toArrow())
        return repeats

    def _write(self, rows: DataFrame, begin: Cut, end: Cut, count: int, mode: str) -> None:
        metadata = {
            "format": FORMAT,
            "source": self.source.fingerprint,
            "origin": self.origin.to_json(),
            "begin": begin.to_json(),
            "end": begin.advance(end).to_json(),
            "records": count,
        }
        writer = (
            rows.write.format("delta").mode(mode).options(**_PROPERTIES).option("userMetadata", json.dumps(metadata))
        )
        writer.option("overwriteSchema", str(mode == "overwrite")).save(str(self.path))
        delta_log.sync(self.path, delta_log.newest(self.path))

    def redecode(self) -> int:
        """Decodes every record again as the source is declared now; how many. The raw columns stay as they are."""
        head = self._head()
        if not head:
            return 0
        raw = self.spark.read.format("delta").load(str(self.path)).select(*MASTER_COLUMNS)
        raw = raw.withColumn(
            "_hash", F.expr("xxhash64(_offset, _value)")
        )  # publish compares it with what was read first
        events = decode(raw, self.source, MASTER_COLUMNS)
        events = events.withColumn("_duplicate", self._repeated() if self.source.event_id else F.lit(False))
        count = raw.count()
        ordered = events.sortWithinPartitions("_partition", "_offset")
        self._write(ordered, self.origin, Cut.from_json(head["end"]), count, "overwrite")
        self._repeats = None
        return count

    def _repeated(self) -> Column:
        same = Window.partitionBy("_partition", F.expr("_reason is null"), F.expr(identity_sql(self.source))).orderBy(
            "_offset"
        )
        distance = F.col("_offset") - F.lag("_offset").over(same)
        return F.coalesce(F.col("_reason").isNull() & (distance <= self.source.horizon), F.lit(False))


def _chunk(topic: str, begin: Cut, end: Cut) -> Cut:
    """The end of the first chunk of [begin, end): as much of every partition as fits."""
    partitions = end.offsets(topic)
    wanted = {p: max(0, offset - begin.offset(topic, p)) for p, offset in partitions.items()}
    share = min(1.0, CHUNK / max(1, sum(wanted.values())))
    return begin.advance(Cut({topic: {p: begin.offset(topic, p) + -int(-n * share // 1) for p, n in wanted.items()}}))
