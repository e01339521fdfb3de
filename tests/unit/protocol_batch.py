"""A batch run: seal, archive, compute from the master, load, publish, or take over from the speed layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocol_log import VIEWS, WIDTH, ModelView, Record, events, is_between, rejects, statistics
from protocol_site import Site, require

from tideline.cut import Cut
from tideline.errors import ChecksumError, DefinitionSetError, FenceError, MissingViewError
from tideline.ledger import Ledger, Segment
from tideline.merge import segment_items
from tideline.stores.base import Store, collect_garbage


@dataclass
class Plan:
    """A publish in the making."""

    token: int
    cut: Cut
    ledger: Ledger
    views: dict[str, list[int]]
    segments: list[Segment]
    pending: list[tuple[str, list[tuple[bytes, bytes]]]]
    floors: dict[str, int]
    speed_token: int | None = None
    lossy: bool = False


class BatchSteps(Site):
    """What a batch layer does, one step at a time, and what of it must be refused."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.batch_token = -1
        self.plan: Plan | None = None

    def start_batch(self) -> None:
        with self.write() as txn:
            ledger, self.batch_token = txn.ledger.take_fence("batch")
            txn.put_ledger(ledger)
            collect_garbage(txn)
        self.plan, self.lost = None, None

    def seal(self) -> None:
        before = self.ledger()
        with self.fenced(self.batch_token, before) as allowed:
            after = self.change(lambda ledger: ledger.seal(self.batch_token))
            allowed()
            require(after.sealed == before.committed, "a seal is at the committed cut", after.sealed)
            in_force = {*after.live.values(), *after.wanted.values()}
            require(in_force <= set(after.open.definitions), "a seal brings what is wanted into force")

    def archive(self, to_end: bool, record_it: bool, lose: bool = False) -> None:
        """Copies the log up to its end or up to the seal; a crash may keep the ledger from hearing of it."""
        ledger = self.ledger()
        known = ledger.topic_ids
        target = self.log.end.restrict(known) if to_end else ledger.sealed
        copied = self.log.between(self.master, self.master.advance(target))
        if lose and copied and self.lost is None:
            self.lost = copied[0]
        self.master = self.master.advance(target)
        if record_it:
            with self.fenced(self.batch_token, ledger) as allowed:
                self.change(lambda old: old.archive(self.batch_token, self.master.restrict(known), old.sources))
                allowed()

    def read_master(self, begin: Cut, end: Cut) -> list[Record]:
        return [record for record in self.log.between(begin, end) if record != self.lost]

    def compute(self, mode: str, keep: int, *, build_new: bool = True, take_over: bool = False) -> None:
        """Plans a publish: segments made of the master, their ids allotted, nothing loaded yet."""
        ledger, speed_token = self.ledger(), None
        if self.batch_token != ledger.fences["batch"]:
            with self.expecting(FenceError):
                self.change(lambda old: old.allot(self.batch_token, 1)[0])
            return
        cut = ledger.sealed
        if take_over:
            self.master = self.master.advance(self.log.end.restrict(ledger.topic_ids))
            self.change(lambda old: old.archive(self.batch_token, self.master, old.sources))
            ledger, speed_token = self.ledger().take_fence("speed")
            self.change(lambda _: ledger)
            cut = self.master
            if self.lost is not None and not is_between(self.lost, ledger.origin, ledger.committed):
                self.lost = None  # What only the archive has read, nothing can be compared with.
        if ledger.archived.covers(cut):
            self.plan = self._plan(ledger, cut, mode, keep, build_new, speed_token)

    def _plan(self, ledger: Ledger, cut: Cut, mode: str, keep: int, build_new: bool, speed_token: int | None) -> Plan:
        plan = Plan(self.batch_token, cut, ledger, {}, [], [], {}, speed_token)
        buildable = ledger.wanted if speed_token is not None else ledger.unbuilt
        for name, fingerprint in ledger.wanted.items():
            current = ledger.live.get(name)
            if current is not None:
                self._extend(plan, VIEWS[current], mode)
            if build_new and fingerprint != current and fingerprint in buildable.values():
                self._extend(plan, VIEWS[fingerprint], "full")
        records = self.read_master(ledger.origin, cut)
        for fingerprint in plan.views:
            if VIEWS[fingerprint].bucket is not None and keep:
                times = [r.time for r in events(records) if r.topic == VIEWS[fingerprint].topic]
                plan.floors[fingerprint] = max(times, default=0) // WIDTH * WIDTH - keep
        return plan

    def _extend(self, plan: Plan, view: ModelView, mode: str) -> None:
        ledger = plan.ledger
        kept = list(ledger.version.views.get(view.fingerprint, ())) if mode != "full" else []
        begin = ledger.segments[kept[-1]].end if kept else ledger.origin
        if mode == "compacted" and len(kept) > 1:
            begin = ledger.segments[kept[-2]].begin
            kept = kept[:-2]
        begin, end = begin.restrict([view.topic]), plan.cut.restrict([view.topic])
        if begin != end:
            allotted = self.change(lambda old: old.allot(plan.token, 1)[0])
            id = allotted.next_segment - 1
            states = self._states(view, begin, end)
            plan.segments.append(Segment(id, view.fingerprint, begin, end, len(states), mode))
            plan.pending.append((f"s{id}", states))
            kept.append(id)
        plan.views[view.fingerprint] = kept

    def _states(self, view: ModelView, begin: Cut, end: Cut) -> list[tuple[bytes, bytes]]:
        rows: dict[Any, list[Any]] = {}
        for record in events(self.read_master(begin, end)):
            if view.takes(record):
                key, bucket, states = view.row(record)
                old = rows.get((key, bucket))
                merges = [m.merge for m in view.measures.values()]
                rows[key, bucket] = (
                    states if old is None else [m(a, b) for m, a, b in zip(merges, old, states, strict=True)]
                )
        return segment_items(view, [(key, bucket, states) for (key, bucket), states in rows.items()])

    def load(self, chunks: int, crash: bool = False) -> None:
        """Loads segments, two rows a transaction; readers see nothing of it."""
        plan = self.plan
        while plan is not None and plan.pending and chunks:
            space, rows = plan.pending[0]
            with self.write(crash) as txn:
                txn.load(space, rows[:2])
            if not crash:
                plan.pending[0] = (space, rows[2:])
                if not rows[2:]:
                    plan.pending.pop(0)
            chunks -= 1

    def publish(self, keep_versions: int, crash: bool = False) -> None:
        plan = self.plan
        if plan is None or plan.pending:
            return
        ledger = self.ledger()
        records = self.read_master(ledger.origin, plan.cut)
        with self.fenced_publish(plan, ledger, records) as allowed, self.write(crash) as txn:
            after = self._published(txn.ledger, plan, records, keep_versions)
            txn.put_ledger(after)
            allowed()
        if not crash:
            self.plan = None

    def _published(self, ledger: Ledger, plan: Plan, records: list[Record], keep: int) -> Ledger:
        if plan.speed_token is not None:
            taken = [r for r in records if not is_between(r, ledger.origin, ledger.committed)]
            counted = rejects(VIEWS, taken)
            ledger = ledger.overtake(plan.speed_token, plan.cut, statistics(taken), counted)
        return ledger.publish(
            plan.token,
            plan.cut,
            plan.views,
            plan.segments,
            statistics(records),
            rejects=rejects(plan.views, records),
            floors=plan.floors,
            keep_versions=keep,
        )

    def fenced(self, token: int, ledger: Ledger) -> Any:
        return self.expecting(None if token == ledger.fences["batch"] else FenceError)

    def fenced_publish(self, plan: Plan, ledger: Ledger, records: list[Record]) -> Any:
        fences = ledger.fences
        if plan.token != fences["batch"] or plan.speed_token not in (None, fences["speed"]):
            return self.expecting(FenceError)
        if self.lost is not None and is_between(self.lost, ledger.origin, plan.cut):
            return self.expecting(ChecksumError)
        if (plan.ledger.wanted, plan.ledger.live) != (ledger.wanted, ledger.live):
            return self.expecting(None, MissingViewError, DefinitionSetError)
        return self.expecting(None)
