"""The batch layer on Spark: Kafka, Delta and the folds behind a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from batch_layer.archive import DeltaMaster
from batch_layer.parts import Built, Task
from batch_layer.segments import Segments
from tideline.collect import log_stats
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.fold_plan import LOG_VIEW
from tideline.ledger import Ledger, LogStats
from tideline.plans import SourcePlan
from tideline.runtime.home import Home
from tideline.runtime.topics import log_bounds, topic_ids
from tideline.source import SourceDefinition
from tideline.spark.fold import Fold
from tideline.stores import Store


class SparkEngine:
    """One Spark session over one home."""

    def __init__(self, spark: SparkSession, store: Store, home: Home, bootstrap: str) -> None:
        self.spark = spark
        self.home = home
        self.bootstrap = bootstrap
        self.segments = Segments(spark, store, home.batch)
        self._tables: dict[str, DeltaMaster] = {}

    def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """As Kafka says now."""
        return topic_ids(self.bootstrap, topics)

    def log_bounds(self, topics: Iterable[str]) -> tuple[Cut, Cut]:
        """As Kafka says now."""
        return log_bounds(self.bootstrap, topics)

    def table(self, source: SourceDefinition, origin: Cut) -> DeltaMaster:
        """The source's table under HOME/master."""
        table = self._tables[source.name] = DeltaMaster(self.spark, self.bootstrap, self.home.master, source, origin)
        return table

    @contextmanager
    def fold(self, plan: SourcePlan, begin: Cut, end: Cut) -> Iterator[SparkRange]:
        """One aggregation over the range's records, cached while it is in use."""
        fold, table = Fold(plan.source, plan.views), self._tables[plan.source.name]
        with table.faults():
            folded = fold.aggregate(table.records(begin, end)).persist()
            try:
                yield SparkRange(self.segments, fold, folded)
            finally:
                folded.unpersist()

    def remove_dead(self, ledger: Ledger) -> None:
        """Segments that the ledger does not name, and the tables of views that it does not know.

        What was allotted after this ledger belongs to another run, and stays.
        """
        views = [ViewDefinition.from_json(view) for view in ledger.definitions.values()]
        for view in views:
            self.segments.remove_dead(view, frozenset(ledger.segments), ledger.next_segment)
        self.segments.remove_views(views, ledger.next_segment)


class SparkRange:
    """The folded rows of a range."""

    def __init__(self, segments: Segments, fold: Fold, folded: DataFrame) -> None:
        self._segments = segments
        self._fold = fold
        self._folded = folded

    @cached_property
    def _log(self) -> tuple[Mapping[int, LogStats], Mapping[str, int]]:
        table: pa.Table = self._folded.where(f"view = {LOG_VIEW}").toArrow()
        return log_stats(self._fold, table)

    @property
    def log(self) -> Mapping[int, LogStats]:
        """What the log held, by partition."""
        return self._log[0]

    @property
    def rejects(self) -> Mapping[str, int]:
        """How many events a view's expressions failed on, by fingerprint."""
        return self._log[1]

    def build(self, tasks: Sequence[Task]) -> list[Built]:
        """Two segments at a time."""
        if not tasks:
            return []
        states = self._folded.where("entry = 0") if self._fold.has_entries else self._folded
        counts = states.groupBy("view").count().toArrow()
        rows = dict(zip(counts["view"].to_pylist(), counts["count"].to_pylist(), strict=True))

        def build(task: Task, number: int) -> Built:
            planned = self._fold.planned[number]
            return self._segments.build(task, self._folded, planned, rows.get(planned.index, 0))

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(build, tasks, range(len(tasks))))
