"""Folding micro-batches with Spark: decode, find repeats, one aggregation for all views of a source.

A small micro-batch is decoded here, in the driver: to start Spark's Python workers on it takes longer than decoding it.
A large one is decoded by the workers. It is the same decoder, and the same fold.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from speed_layer.layer import Parts
from speed_layer.recent import RecentSources
from tideline.cut import Cut
from tideline.decode import decode_batch, decoded_from
from tideline.ledger import Ledger
from tideline.plans import Folded, SourcePlan, plan_sources
from tideline.runtime.topics import log_bounds, topic_ids
from tideline.source import SourceDefinition
from tideline.spark.collect import collect
from tideline.spark.events import decode, records
from tideline.spark.faults import table_faults
from tideline.spark.fold import Fold
from tideline.spark.ranges import event_ids, range_sql
from tideline.spark.repeats import Repeats

FEW = 10_000  # records of a small micro-batch
_FEW_BYTES = 64 << 20


class SparkFolder:
    """Compiled folds and the ids of recent events, by source. A micro-batch of up to `few` records is a small one."""

    def __init__(self, spark: SparkSession, bootstrap: str, master: Path, few: int = FEW) -> None:
        self.spark = spark
        self.bootstrap = bootstrap
        self.master = master
        self.few = few
        self._bytes: dict[SourceDefinition, float] = {}  # of a record in the last micro-batch
        self._folds: dict[SourceDefinition, Fold] = {}
        self._recent = RecentSources(self._load)

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """As Kafka says now."""
        return topic_ids(self.bootstrap, topics)

    def log_bounds(self, topics: Iterable[str]) -> tuple[Cut, Cut]:
        """As Kafka says now."""
        return log_bounds(self.bootstrap, topics)

    def start(self, ledger: Ledger) -> None:
        """Fills the indexes of the open generation's sources."""
        self._recent.start(ledger)

    def _load(self, source: SourceDefinition, begin: Cut, end: Cut, ledger: Ledger) -> Repeats:
        repeats, master = Repeats(source), self.master / source.name
        with table_faults(master, "MASTER_DAMAGED"):
            ids = event_ids(self.spark, self.bootstrap, master, source, begin, end, ledger.archived)
            repeats.load(ids.toArrow())
        return repeats

    @contextmanager
    def folded(self, rows: DataFrame, ledger: Ledger, start: Cut, stop: Cut, views: Collection[str]) -> Iterator[Parts]:
        """Every plan of these views with its fold; what is cached is let go at the end."""
        cached: list[DataFrame] = []
        try:
            plans = plan_sources(ledger, views)
            self._recent.keep({plan.source for plan in plans})
            yield [(plan, self._fold(rows, plan, ledger, start, stop, cached)) for plan in plans]
        finally:
            for frame in cached:
                frame.unpersist()

    def _fold(
        self, rows: DataFrame, plan: SourcePlan, ledger: Ledger, start: Cut, stop: Cut, cached: list[DataFrame]
    ) -> Folded:
        source = plan.source
        fold = self._folds.get(source)
        if fold is None or fold.views != plan.views:
            fold = self._folds[source] = Fold(source, plan.views)
        columns = dict.fromkeys([*fold.record_columns, *decoded_from(source)])
        wanted = records(rows.where(f"topic = '{source.topic}'"), list(columns))
        wanted = wanted.where(range_sql(source.topic, start, stop))
        repeats = self._recent.find(source, ledger)
        small = self._read_small(wanted, source, start, stop)
        if small is not None:
            events = self._decoded_here(small, source, fold.record_columns, repeats)
        else:
            events = self._decoded_by_workers(wanted, source, fold.record_columns, repeats, cached)
        return collect(fold, fold.aggregate(events).toArrow())

    def _read_small(self, wanted: DataFrame, source: SourceDefinition, start: Cut, stop: Cut) -> pa.RecordBatch | None:
        """The records, where they are few and not too large for the driver: else None."""
        count = sum(offset - start.offset(source.topic, p) for p, offset in stop.offsets(source.topic).items())
        if count > self.few:
            return None
        if source not in self._bytes:
            self._bytes[source] = wanted.selectExpr("avg(octet_length(_value))").collect()[0][0] or 0.0
        if count * self._bytes[source] > _FEW_BYTES:
            return None
        try:
            table = wanted.toArrow().combine_chunks()
        except Exception as error:
            if "spark.driver.maxResultSize" not in str(error):
                raise
            self._bytes[source] = math.inf
            return None
        self._bytes[source] = table.nbytes / max(1, table.num_rows)
        arrays = [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in table.columns]
        return pa.RecordBatch.from_arrays(arrays, schema=table.schema)

    def _decoded_here(
        self, batch: pa.RecordBatch, source: SourceDefinition, keep: Sequence[str], repeats: Repeats | None
    ) -> DataFrame:
        events = pa.Table.from_batches([decode_batch(source, batch, keep)])
        if repeats is not None:
            events = repeats.flag_table(events)
        frame = self.spark.createDataFrame(events).coalesce(1)
        return frame if repeats is not None else frame.selectExpr("*", "false as _duplicate")

    def _decoded_by_workers(
        self,
        wanted: DataFrame,
        source: SourceDefinition,
        keep: Sequence[str],
        repeats: Repeats | None,
        cached: list[DataFrame],
    ) -> DataFrame:
        events = decode(wanted, source, keep)
        if repeats is None:
            return events.selectExpr("*", "false as _duplicate")
        cached.append(events.persist())
        return repeats.flag(events)

    def committed(self) -> None:
        """Takes the ids of the micro-batch in hand into the indexes."""
        self._recent.committed()
