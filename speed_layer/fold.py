"""Folding micro-batches with Spark: decode, find repeats, one aggregation for all views of a source."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from speed_layer.layer import Parts
from speed_layer.recent import RecentSources
from tideline.cut import Cut
from tideline.decode import decoded_from
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


class SparkFolder:
    """Compiled folds and the ids of recent events, by source."""

    def __init__(self, spark: SparkSession, bootstrap: str, master: Path) -> None:
        self.spark = spark
        self.bootstrap = bootstrap
        self.master = master
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
        events = decode(wanted.where(range_sql(source.topic, start, stop)), source, fold.record_columns)
        repeats = self._recent.find(source, ledger)
        if repeats is None:
            events = events.selectExpr("*", "false as _duplicate")
        else:
            cached.append(events.persist())
            events = repeats.flag(events)
        return collect(fold, fold.aggregate(events).toArrow())

    def committed(self) -> None:
        """Takes the ids of the micro-batch in hand into the indexes."""
        self._recent.committed()
