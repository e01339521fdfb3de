"""The actors around a real ledger and a real store: speed writers, a batch run, and what may go wrong.

Every method is one step; the state machine puts them in any order. A step that the protocol must refuse
says so here, and `check` compares every answer with the naive fold. Whatever does not hold raises
`ProtocolBroken`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from protocol_log import VIEWS, WIDTH, ModelLog, ModelView, Record, events, is_between, rejects, statistics

from tideline.cut import Cut
from tideline.errors import (
    ChecksumError,
    DefinitionSetError,
    FenceError,
    GapError,
    MissingViewError,
    ProtocolError,
    StaleCommitError,
    TidelineError,
)
from tideline.ledger import Ledger, Segment
from tideline.merge import get_row, merge_into, scan_rows, segment_items
from tideline.stores.base import Store, WriteTransaction, collect_garbage, is_commit
from tideline.stores.memory import MemoryStore


class ProtocolBroken(AssertionError):
    """An invariant that does not hold."""


class Crash(Exception):
    """The process is gone in the middle of a transaction."""


def require(condition: bool, what: str, *details: object) -> None:
    if not condition:
        raise ProtocolBroken(f"{what}: {', '.join(map(str, details))}" if details else what)


@dataclass
class Batch:
    """A micro-batch: the range that Spark planned, and what the fold made of it at some ledger."""

    begin: Cut
    end: Cut
    planned: Ledger | None = None
    range: tuple[Cut, Cut] | None = None
    records: list[Record] = field(default_factory=list)


@dataclass
class Writer:
    """A speed layer's process: its fence, where its query will read next, its batch in flight."""

    token: int = -1
    position: Cut = field(default_factory=Cut)
    batch: Batch | None = None


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


