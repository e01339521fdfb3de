"""One batch run: seal, archive, compute, publish, expire. Each step can be run again after a crash."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from batch_layer.master import Master
from batch_layer.parts import Engine, FoldedRange, Task
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.errors import DefinitionSetError, FenceError
from tideline.ledger import Ledger, Log, LogStats, Segment, add_counts, merge_logs
from tideline.plans import SourcePlan, plan_sources, topics
from tideline.points import reach
from tideline.source import SourceDefinition
from tideline.stores import Store, collect_garbage

log = logging.getLogger(__name__)
RETRIES = 3  # attempts of one run


class Locks(Protocol):
    """Who works on an installation, as its home says."""

    def locked_by(self, name: str) -> int | None:
        """The process that holds a lock."""
        ...


@dataclass
class Computed:
    """What the compute step of a run made, before it is published."""

    views: dict[str, tuple[int, ...]] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    log: Log = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    rows: int = 0


class BatchLayer:
    """Runs batch recomputes over one home. The caller holds the home's batch lock."""

    def __init__(self, store: Store, home: Locks, engine: Engine, keep_versions: int = 3) -> None:
        self.store = store
        self.home = home
        self.engine = engine
        self.keep_versions = keep_versions
        self._masters: dict[str, Master] = {}
        self._steps: list[dict[str, Any]] = []
        self._token = 0

    def run(self, full: bool = False, redecode: bool = False) -> Mapping[str, Any] | None:
        """One run; what it did, or None where there was nothing to publish.

        With the speed layer down it goes on to the end of the log and moves the committed cut (invariant 9); where a
        speed layer starts meanwhile, the run begins again beneath it.
        """
        for _ in range(RETRIES):
            try:
                alone = self.home.locked_by("speed") is None
                return self._run(full, redecode, self._take_speed_fence() if alone else None)
            except (FenceError, DefinitionSetError) as change:
                if change.params.get("layer") == "batch":
                    raise
                log.info("beginning the run again: %s", change)
        raise DefinitionSetError(
            "RUN_UNSTABLE",
            f"definitions or the speed layer changed during each of {RETRIES} attempts",
            "run the batch layer again",
            attempts=RETRIES,
        )

    def _take_speed_fence(self) -> int:
        with self.store.write() as txn:
            ledger, token = txn.ledger.take_fence("speed")
            txn.put_ledger(ledger)
        return token

    def _run(self, full: bool, redecode: bool, speed_token: int | None) -> Mapping[str, Any] | None:
        started, self._steps = time.time(), []
        with self._step("seal"):
            ledger = self._seal()
        cut = ledger.sealed
        if speed_token is not None:
            cut = cut.advance(self._log_end(ledger))
        masters = [self._master(plan.source, ledger) for plan in plan_sources(ledger, ()) if plan.current]
        changed = [master for master in masters if redecode or not master.is_current(ledger.archived)]
        if ledger.settled and cut == ledger.version.cut and not (full or changed):
            return None
        with self._step("archive") as step:
            step["rows"] = self._archive(ledger, masters, changed, cut)
        with self._step("compute") as step:
            computed = self._compute(ledger, cut, full or bool(changed))
            step["rows"] = computed.rows
        mode = "redecode" if changed else "full" if full else "incremental"
        with self._step("publish"):
            ledger = self._publish(ledger, cut, computed, speed_token, {"mode": mode, "started_at": started})
        with self._step("expire"):
            self._expire(ledger)
        return self._report(ledger, started)

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[dict[str, Any]]:
        step: dict[str, Any] = {"name": name}
        began = time.monotonic()
        yield step
        step["seconds"] = round(time.monotonic() - began, 3)
        self._steps.append(step)
        log.info("%s: %s", name, step)

    def _seal(self) -> Ledger:
        reach("batch.seal")
        with self.store.write() as txn:
            fenced, self._token = txn.ledger.take_fence("batch")
            txn.put_ledger(fenced)
            collect_garbage(txn)
            ledger = txn.ledger.seal(self._token)
            txn.put_ledger(ledger)
        reach("batch.sealed")
        return ledger

    def _log_end(self, ledger: Ledger) -> Cut:
        self._check_topics(ledger)
        return self.engine.log_end(topics(ledger))

    def _check_topics(self, ledger: Ledger) -> None:
        ledger.check_topics(self.engine.topic_ids(topics(ledger)))

    def _master(self, source: SourceDefinition, ledger: Ledger) -> Master:
        known = self._masters.get(source.name)
        if known is None or known.source != source:
            table = self.engine.table(source, ledger.origin)
            known = self._masters[source.name] = Master(table, source, ledger.origin)
        return known

    def _archive(self, ledger: Ledger, masters: list[Master], changed: list[Master], cut: Cut) -> int:
        rows = sum(master.redecode() for master in changed)
        rows += sum(master.archive(cut, lambda: self._check_topics(ledger)) for master in masters)
        archived = Cut()
        for master in masters:
            archived = archived.advance(master.archived)
            if not master.is_current(ledger.archived):
                raise DefinitionSetError(
                    "MASTER_CHANGED",
                    f"somebody else wrote to the master of {master.source.name} under another declaration",
                    "run one batch layer",
                    source=master.source.name,
                )
        with self.store.write() as txn:
            txn.put_ledger(txn.ledger.archive(self._token, archived, ledger.sources))
        reach("archive.done")
        return rows

    def _compute(self, ledger: Ledger, cut: Cut, full: bool) -> Computed:
        """Segments for every view that is wanted: from the published cut on, or from the origin where it is new."""
        computed = Computed()
        built = (
            {} if full else {view: ids for view, ids in ledger.version.views.items() if view in ledger.wanted.values()}
        )
        for plan in plan_sources(ledger, ledger.wanted.values()):
            if not plan.current:
                continue
            topic = plan.source.topic
            if full or _counted_otherwise(ledger, plan.source) or ledger.origin.reaches(topic, ledger.version.cut):
                self._fold(ledger, plan, ledger.origin, cut, {}, computed)
                continue
            continued = tuple(view for view in plan.views if view.fingerprint in built)
            fresh = tuple(view for view in plan.views if view.fingerprint not in built)
            before = {topic: ledger.version.log.get(topic, {})}
            self._fold(ledger, SourcePlan(plan.source, continued, True), ledger.version.cut, cut, before, computed)
            if fresh:
                counted = computed.log
                self._fold(ledger, SourcePlan(plan.source, fresh, True), ledger.origin, cut, {}, computed)
                computed.log = counted
        return computed

    def _fold(self, ledger: Ledger, plan: SourcePlan, begin: Cut, cut: Cut, before: Log, computed: Computed) -> None:
        """Folds [begin, cut) of a source's master for these views, and builds a segment of each."""
        topic = plan.source.topic
        earlier = {
            view.fingerprint: [ledger.segments[id] for id in ledger.version.views.get(view.fingerprint, ())]
            if before
            else []
            for view in plan.views
        }
        if begin.reaches(topic, cut):
            computed.log = merge_logs(computed.log, before)
            for view in plan.views:
                computed.views[view.fingerprint] = tuple(segment.id for segment in earlier[view.fingerprint])
                computed.rejects[view.fingerprint] = ledger.version.rejects.get(view.fingerprint, 0)
            return
        with self.engine.fold(plan, begin, cut) as folded:
            computed.log = merge_logs(computed.log, merge_logs(before, {topic: folded.log}))
            computed.rows += sum(part.records for part in folded.log.values())
            self._build(ledger, plan, folded, begin, cut, earlier, computed)
            for view in plan.views:
                old = ledger.version.rejects.get(view.fingerprint, 0) if before else 0
                computed.rejects[view.fingerprint] = old + folded.rejects.get(view.fingerprint, 0)

    def _build(
        self,
        ledger: Ledger,
        plan: SourcePlan,
        folded: FoldedRange,
        begin: Cut,
        cut: Cut,
        earlier: Mapping[str, list[Segment]],
        computed: Computed,
    ) -> None:
        latest = _latest(computed.log.get(plan.source.topic, {}))
        reach("segment.allot")
        with self.store.write() as txn:
            allotted, ids = txn.ledger.allot(self._token, len(plan.views))
            txn.put_ledger(allotted)
        topic = [plan.source.topic]
        tasks = [
            Task(
                id,
                view,
                begin.restrict(topic),
                cut.restrict(topic),
                _floor(view, latest, ledger.version.floors.get(view.fingerprint)),
                tuple(earlier[view.fingerprint]),
            )
            for id, view in zip(ids, plan.views, strict=True)
        ]
        for task, built in zip(tasks, folded.build(tasks), strict=True):
            name = task.view.fingerprint
            if task.floor is not None:
                computed.floors[name] = task.floor
            kept = [segment.id for segment in task.earlier if segment.id not in built.replaces]
            computed.segments.append(built.segment)
            computed.views[name] = (*kept, task.id)

    def _publish(
        self, planned: Ledger, cut: Cut, computed: Computed, speed_token: int | None, batch: dict[str, Any]
    ) -> Ledger:
        self._check_topics(planned)
        taken = self._counted(planned, planned.committed, cut) if speed_token is not None else {}
        reach("publish")
        with self.store.write() as txn:
            ledger = txn.ledger
            if speed_token is not None:
                known = add_counts({}, ledger.version.rejects)
                for generation in ledger.generations:
                    known = add_counts(known, generation.rejects)
                more = {view: n - known.get(view, 0) for view, n in computed.rejects.items() if n > known.get(view, 0)}
                ledger = ledger.overtake(speed_token, cut, taken, more)
            ledger = ledger.publish(
                self._token,
                cut,
                computed.views,
                computed.segments,
                computed.log,
                rejects=computed.rejects,
                floors=computed.floors,
                published_at=time.time(),
                keep_versions=self.keep_versions,
                last_batch={
                    **batch,
                    "version": ledger.version.id + 1,
                    "rows": computed.rows,
                    "steps": list(self._steps),
                    "seconds": round(time.time() - batch["started_at"], 3),
                },
            )
            txn.put_ledger(ledger)
        reach("publish.done")
        return ledger

    def _counted(self, ledger: Ledger, begin: Cut, end: Cut) -> Log:
        """The log's counts of [begin, end), from the master."""
        counted: dict[str, Mapping[int, LogStats]] = {}
        for plan in plan_sources(ledger, ()):
            topic = plan.source.topic
            if not begin.reaches(topic, end):
                with self.engine.fold(SourcePlan(plan.source, (), True), begin, end) as folded:
                    counted[topic] = folded.log
        return counted

    def _expire(self, ledger: Ledger) -> None:
        reach("expire")
        with self.store.write() as txn:
            collect_garbage(txn)
        self.engine.remove_dead(ledger)
        reach("expire.done")

    def _report(self, ledger: Ledger, started: float) -> Mapping[str, Any]:
        return {**(ledger.last_batch or {}), "steps": list(self._steps), "seconds": round(time.time() - started, 3)}


def _counted_otherwise(ledger: Ledger, source: SourceDefinition) -> bool:
    """Whether the last version's events were decoded as the source was declared before.

    A run that decodes the master anew and is cut off before it publishes leaves it so.
    """
    views = [view for view in ledger.version.views if ledger.definition(view)["source"] == source.name]
    return any(SourceDefinition.from_json(ledger.source_of(view)) != source for view in views)


def _latest(stats: Mapping[int, LogStats]) -> int | None:
    times = [part.max_event_time for part in stats.values() if part.max_event_time is not None]
    return max(times, default=None)


def _floor(view: ViewDefinition, latest: int | None, before: int | None) -> int | None:
    """Where a view's kept buckets begin: `keep` before the latest event, down to a bucket, and never back."""
    if view.keep is None or view.bucket is None or latest is None:
        return before
    floor = (latest - view.keep) // view.bucket * view.bucket
    return floor if before is None else max(floor, before)
