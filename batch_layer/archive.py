"""The master dataset in Delta: every record of a range of Kafka, with explicit offsets.

One table a source. Rows are the record (`_partition`, `_offset`, `_timestamp`, `_hash`, `_key`, `_headers`, `_value`),
the event's typed columns, `_reason` where the record is a dead letter, and `_duplicate`. Of an erased record, place and
`_hash` alone are kept. Files hold one Kafka partition's records in offset order, so that a range reads only the files
that overlap it. Each commit says in its user metadata which range it holds.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType
from pyspark.sql.window import Window

from tideline import delta_log
from tideline.collect import Tables
from tideline.cut import Cut
from tideline.delta_files import Writer, settle
from tideline.erased import ERASED
from tideline.fold_plan import FoldPlan
from tideline.points import reach
from tideline.source import SourceDefinition
from tideline.spark.columns import quoted
from tideline.spark.events import decode, event_schema, sign_sql
from tideline.spark.faults import table_faults
from tideline.spark.kafka import kafka_records
from tideline.spark.kafka_files import kafka_files, mark
from tideline.spark.master_folds import master_folds
from tideline.spark.piece_files import ids_of
from tideline.spark.ranges import MASTER_COLUMNS, known_ids, master_records
from tideline.spark.repeats import Repeats
from tideline.spark.tables import staged, take_over

log = logging.getLogger(__name__)
_PROPERTIES = {
    "delta.dataSkippingNumIndexedCols": "3",
    "delta.isolationLevel": "Serializable",
    "delta.setTransactionRetentionDuration": "interval 7 days",
}
_WRITER = "tideline"  # whose transactions they are, to Delta


class DeltaMaster:
    """The table of one source; keeps the ids of recent events between runs."""

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
        self._version: int | None = None
        self._settled = -1

    def commits(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Version and metadata of the commits, newest first: the layer's own, and what others did to the table."""
        return ((commit.version, commit.metadata) for commit in delta_log.commits(self.path))

    def pin(self, version: int) -> None:
        """What `records` reads from here on; it is on disk then, also where who wrote it was killed before that."""
        self._version = version
        if version > self._settled:
            with self.faults():
                self._settle()

    def faults(self) -> contextlib.AbstractContextManager[None]:
        """Spark's errors inside, as errors about this table."""
        return table_faults(self.path, "MASTER_DAMAGED")

    def records(self, begin: Cut, end: Cut) -> DataFrame:
        """The records of [begin, end) in the pinned version, decoded, with `_reason` and `_duplicate`."""
        return master_records(self.spark, self.path, self.topic, begin, end, self._version)

    def folds(self, plan: FoldPlan, begin: Cut, end: Cut) -> list[Tables] | None:
        """The same folded by Arrow, of a plan that is plain; None where the events are not as plain."""
        return master_folds(self.spark, self.path, plan, begin, end, self._version)

    def append(self, begin: Cut, end: Cut, metadata: Mapping[str, Any], check: Callable[[], None]) -> int:
        """Reads, decodes, finds repeats, and commits."""
        with self.faults():
            return self._append(begin, end, metadata, check)

    def _append(self, begin: Cut, end: Cut, metadata: Mapping[str, Any], check: Callable[[], None]) -> int:
        repeats = self._repeats_at(begin)
        with staged(self.path) as folder:
            files = kafka_files(self.spark, self.bootstrap, self.source, begin, end, folder)
            for partition, repeated in repeats.find(ids_of(files)) if repeats else ():
                for file in files:
                    if file.partition == partition:
                        mark(self.source, file, repeated)
            count = sum(file.records for file in files)
            check()
            reach("archive.write")
            self._add([file.path for file in files], {**metadata, "records": count})
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
        start = begin.behind(self.topic, self.source.horizon).advance(self.origin)
        repeats.load(known_ids(self.spark, self.bootstrap, self.path, self.source, start, begin, begin).toArrow())
        return repeats

    def _add(self, files: Sequence[Path], metadata: Mapping[str, Any]) -> None:
        """As a transaction of Delta, by whose number it is left out where another was planned as late."""
        number = metadata["after"] + 1
        writer = Writer(self._schema, {}, ("_partition", "_offset"), _PROPERTIES, (_WRITER, number))
        if writer.is_late(self.path):
            self._left_out()
        else:
            taken = take_over(files, self.path)
            if not writer.add(self.path, taken, metadata):
                for file in taken:
                    file.unlink()
                self._left_out()
        self._settle()

    @cached_property
    def _schema(self) -> str:
        columns = event_schema(self.source, MASTER_COLUMNS, None)
        return str(StructType.fromDDL(f"{columns}, _duplicate boolean").json())

    def _replace(self, rows: DataFrame, metadata: Mapping[str, Any]) -> None:
        """As `_add`, in the place of all that the table holds."""
        writer = (
            rows.write.format("delta")
            .mode("overwrite")
            .options(**_PROPERTIES, txnAppId=_WRITER, txnVersion=str(metadata["after"] + 1), overwriteSchema="true")
            .option("userMetadata", delta_log.metadata_text(metadata))
        )
        try:
            writer.save(str(self.path))
        except Py4JJavaError as error:
            if "[DELTA_CONCURRENT_TRANSACTION]" not in str(error):
                raise
            self._left_out()
        self._settle()

    def _settle(self) -> None:
        self._settled = settle(self.path).version

    def _left_out(self) -> None:
        log.info("another process wrote to the master of %s meanwhile", self.source.name)

    def skip(self, metadata: Mapping[str, Any]) -> None:
        """An append of nothing, which makes the table where there is none."""
        with self.faults():
            self._add((), metadata)

    def restore(self, version: int | None, metadata: Mapping[str, Any]) -> None:
        """Delta's own restore, by which the files of an earlier version are the table's again."""
        with _user_metadata(self.spark, metadata):
            if version is None:
                self.spark.sql(f"delete from delta.`{self.path}`")
            else:
                self.spark.sql(f"restore table delta.`{self.path}` to version as of {version}")
        self._settle()
        self._repeats = None

    def rewrite(self, metadata: Mapping[str, Any], shift: Mapping[int, int] | None = None) -> int:
        """Decodes the raw columns again and commits all of it; Delta refuses it if something was appended meanwhile."""
        with self.faults():
            return self._rewrite(metadata, shift or {})

    def _rewrite(self, metadata: Mapping[str, Any], shift: Mapping[int, int]) -> int:
        stored = self.spark.read.format("delta").load(str(self.path))
        raw = stored.select(*MASTER_COLUMNS, F.expr(f"_reason <=> '{ERASED}'").alias("_erased"))
        end = next(commit["end"] for _, commit in self.commits() if "end" in commit)
        end = Cut.from_json(end).shift(self.topic, shift).to_json()
        if shift:
            by = " ".join(f"when {partition} then {offsets}" for partition, offsets in shift.items())
            raw = raw.withColumn("_offset", F.expr(f"_offset + case _partition {by} else 0 end"))
        # Publish compares it with what was read first. Of what was erased, only the hash is left.
        raw = raw.withColumn("_hash", F.expr("if(_erased, _hash, xxhash64(_offset, _value))"))
        events = decode(raw, self.source, (*MASTER_COLUMNS, "_erased"))
        events = events.withColumn("_reason", F.expr(f"if(_erased, '{ERASED}', _reason)")).drop("_erased")
        events = _without_erased(events)
        events = events.withColumn("_duplicate", self._repeated() if self.source.event_id else F.lit(False))
        count = raw.count()
        ordered = events.sortWithinPartitions("_partition", "_offset")
        self._replace(ordered, {**metadata, "end": end, "records": count})
        self._repeats = None
        return count

    def holds_all(self, begin: Cut, end: Cut) -> bool:
        """By key, value and time stamp."""
        if next(self.commits(), None) is None:
            return False
        columns = ["_offset", "_timestamp", "_key", "_value"]
        read = kafka_records(self.spark, self.bootstrap, self.topic, begin, end, columns)
        wanted = read.alias("wanted").persist()
        known = self.spark.read.format("delta").load(str(self.path)).alias("known")
        same = " and ".join(f"known.{name} <=> wanted.{name}" for name in ("_key", "_value", "_timestamp"))
        found = known.join(F.broadcast(wanted), F.expr(same)).select("wanted._offset").distinct().count()
        return found > 0 and found == wanted.count()

    def _repeated(self) -> Column:
        id, operation = str(self.source.event_id), self.source.operation
        sign = F.expr(sign_sql(operation)) if operation else F.lit(1)
        same = Window.partitionBy("_partition", F.col("_reason").isNull(), sign, quoted(id)).orderBy("_offset")
        distance = F.col("_offset") - F.lag("_offset").over(same)
        return F.coalesce(F.col("_reason").isNull() & (distance <= self.source.horizon), F.lit(False))


@contextlib.contextmanager
def _user_metadata(spark: SparkSession, metadata: Mapping[str, Any]) -> Iterator[None]:
    """For the commits of statements, which take no options."""
    name = "spark.databricks.delta.commitInfo.userMetadata"
    spark.conf.set(name, delta_log.metadata_text(metadata))
    try:
        yield
    finally:
        spark.conf.unset(name)


def _without_erased(events: DataFrame) -> DataFrame:
    kept = {name: F.expr(f"if(_reason = '{ERASED}', null, {name})") for name in ("_key", "_headers", "_value")}
    return events.withColumns(kept)
