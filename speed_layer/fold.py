"""Folding micro-batches with Spark: decode, find repeats, one aggregation for all views of a source.

A small micro-batch is read and decoded here, in the driver: to start Spark's Python workers takes longer. A large one
is read and decoded by the workers. It is the same reader and the same decoder. Views that are plain are folded by Arrow
where their events are decoded; the others by Spark, which plans the fold of small micro-batches once.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from speed_layer.layer import Parts
from speed_layer.reading import SmallReads
from speed_layer.recent import RecentSources
from tideline.arrow_fold import arrow_fold, combined, plain_views
from tideline.arrow_terms import NotPlain
from tideline.collect import Tables, by_view, collect
from tideline.cut import Cut
from tideline.decode import decode_batch, decoded_from
from tideline.definition import ViewDefinition
from tideline.fold_plan import FoldPlan
from tideline.ledger import Ledger
from tideline.plans import Folded, Planner, SourcePlan
from tideline.runtime.scratch import own_scratch
from tideline.runtime.topics import log_bounds, topic_ids
from tideline.source import SourceDefinition
from tideline.spark.events import plain_headers
from tideline.spark.faults import table_faults
from tideline.spark.fold import Fold
from tideline.spark.kafka import kafka_events, kafka_folds
from tideline.spark.piece_files import ids_of
from tideline.spark.prepared import PreparedQuery
from tideline.spark.ranges import known_ids
from tideline.spark.repeats import Repeats
from tideline.spark.spool import spool, spool_folds

log = logging.getLogger(__name__)
FEW = 100_000  # records of a small micro-batch
_FEW_BYTES = 64 << 20
_ONE_TASK = 10_000  # rows of the fold that one task has


class SparkFolder:
    """Compiled folds and the ids of recent events, by source. A micro-batch of up to `few` records is a small one.

    A large one may be spooled in the folder `scratch`.
    """

    def __init__(self, spark: SparkSession, bootstrap: str, master: Path, scratch: Path, few: int = FEW) -> None:
        self.spark = spark
        self.bootstrap = bootstrap
        self.master = master
        self.scratch = scratch
        self.few = few
        self._small = SmallReads(bootstrap, _FEW_BYTES)
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
            ids = known_ids(self.spark, self.bootstrap, master, source, begin, end, ledger.archived)
            repeats.load(ids.toArrow())
        return repeats

    def folded(self, ledger: Ledger, start: Cut, stop: Cut, views: Collection[str]) -> Parts:
        """Every plan of these views with its fold. Raises KafkaFault also where workers met it."""
        cached: list[DataFrame] = []
        try:
            plans = self._planner.plan(ledger, views)
            self._recent.keep({plan.source for plan in plans})
            folds = [self._compiled(plan) for plan in plans]
            small = self._read_small(folds, start, stop)
            repeats = [self._recent.find(plan.source, ledger) for plan in plans]
            with table_faults(self.scratch):
                return [
                    (plan, self._fold(fold, small[plan.source.topic], start, stop, found, cached))
                    for plan, fold, found in zip(plans, folds, repeats, strict=True)
                ]
        finally:
            for frame in cached:
                frame.unpersist()

    def _compiled(self, plan: SourcePlan) -> _CompiledFold:
        fold = self._folds.get(plan.source)
        if fold is None or fold.views != plan.views:
            fold = self._folds[plan.source] = _CompiledFold(plan.source, plan.views)
        return fold

    def _read_small(self, folds: Iterable[Fold], start: Cut, stop: Cut) -> dict[str, pa.RecordBatch | None]:
        """The records by topic, where they are few and not too large for the driver: else None."""
        columns: dict[str, dict[str, None]] = {}
        for fold in folds:
            read = columns.setdefault(fold.source.topic, {})
            read.update(dict.fromkeys((*fold.record_columns, *decoded_from(fold.source))))
        self._small.keep(set(columns))
        if stop.count_since(start) > self.few:
            return dict.fromkeys(columns)
        return {topic: self._small.read(topic, start, stop, list(read)) for topic, read in columns.items()}

    def _fold(
        self,
        fold: _CompiledFold,
        small: pa.RecordBatch | None,
        start: Cut,
        stop: Cut,
        repeats: Repeats | None,
        cached: list[DataFrame],
    ) -> Folded:
        if small is not None:
            return fold.of_few(self.spark, self._decoded_here(small, fold, repeats))
        if fold.plain is not None:
            results = self._plain_folds(fold.plain, start, stop, repeats)
            if results is not None:
                return collect(fold.plain, *combined(fold.plain, results))
        return fold.of_many(self._decoded_by_workers(fold, start, stop, repeats, cached))

    def _plain_folds(self, plan: FoldPlan, start: Cut, stop: Cut, repeats: Repeats | None) -> list[Tables] | None:
        if repeats is None:
            return kafka_folds(self.spark, self.bootstrap, plan, start, stop)
        parent = own_scratch(self.scratch, "speed")
        with TemporaryDirectory(prefix="spool-", dir=parent, ignore_cleanup_errors=True) as folder:
            files = spool(self.spark, self.bootstrap, plan, start, stop, Path(folder))
            return spool_folds(self.spark, plan, files, dict(repeats.find(ids_of(files))))

    def _decoded_here(self, small: pa.RecordBatch, fold: Fold, repeats: Repeats | None) -> pa.Table:
        events = decode_batch(fold.source, small, fold.record_columns, fold.event_columns)
        table = pa.Table.from_batches([events])
        if repeats is not None:
            return repeats.flag_table(table)
        return table.append_column("_duplicate", pa.array(np.zeros(len(table), np.bool_)))

    def _decoded_by_workers(
        self, fold: Fold, start: Cut, stop: Cut, repeats: Repeats | None, cached: list[DataFrame]
    ) -> DataFrame:
        columns = fold.record_columns, fold.event_columns
        events = kafka_events(self.spark, self.bootstrap, fold.source, start, stop, *columns)
        if repeats is None:
            return events.selectExpr("*", "false as _duplicate")
        cached.append(events.persist())
        return repeats.flag(events)

    def committed(self) -> None:
        """Takes the ids of the micro-batch in hand into the indexes."""
        self._recent.committed()

    def close(self) -> None:
        """Ends its readers of Kafka; the next micro-batch begins with new ones."""
        self._small.keep(set())


class _SparkFold(Fold):
    """A fold by Spark and, from its first small micro-batch on, its plans of it: for one task each."""

    def __init__(self, source: SourceDefinition, views: Sequence[ViewDefinition]) -> None:
        super().__init__(source, views)
        self._prepared: list[PreparedQuery] = []
        self._second = ThreadPoolExecutor(1)  # kept: each thread has its own line to the JVM

    def of_few(self, spark: SparkSession, events: pa.Table) -> Folded:
        """What decoded events in memory fold to; many are shared between two tasks, so that a group may come twice."""
        events = events.select([*self.record_columns, *self.event_columns, "_reason", "_duplicate"])
        parts = 2 if len(events) * (len(self.views) + 1) > _ONE_TASK else 1
        while len(self._prepared) < parts:
            query = PreparedQuery(spark, events.schema, lambda frame: self.aggregate(plain_headers(frame)))
            self._prepared.append(query)
        if parts == 1:
            return collect(self, by_view(self._prepared[0].run(events)))
        middle = len(events) // 2
        other = self._second.submit(self._prepared[1].run, events.slice(middle))
        tables = [self._prepared[0].run(events.slice(0, middle)), other.result()]
        return collect(self, *map(by_view, tables))

    def of_many(self, events: DataFrame) -> Folded:
        """What decoded events fold to."""
        return collect(self, by_view(self.aggregate(events).toArrow()))


class _CompiledFold(_SparkFold):
    """The fold of views of which Arrow folds those that are plain, and Spark the rest; and all, if the events are not
    as plain."""

    def __init__(self, source: SourceDefinition, views: Sequence[ViewDefinition]) -> None:
        super().__init__(source, views)
        plain = plain_views(source, views)
        rest = [view for view in views if view not in plain]
        self._plain = arrow_fold(source, plain) if plain or not views else None
        self._rest = _SparkFold(source, rest) if plain and rest else None
        log.debug("of %s Arrow folds %s, Spark %s", source.name, [v.name for v in plain], [v.name for v in rest])

    @property
    def plain(self) -> FoldPlan | None:
        """The plan, where Arrow folds every view of it."""
        return None if self._plain is None or self._rest else self._plain.plan

    def of_few(self, spark: SparkSession, events: pa.Table) -> Folded:
        if self._plain is None:
            return super().of_few(spark, events)
        try:
            folded = collect(self._plain.plan, self._plain.fold(events))
        except NotPlain:
            return super().of_few(spark, events)
        if self._rest is None:
            return folded
        others = self._rest.of_few(spark, events)
        return Folded({**folded.rows, **others.rows}, others.log, others.rejects)
