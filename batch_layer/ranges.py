"""Ranges of the master, folded: by Arrow where views are plain, by Spark where they are not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, reduce

import pyarrow as pa
from pyspark.sql import DataFrame

from batch_layer.parts import Built, Task
from batch_layer.segments import Segments
from tideline.arrow_fold import combined
from tideline.collect import Tables, log_stats
from tideline.fold_plan import LOG_VIEW, FoldPlan, PlannedView
from tideline.ledger import LogStats
from tideline.segment_table import segment_table
from tideline.spark.fold import Fold
from tideline.spark.states import merge_states, segment_rows

Log = tuple[Mapping[int, LogStats], Mapping[str, int]]


class _Range(ABC):
    """What the folded rows of the log's own view say."""

    @property
    @abstractmethod
    def _log(self) -> Log: ...

    @property
    def log(self) -> Mapping[int, LogStats]:
        """What the log held, by partition."""
        return self._log[0]

    @property
    def rejects(self) -> Mapping[str, int]:
        """How many events a view's expressions failed on, by fingerprint."""
        return self._log[1]


class ArrowRange(_Range):
    """What Arrow folded, in some parts of the range."""

    def __init__(self, segments: Segments, plan: FoldPlan, results: Sequence[Tables]) -> None:
        self._segments = segments
        self._plan = plan
        self._tables = combined(plan, results)

    @cached_property
    def _log(self) -> Log:
        logs = [table[LOG_VIEW] for table in self._tables if LOG_VIEW in table]
        return log_stats(self._plan, pa.concat_tables(logs)) if logs else ({}, {})

    def build(self, tasks: Sequence[Task]) -> list[Built]:
        """Two segments at a time."""

        def build(task: Task, planned: PlannedView) -> Built:
            found = [tables[planned.index] for tables in self._tables if planned.index in tables]
            return self._segments.build(task, self._states(planned, found), _groups(planned, found))

        return _two_at_a_time(build, tasks, self._plan)

    def _states(self, planned: PlannedView, tables: Sequence[pa.Table]) -> pa.Table | DataFrame | None:
        if not tables:
            return None
        if len(tables) == 1 and not planned.entries:
            return segment_table(planned, tables[0])
        spark = self._segments.spark
        frames = [segment_rows(spark.createDataFrame(table.combine_chunks()), planned) for table in tables]
        return merge_states(reduce(DataFrame.unionByName, frames), planned.view) if len(frames) > 1 else frames[0]


def _groups(planned: PlannedView, tables: Sequence[pa.Table]) -> int:
    """How many keys and buckets there are."""
    if not tables:
        return 0
    if len(tables) == 1 and not planned.entries:
        return len(tables[0])
    names = [*planned.key_slots, "bucket"]
    return len(pa.concat_tables([table.select(names) for table in tables]).group_by(names).aggregate([]))


class SparkRange(_Range):
    """What Spark folded: rows that are cached."""

    def __init__(self, segments: Segments, fold: Fold, folded: DataFrame) -> None:
        self._segments = segments
        self._fold = fold
        self._folded = folded

    @cached_property
    def _log(self) -> Log:
        table: pa.Table = self._folded.where(f"view = {LOG_VIEW}").toArrow()
        return log_stats(self._fold, table)

    def build(self, tasks: Sequence[Task]) -> list[Built]:
        """Two segments at a time."""
        if not tasks:
            return []
        states = self._folded.where("entry = 0") if self._fold.has_entries else self._folded
        counts = states.groupBy("view").count().toArrow()
        rows = dict(zip(counts["view"].to_pylist(), counts["count"].to_pylist(), strict=True))

        def build(task: Task, planned: PlannedView) -> Built:
            found = segment_rows(self._folded.where(f"view = {planned.index}"), planned)
            return self._segments.build(task, found, rows.get(planned.index, 0))

        return _two_at_a_time(build, tasks, self._fold)


class JoinedRange:
    """Some views folded by Arrow, the rest by Spark."""

    def __init__(self, plain: ArrowRange, views: frozenset[str], rest: SparkRange) -> None:
        self._plain = plain
        self._views = views
        self._rest = rest

    @property
    def log(self) -> Mapping[int, LogStats]:
        """What the log held, by partition."""
        return self._plain.log

    @property
    def rejects(self) -> Mapping[str, int]:
        """How many events a view's expressions failed on, by fingerprint: of plain views none."""
        return self._rest.rejects

    def build(self, tasks: Sequence[Task]) -> list[Built]:
        """Those of plain views first."""
        plain = [task for task in tasks if task.view.fingerprint in self._views]
        rest = [task for task in tasks if task.view.fingerprint not in self._views]
        built = {one.segment.id: one for one in (*self._plain.build(plain), *self._rest.build(rest))}
        return [built[task.id] for task in tasks]


def _two_at_a_time(build: Callable[[Task, PlannedView], Built], tasks: Sequence[Task], plan: FoldPlan) -> list[Built]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(build, tasks, plan.planned))
