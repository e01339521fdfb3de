"""One batch run: seal, archive, compute, publish, expire. Each step can be run again after a crash."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from batch_layer.master import Master
from batch_layer.parts import Engine, FoldedRange, Task
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.errors import DefinitionSetError, FenceError
from tideline.ledger import Ledger, Log, LogStats, Loss, Segment, add_counts, merge_logs
from tideline.ledger.handoff import check_logs_agree
from tideline.ledger.recovery import publishes_any
from tideline.plans import SourcePlan, plan_sources, topics
from tideline.points import reach
from tideline.quarantine import failing, may_be_a_views
from tideline.retention import check_held
from tideline.runtime.logs import fields
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
    """What the compute step of a run made, before it is published; of each topic `ranges` has what was folded last."""

    views: dict[str, tuple[int, ...]] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    log: dict[str, Mapping[int, LogStats]] = field(default_factory=dict)
    ranges: dict[str, tuple[Cut, Cut, Mapping[int, LogStats]]] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    rows: int = 0


class BatchLayer:
    """Runs batch recomputes over one home. The caller holds the home's batch lock."""

    def __init__(self, store: Store, home: Locks, engine: Engine, keep_versions: int = 3) -> None:
        self.store = store
        self.home = home
        self.engine = engine
        self.keep_versions = keep_versions
        self.tell: Callable[[Mapping[str, Any]], object] = lambda running: None
        """Gets, whenever a step begins, when the run began, the steps that are done, and this one."""
        self._masters: dict[str, Master] = {}
        self._steps: list[dict[str, Any]] = []
        self._place: dict[str, Any] = {}
        self._token = 0
        self._started, self._began = 0.0, 0.0

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
                log.info("beginning the run again: %s", change, extra=self.told())
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
        self._started, self._began, self._steps = time.time(), time.monotonic(), []
        with self._step("seal"):
            ledger = self._seal()
            self._stands(ledger, ledger.sealed)
        cut = ledger.sealed
        if speed_token is not None:
            cut = cut.advance(self._log_bounds(ledger)[1])
            self._stands(ledger, cut)
        masters = [self._master(plan.source, ledger) for plan in plan_sources(ledger, ()) if plan.current]
        changed = [master for master in masters if redecode or not master.is_current(ledger.archived)]
        lost = any(not master.archived.covers(ledger.archived.restrict([master.topic])) for master in masters)
        if ledger.settled and cut == ledger.version.cut and not (full or changed or lost):
            return None
        with self._step("archive") as step:
            step["rows"] = self._archive(ledger, masters, changed, cut)
        with self._step("compute") as step:
            losses = [loss for master in masters for loss in master.losses()]
            computed = self._compute_all(ledger, cut, full or bool(changed) or publishes_any(ledger, losses))
            computed.losses = losses
            step["rows"] = computed.rows
        mode = "redecode" if changed else "full" if full else "incremental"
        with self._step("publish"):
            ledger = self._publish(ledger, cut, computed, speed_token, {"mode": mode, "started_at": self._started})
            self._stands(ledger, cut)
        with self._step("expire"):
            self._expire(ledger)
        return self._report(ledger)

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[dict[str, Any]]:
        step: dict[str, Any] = {"name": name}
        began = time.monotonic()
        now = {"name": name, "started_at": time.time()}
        self.tell({"started_at": self._started, "steps": list(self._steps), "step": now})
        yield step
        step["seconds"] = round(time.monotonic() - began, 3)
        self._steps.append(step)
        log.info("%s is done", name, extra=self.told(step=name, seconds=step["seconds"], rows=step.get("rows")))

    def _stands(self, ledger: Ledger, cut: Cut) -> None:
        """Notes for the log where the run stands: `cut` is what it is to publish, or has published."""
        self._place = {"cut": cut, "generation": ledger.open.id, "version": ledger.version.id}

    def told(self, **more: Any) -> dict[str, Any]:
        """What a line of the log says of where the last run stands."""
        return fields(layer="batch", **self._place, **more)

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

    def _log_bounds(self, ledger: Ledger) -> tuple[Cut, Cut]:
        self._check_topics(ledger)
        return self.engine.log_bounds(topics(ledger))

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
        if any(not master.archived.reaches(master.topic, cut) for master in masters):
            bounds = self._log_bounds(ledger)
            for master in masters:
                check_held(master.topic, master.archived, cut, *bounds)
        rows += sum(master.archive(cut, lambda: self._check_topics(ledger)) for master in masters)
        archived = Cut()
        for master in masters:
            archived = archived.advance(master.archived)
            if not master.is_current(ledger.archived):
                raise master.changed()
        with self.store.write() as txn:
            txn.put_ledger(txn.ledger.archive(self._token, archived, ledger.sources))
        reach("archive.done")
        return rows

    def _compute_all(self, ledger: Ledger, cut: Cut, full: bool) -> Computed:
        """What is wanted; where it fails, the views that fail alone are quarantined, and the run begins again."""
        try:
            return self._compute(ledger, cut, full, ledger.wanted.values())
        except Exception as error:
            if not may_be_a_views(error):
                raise
            failed = failing(ledger.wanted.values(), lambda views: self._compute(ledger, cut, full, views), error)
            with self.store.write() as txn:
                txn.put_ledger(txn.ledger.quarantine("batch", self._token, failed, time.time()))
            for view, reason in failed.items():
                log.error("view %s is quarantined: %s", ledger.definition(view)["name"], reason, extra=self.told())
            raise DefinitionSetError("VIEWS_QUARANTINED", views=failed) from error

    def _compute(self, ledger: Ledger, cut: Cut, full: bool, views: Collection[str]) -> Computed:
        """Segments up to `cut` for these views: from the published cut on, and where they are new from the origin.

        What lies before the published cut becomes a segment of its own, so that a new definition and the one that it
        replaces can be compared at that cut.
        """
        computed, published = Computed(), ledger.version
        if not full:
            computed.views = {view: ids for view, ids in published.views.items() if view in views}
            computed.rejects = {view: published.rejects.get(view, 0) for view in computed.views}
        for plan in plan_sources(ledger, views):
            if not plan.current:
                continue
            topic = plan.source.topic
            before = published.log.get(topic, {})
            fresh = tuple(view for view in plan.views if view.fingerprint not in computed.views)
            if fresh or full:
                counted = self._fold(
                    ledger, SourcePlan(plan.source, fresh, True), ledger.origin, published.cut, {}, computed
                )
                if not full:
                    check_logs_agree({topic: before}, {topic: counted}, published.cut)
                before = counted
            computed.log[topic] = self._fold(ledger, plan, published.cut, cut, before, computed)
        return computed

    def _fold(
        self,
        ledger: Ledger,
        plan: SourcePlan,
        begin: Cut,
        end: Cut,
        before: Mapping[int, LogStats],
        computed: Computed,
    ) -> Mapping[int, LogStats]:
        """Adds a segment of [begin, end) from a source's master to these views; the log's counts on top of `before`."""
        topic = plan.source.topic
        for view in plan.views:
            computed.views.setdefault(view.fingerprint, ())
            computed.rejects.setdefault(view.fingerprint, 0)
        if begin.reaches(topic, end):
            return before
        with self.engine.fold(plan, begin, end) as folded:
            log = merge_logs({topic: before}, {topic: folded.log})[topic]
            computed.ranges[topic] = begin.restrict([topic]), end.restrict([topic]), folded.log
            computed.rows += sum(part.records for part in folded.log.values())
            self._build(ledger, plan, folded, begin, end, _latest(log), computed)
            computed.rejects = add_counts(computed.rejects, folded.rejects)
        return log

    def _build(
        self,
        ledger: Ledger,
        plan: SourcePlan,
        folded: FoldedRange,
        begin: Cut,
        end: Cut,
        latest: int | None,
        computed: Computed,
    ) -> None:
        reach("segment.allot")
        with self.store.write() as txn:
            allotted, ids = txn.ledger.allot(self._token, len(plan.views))
            txn.put_ledger(allotted)
        topic, known = [plan.source.topic], {**ledger.segments, **{s.id: s for s in computed.segments}}
        tasks = [
            Task(
                id,
                view,
                begin.restrict(topic),
                end.restrict(topic),
                _floor(view, latest, ledger.version.floors.get(view.fingerprint)),
                tuple(known[earlier] for earlier in computed.views[view.fingerprint]),
                tuple(known[earlier] for earlier in computed.views[view.fingerprint] if earlier in ledger.segments),
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
        taken = self._counted(planned, planned.committed, cut, computed) if speed_token is not None else {}
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
                losses=computed.losses,
                keep_versions=self.keep_versions,
                last_batch={
                    **batch,
                    "version": ledger.version.id + 1,
                    "rows": computed.rows,
                    "steps": list(self._steps),
                    "seconds": round(time.monotonic() - self._began, 3),
                },
            )
            txn.put_ledger(ledger)
        reach("publish.done")
        return ledger

    def _counted(self, ledger: Ledger, begin: Cut, end: Cut, computed: Computed) -> Log:
        """The log's counts of [begin, end), from the master where they were not computed."""
        counted: dict[str, Mapping[int, LogStats]] = {}
        for plan in plan_sources(ledger, ()):
            topic = plan.source.topic
            known = computed.ranges.get(topic)
            if known is not None and known[:2] == (begin.restrict([topic]), end.restrict([topic])):
                counted[topic] = known[2]
            elif not begin.reaches(topic, end):
                with self.engine.fold(SourcePlan(plan.source, (), True), begin, end) as folded:
                    counted[topic] = folded.log
        return counted

    def _expire(self, ledger: Ledger) -> None:
        reach("expire")
        with self.store.write() as txn:
            txn.ledger.check_fence("batch", self._token)  # another run may be loading
            collect_garbage(txn)
        self.engine.remove_dead(ledger)
        reach("expire.done")

    def _report(self, ledger: Ledger) -> Mapping[str, Any]:
        seconds = round(time.monotonic() - self._began, 3)
        return {**(ledger.last_batch or {}), "steps": list(self._steps), "seconds": seconds}


def _latest(stats: Mapping[int, LogStats]) -> int | None:
    times = [part.max_event_time for part in stats.values() if part.max_event_time is not None]
    return max(times, default=None)


def _floor(view: ViewDefinition, latest: int | None, before: int | None) -> int | None:
    """Where a view's kept buckets begin: `keep` before the latest event, down to a bucket, and never back."""
    if view.keep is None or view.bucket is None or latest is None:
        return before
    floor = (latest - view.keep) // view.bucket * view.bucket
    return floor if before is None else max(floor, before)
