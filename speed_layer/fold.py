"""Folding micro-batches with Spark: decode, find repeats, one aggregation for all views of a source.

A small micro-batch is decoded here, in the driver, and its fold is planned once: to start Spark's Python workers and to
plan a query take longer than to decode and fold it. A large one is decoded by the workers. It is the same decoder, and
the same fold.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from speed_layer.layer import Parts
from speed_layer.recent import RecentSources
from tideline.cut import Cut
from tideline.decode import decode_batch, decoded_from
from tideline.ledger import Ledger
from tideline.plans import Folded, Planner, SourcePlan
from tideline.runtime.topics import log_bounds, topic_ids
from tideline.source import SourceDefinition
from tideline.spark.arrow import collect_table, schema_of
from tideline.spark.collect import collect
from tideline.spark.events import decode, plain_headers
from tideline.spark.faults import table_faults
from tideline.spark.fold import Fold
from tideline.spark.prepared import PreparedQuery
from tideline.spark.ranges import event_ids, range_sql
from tideline.spark.repeats import Repeats

FEW = 100_000  # records of a small micro-batch
_FEW_BYTES = 64 << 20


class SparkFolder:
    """Compiled folds and the ids of recent events, by source. A micro-batch of up to `few` records is a small one.

    Micro-batches come as `stream_records` has them.
    """

    def __init__(self, spark: SparkSession, bootstrap: str, master: Path, few: int = FEW) -> None:
        self.spark = spark
        self.bootstrap = bootstrap
        self.master = master
        self.few = few
        self._schema: pa.Schema | None = None  # of micro-batches
        self._bytes: float | None = None  # of a record in the last small micro-batch
        self._folds: dict[SourceDefinition, _CompiledFold] = {}
        self._recent = RecentSources(self._load)
        self._planner = Planner()

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
            plans = self._planner.plan(ledger, views)
            self._recent.keep({plan.source for plan in plans})
            small = self._read_small(rows, start, stop)
            yield [(plan, self._fold(rows, small, plan, ledger, start, stop, cached)) for plan in plans]
        finally:
            for frame in cached:
                frame.unpersist()

    def _fold(
        self,
        rows: DataFrame,
        small: pa.Table | None,
        plan: SourcePlan,
        ledger: Ledger,
        start: Cut,
        stop: Cut,
        cached: list[DataFrame],
    ) -> Folded:
        source = plan.source
        fold = self._folds.get(source)
        if fold is None or fold.views != plan.views:
            fold = self._folds[source] = _CompiledFold(source, plan.views)
        repeats = self._recent.find(source, ledger)
        if small is not None:
            wanted = _within(small, source.topic, start, stop)
            return fold.of_few(self.spark, self._decoded_here(wanted, source, fold.record_columns, repeats))
        return fold.of_many(self._decoded_by_workers(rows, source, start, stop, fold.record_columns, repeats, cached))

    def _read_small(self, rows: DataFrame, start: Cut, stop: Cut) -> pa.Table | None:
        """The records, where they are few and not too large for the driver: else None."""
        count = stop.count_since(start)
        if count > self.few:
            return None
        if self._schema is None:
            self._schema = schema_of(rows)
        if self._bytes is None:
            self._bytes = rows.selectExpr("avg(octet_length(_value))").collect()[0][0] or 0.0
        if count * self._bytes > _FEW_BYTES:
            return None
        try:
            table = collect_table(rows, self._schema)
        except Exception as error:
            if "spark.driver.maxResultSize" not in str(error):
                raise
            self._bytes = math.inf
            return None
        self._bytes = table.nbytes / max(1, table.num_rows)
        return table

    def _decoded_here(
        self, wanted: pa.RecordBatch, source: SourceDefinition, keep: Sequence[str], repeats: Repeats | None
    ) -> pa.Table:
        events = pa.Table.from_batches([decode_batch(source, wanted, keep)])
        if repeats is not None:
            return repeats.flag_table(events)
        return events.append_column("_duplicate", pa.array(np.zeros(len(events), np.bool_)))

    def _decoded_by_workers(
        self,
        rows: DataFrame,
        source: SourceDefinition,
        start: Cut,
        stop: Cut,
        keep: Sequence[str],
        repeats: Repeats | None,
        cached: list[DataFrame],
    ) -> DataFrame:
        wanted = rows.where(f"_topic = '{source.topic}'").where(range_sql(source.topic, start, stop))
        events = decode(wanted.select(*dict.fromkeys([*keep, *decoded_from(source)])), source, keep)
        if repeats is None:
            return events.selectExpr("*", "false as _duplicate")
        cached.append(events.persist())
        return repeats.flag(events)

    def committed(self) -> None:
        """Takes the ids of the micro-batch in hand into the indexes."""
        self._recent.committed()


class _CompiledFold(Fold):
    """A fold and, from its first small micro-batch on, Spark's plan of it."""

    _prepared: PreparedQuery | None = None

    def of_few(self, spark: SparkSession, events: pa.Table) -> Folded:
        """What decoded events in memory fold to."""
        if self._prepared is None:
            self._prepared = PreparedQuery(spark, events.schema, lambda frame: self.aggregate(plain_headers(frame)))
        return collect(self, self._prepared.run(events))

    def of_many(self, events: DataFrame) -> Folded:
        """What decoded events fold to."""
        return collect(self, self.aggregate(events).toArrow())


def _within(records: pa.Table, topic: str, start: Cut, stop: Cut) -> pa.RecordBatch:
    """A topic's records in [start, stop)."""
    ends = stop.offsets(topic)
    bounds = np.zeros((2, max(ends, default=-1) + 2), np.int64)  # nothing lies within those of the last
    for partition, end in ends.items():
        bounds[:, partition] = start.offset(topic, partition), end
    places = np.minimum(records["_partition"].to_numpy(), bounds.shape[1] - 1)
    offsets = records["_offset"].to_numpy()
    inside = (offsets >= bounds[0, places]) & (offsets < bounds[1, places])
    wanted = records.filter(pc.and_(pc.equal(records["_topic"], topic), pa.array(inside))).combine_chunks()
    arrays = [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in wanted.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=wanted.schema)