class World:
    """The whole installation; `master` is how far the archive goes, `lost` a record that it lost.

    Unless it is `strict`, answers alone are judged, not what the ledger says and refuses.
    """

    strict = True

    def __init__(self, store: Store) -> None:
        self.store = store
        self.log = ModelLog()
        self.writers = [Writer(), Writer()]
        self.batch_token = -1
        self.master = Cut()
        self.plan: Plan | None = None
        self.unsynced: list[Any] = []
        self.lost: Record | None = None
        self.dirty = True
        self.refused: dict[str, int] = {}

    # The store.

    def ledger(self) -> Ledger:
        with self.store.snapshot() as snapshot:
            return snapshot.ledger

    @contextmanager
    def write(self, crash: bool = False) -> Iterator[WriteTransaction]:
        """A write transaction; with `crash` it ends in the middle and leaves nothing behind."""
        before = self.store.state if isinstance(self.store, MemoryStore) else None
        self.dirty = True
        try:
            with self.store.write() as txn:
                yield txn
                if crash:
                    raise Crash
        except Crash:
            return
        if before is not None and isinstance(self.store, MemoryStore):
            durable = not is_commit(before.ledger, self.store.state.ledger)
            self.unsynced = [] if durable else [*self.unsynced, before]

    def change(self, step: Callable[[Ledger], Ledger], crash: bool = False) -> Ledger:
        with self.write(crash) as txn:
            txn.put_ledger(step(txn.ledger))
            return txn.ledger

    def lose_power(self, commits: int, processes: bool) -> None:
        """The last commits of the speed layer were not on disk; the processes may go with them."""
        if self.unsynced and isinstance(self.store, MemoryStore):
            self.store.state = self.unsynced[-min(commits, len(self.unsynced))]
            self.unsynced = []
            self.dirty = True
            self.plan = None
        for writer in self.writers if processes else ():
            writer.batch = None

    # The catalog.

    def apply(self, fingerprints: list[str]) -> None:
        views = [VIEWS[fingerprint] for fingerprint in fingerprints]
        topics = {view.topic for view in views} | set(self.ledger().topic_ids)
        sources = {topic: {"name": topic, "topic": topic} for topic in topics}
        definitions = {view.fingerprint: view.definition() for view in views}
        wanted = {view.name: view.fingerprint for view in views}
        origin = Cut({"t": {0: 0, 1: 0}, "u": {0: 5}}).restrict(topics)
        self.change(
            lambda old: old.apply(sources, definitions, wanted, {t: f"id of {t}" for t in topics}, origin)
        )

    # The speed layer.

    def start_writer(self, writer: Writer) -> None:
        with self.write() as txn:
            ledger, writer.token = txn.ledger.take_fence("speed")
            txn.put_ledger(ledger)
        writer.position, writer.batch = ledger.committed, None

    def poll(self, writer: Writer, lengths: tuple[int, int, int]) -> None:
        """Spark plans a range from where its query stands; it may be empty or begin elsewhere."""
        known = self.ledger().topic_ids
        end = {}
        for (topic, partition, last), length in zip(self.log.end.partitions(), lengths, strict=True):
            if topic in known:
                first = max(writer.position.offset(topic, partition), 5 if topic == "u" else 0)
                end.setdefault(topic, {})[partition] = max(first, min(first + length, last))
        writer.batch = Batch(writer.position, Cut(end))

    def move(self, writer: Writer, places: tuple[int, int, int], ahead: bool) -> None:
        """Puts the query somewhere else: a few offsets before the ledger's cut, or after it."""
        committed, offsets = self.ledger().committed, {}
        for (topic, partition, offset), distance in zip(committed.partitions(), places, strict=False):
            first = 5 if topic == "u" else 0
            place = (
                min(offset + distance, self.log.end.offset(topic, partition)) if ahead else offset - distance
            )
            offsets.setdefault(topic, {})[partition] = max(first, place)
        writer.position, writer.batch = Cut(offsets), None

    def fold(self, writer: Writer) -> None:
        """The batch is folded at the ledger of this moment: rows by its cut, states by its definitions."""
        batch = writer.batch
        if batch is None:
            return
        ledger = self.ledger()
        gap = not ledger.committed.covers(batch.begin)
        with self.expecting(GapError if gap else None) as allowed:
            begin, end = ledger.next_range(batch.begin, batch.end)
            allowed()
            batch.planned, batch.range = ledger, (begin, end)
            batch.records = self.rows_of(batch, begin, end)
        if gap:
            writer.batch, writer.position = None, ledger.committed

    def rows_of(self, batch: Batch, begin: Cut, end: Cut) -> list[Record]:
        """The records of Spark's range that lie in the range to commit."""
        return [
            record for record in self.log.between(batch.begin, batch.end) if is_between(record, begin, end)
        ]

    def commit(self, writer: Writer, crash: bool = False, unheard: bool = False) -> None:
        """Commits the batch as it was folded; `unheard` leaves it to be tried again."""
        batch = writer.batch
        if batch is None or batch.planned is None or batch.range is None:
            return
        begin, end = batch.range
        ledger, planned = self.ledger(), batch.planned
        refusal: type[TidelineError] | None = None
        if writer.token != ledger.fences["speed"]:
            refusal = FenceError
        elif planned.open.definitions != ledger.open.definitions:
            refusal = DefinitionSetError
        elif begin.complete(ledger.origin) != ledger.committed:
            behind = not begin.complete(ledger.origin).covers(ledger.committed)
            refusal = StaleCommitError if behind else GapError
        with self.expecting(refusal) as allowed, self.write(crash) as txn:
            self.commit_into(txn, writer, batch, begin, end)
            allowed()
        if refusal is None and unheard:
            return
        if refusal is None and not crash:
            writer.position, writer.batch = writer.position.advance(batch.end), None
        elif refusal is FenceError:
            writer.batch = None
        else:
            batch.planned = None

    def commit_into(self, txn: WriteTransaction, writer: Writer, batch: Batch, begin: Cut, end: Cut) -> None:
        assert batch.planned is not None
        definitions = batch.planned.open.definitions
        counted = rejects(definitions, batch.records)
        ledger = txn.ledger.commit(writer.token, begin, end, definitions, statistics(batch.records), counted)
        found = events(batch.records)
        for fingerprint in definitions:
            view = VIEWS[fingerprint]
            merge_into(
                txn, ledger.open.space(fingerprint), view, [view.row(r) for r in found if view.takes(r)]
            )
        txn.put_ledger(ledger)

    # The batch layer.

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
                self.change(
                    lambda old: old.archive(self.batch_token, self.master.restrict(known), old.sources)
                )
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

    def _plan(
        self, ledger: Ledger, cut: Cut, mode: str, keep: int, build_new: bool, speed_token: int | None
    ) -> Plan:
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

    # What must be refused.

    @contextmanager
    def expecting(self, *refusals: type[TidelineError] | None) -> Iterator[Callable[[], None]]:
        """The step must raise one of `refusals`; where None is among them it may reach `allowed`."""
        kinds = tuple(kind for kind in refusals if kind is not None)
        reached = False

        def allowed() -> None:
            nonlocal reached
            reached = True
            require(None in refusals or not self.strict, "the protocol let pass what it must refuse", kinds)

        try:
            yield allowed
        except kinds as refusal:
            self.refused[refusal.condition] = self.refused.get(refusal.condition, 0) + 1
        except TidelineError as refusal:
            if self.strict:
                raise ProtocolBroken(f"refused, against the model: {refusal}") from refusal
        else:
            require(reached or None in refusals or not self.strict, "the step ended without a refusal", kinds)

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

    # What must hold.

    def check(self) -> None:
        """Every live view and retained version against the naive fold, the ledger against itself."""
        if not self.dirty:
            return
        self.dirty = False
        with self.store.snapshot() as snapshot:
            ledger = snapshot.ledger
            if self.strict:
                self._check_ledger(ledger)
            for name, fingerprint in ledger.live.items():
                require(VIEWS[fingerprint].name == name, "a name answers for its own view", name, fingerprint)
                self._check_view(snapshot, fingerprint, ledger.committed, None)
            for version in ledger.versions:
                for fingerprint in version.views:
                    self._check_view(snapshot, fingerprint, version.cut, version.id)
            require(ledger.spaces() <= set(snapshot.spaces()), "every space that the ledger names is there")

    def _check_view(self, snapshot: Any, fingerprint: str, cut: Cut, version: int | None) -> None:
        view, ledger = VIEWS[fingerprint], snapshot.ledger
        at = ledger.version if version is None else ledger.find_version(version)
        floor = at.floors.get(fingerprint)
        expected = {
            place: answer
            for place, answer in self.log.answer(view, ledger.origin, cut).items()
            if floor is None or place[1] is None or place[1] >= floor
        }
        try:
            rows = list(scan_rows(snapshot, view, version=version))
            found = {(row.key, row.bucket): present(view, row.merged) for row in rows}
            require(len(found) == len(rows), "each key once", fingerprint)
            require(
                found == expected, f"{fingerprint} at {cut} (version {version})", found, "expected", expected
            )
            for place in list(expected)[:1]:
                row = get_row(snapshot, view, *place, version=version)
                require(
                    row is not None and present(view, row.merged) == expected[place], "get equals scan", place
                )
        except ProtocolError as refusal:
            raise ProtocolBroken(f"a live view cannot be answered: {refusal}") from refusal
        records = self.log.between(ledger.origin, cut)
        counted = ledger.rejects(fingerprint) if version is None else at.rejects.get(fingerprint, 0)
        require(
            counted == sum(map(view.refuses, events(records))),
            "rejects are counted once",
            fingerprint,
            counted,
        )

    def _check_ledger(self, ledger: Ledger) -> None:
        require(
            Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger, "a ledger survives JSON"
        )
        place = ledger.version.cut
        for generation in ledger.generations:
            require(generation.begin == place, "generations tile", place, generation)
            last = generation is ledger.open
            require((generation.end is None) == last, "the last generation alone is open", generation)
            place = ledger.committed if generation.end is None else generation.end
        require(place == ledger.committed, "generations reach to the committed cut", place)
        counted = {topic: dict(parts) for topic, parts in ledger.log().items()}
        actual = statistics(self.log.between(ledger.origin, ledger.committed))
        require(counted == actual, "every record is counted once", counted, actual)
        floors = [version.floors for version in ledger.versions]
        for older, newer in pairwise(floors):
            fallen = [f for f in older if f in newer and newer[f] < older[f]]
            require(not fallen, "floors never fall", older, newer)


def present(view: ModelView, states: list[Any]) -> dict[str, Any]:
    return {name: m.present(state) for (name, m), state in zip(view.measures.items(), states, strict=True)}
