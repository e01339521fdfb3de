"""The batch layer on Spark: Kafka, Delta and the folds behind a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession

from batch_layer.archive import DeltaMaster
from batch_layer.parts import FoldedRange
from batch_layer.ranges import ArrowRange, JoinedRange, SparkRange
from batch_layer.segments import Segments
from tideline.arrow_fold import arrow_fold, plain_views
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.ledger import Ledger
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
    def fold(self, plan: SourcePlan, begin: Cut, end: Cut) -> Iterator[FoldedRange]:
        """Views that are plain are folded by Arrow where the master is read, the others by one aggregation of Spark's,
        whose result is cached while it is in use."""
        table = self._tables[plan.source.name]
        with table.faults():
            plain = plain_views(plan.source, plan.views)
            by_arrow = arrow_fold(plan.source, plain)
            results = table.folds(by_arrow.plan, begin, end) if by_arrow else None
            if by_arrow is None or results is None:
                with self._by_spark(plan.source, plan.views, table.records(begin, end)) as folded:
                    yield folded
                return
            found = ArrowRange(self.segments, by_arrow.plan, results)
            rest = [view for view in plan.views if view not in plain]
            if not rest:
                yield found
                return
            with self._by_spark(plan.source, rest, table.records(begin, end)) as folded:
                yield JoinedRange(found, frozenset(view.fingerprint for view in plain), folded)

    @contextmanager
    def _by_spark(
        self, source: SourceDefinition, views: Sequence[ViewDefinition], records: DataFrame
    ) -> Iterator[SparkRange]:
        fold = Fold(source, views)
        folded = fold.aggregate(records).persist()
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
