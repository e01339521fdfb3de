"""The speed layer: every micro-batch is decoded once, folded for all views, and committed with its cut.

A micro-batch is a function of its range, the definitions and the ids before the range. Its states and the new cut enter
the store in one transaction (invariant 2), so it does not matter how often it runs: what is in already is skipped, a
hole is an error.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from tideline.cut import Cut
from tideline.errors import DefinitionSetError, StaleCommitError
from tideline.ledger import Ledger, Log
from tideline.merge import merge_into
from tideline.plans import SourcePlan, plan_sources, topics
from tideline.runtime.topics import topic_ids
from tideline.source import SourceDefinition
from tideline.spark.collect import Folded, collect
from tideline.spark.events import decode, records
from tideline.spark.fold import Fold
from tideline.spark.ranges import behind, event_ids, range_sql
from tideline.spark.repeats import Repeats
from tideline.stores import Store

log = logging.getLogger(__name__)
_RETRIES = 10


@dataclass(frozen=True)
class Committed:
    """What a micro-batch left: its range, the states written, the seconds it took from reading to commit."""

    begin: Cut
    end: Cut
    states: int
    seconds: float


class SpeedLayer:
    """Folds micro-batches into the open generation; holds the speed fence from `start` on."""

    def __init__(
        self,
        spark: SparkSession,
        store: Store,
        bootstrap: str,
        master: Path,
        on_commit: Callable[[Committed], None] = lambda _: None,
    ) -> None:
        self.spark = spark
        self.store = store
        self.bootstrap = bootstrap
        self.master = master
        self.on_commit = on_commit
        self._token = 0
        self._folds: dict[SourceDefinition, Fold] = {}
        self._repeats: dict[SourceDefinition, Repeats] = {}

    def start(self) -> Cut:
        """Takes the fence; the cut at which to read on. Raises TopicRecreatedError."""
        with self.store.write() as txn:
            ledger, self._token = txn.ledger.take_fence("speed")
            txn.put_ledger(ledger)
        self.check_topics(ledger)
        self._repeats.clear()
        for plan in plan_sources(ledger, ledger.open.definitions):
            self._repeats_of(plan.source, ledger)
        return ledger.committed

    def check_topics(self, ledger: Ledger) -> None:
        """Raises TopicRecreatedError where a topic is no longer the one that the ledger knows (invariant 7)."""
        ledger.check_topics(topic_ids(self.bootstrap, topics(ledger)))

    def _repeats_of(self, source: SourceDefinition, ledger: Ledger) -> Repeats | None:
        """The source's index of recent ids, filled from the log before the committed cut where it is new."""
        if not source.event_id or not source.horizon:
            return None
        if source not in self._repeats:
            repeats, cut = Repeats(source), ledger.committed.restrict([source.topic])
            begin = behind(cut, source.topic, source.horizon).advance(ledger.origin.restrict([source.topic]))
            master = self.master / source.name
            changing = any(former["name"] == source.name for former in ledger.former_sources.values())
            ids = event_ids(self.spark, self.bootstrap, master, source, begin, cut, ledger.archived, not changing)
            repeats.load(ids.toArrow())
            self._repeats[source] = repeats
        return self._repeats[source]

    def process(self, rows: DataFrame, begin: Cut, end: Cut) -> None:
        """Folds and commits the part of [begin, end) that is not in the store yet; `rows` are Kafka's.

        Raises GapError where the range begins after the committed cut, FenceError where another speed layer took over.
        """
        began = time.monotonic()
        for _ in range(_RETRIES):
            with self.store.snapshot() as snapshot:
                ledger = snapshot.ledger
            start, stop = ledger.next_range(begin, end)
            try:
                with self._folded(rows, ledger, start, stop) as folded:
                    self.check_topics(ledger)
                    states = self._commit(ledger, start, stop, folded)
            except (DefinitionSetError, StaleCommitError) as change:
                log.info("planning the micro-batch again: %s", change)
                continue
            for repeats in self._repeats.values():
                repeats.committed()
            self.on_commit(Committed(start, stop, states, time.monotonic() - began))
            return
        raise DefinitionSetError(
            "DEFINITIONS_UNSTABLE",
            f"the definitions changed during each of {_RETRIES} attempts",
            "apply catalogs less often",
            attempts=_RETRIES,
        )

    @contextlib.contextmanager
    def _folded(
        self, rows: DataFrame, ledger: Ledger, start: Cut, stop: Cut
    ) -> Iterator[list[tuple[SourcePlan, Folded]]]:
        cached: list[DataFrame] = []
        try:
            plans = plan_sources(ledger, ledger.open.definitions)
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
        wanted = records(rows.where(f"topic = '{source.topic}'"), [*fold.record_columns, "_value"])
        events = decode(wanted.where(range_sql(source.topic, start, stop)), source, fold.record_columns)
        repeats = self._repeats_of(source, ledger)
        if repeats is None:
            events = events.selectExpr("*", "false as _duplicate")
        else:
            cached.append(events.persist())
            events = repeats.flag(events)
        return collect(fold, fold.aggregate(events).toArrow())

    def _commit(self, ledger: Ledger, start: Cut, stop: Cut, folded: list[tuple[SourcePlan, Folded]]) -> int:
        counts: Log = {plan.source.topic: part.log for plan, part in folded if plan.current}
        rejects = {view: n for _, part in folded for view, n in part.rejects.items()}
        written = 0
        with self.store.write() as txn:
            after = txn.ledger.commit(self._token, start, stop, ledger.open.definitions, counts, rejects)
            for plan, part in folded:
                for view in plan.views:
                    states: list[Any] = part.rows.get(view.fingerprint, [])
                    merge_into(txn, after.open.space(view.fingerprint), view, states)
                    written += len(states)
            txn.put_ledger(after)
        return written
