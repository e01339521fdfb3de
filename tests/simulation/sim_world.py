"""One installation in the simulation: a store, a broker, a disk, processes that any step may end, and the judge.

The layers are the ones that run in production. Each process is a greenlet; at every named point it hands control back,
and the schedule decides who goes on, who is killed there, and what happens outside. After every step every live view
and every retained version is compared with a plain fold of the records before its cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet
from sim_layers import Disk, SimEngine, SimFolder
from sim_log import Kafka, Message, between, events
from sim_views import MEANINGS, Meaning, views

from batch_layer.run import BatchLayer
from speed_layer.layer import SpeedLayer
from tideline.apply import register
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.errors import (
    ChecksumError,
    DefinitionSetError,
    FenceError,
    GapError,
    MissingViewError,
    OutsideError,
    ProtocolError,
    TidelineError,
    TopicRecreatedError,
)
from tideline.ledger import Ledger
from tideline.ledger.parts import LogStats
from tideline.merge import get_row, scan_rows
from tideline.plans import topics
from tideline.stores.base import WriteTransaction, is_commit
from tideline.stores.memory import MemorySnapshot, MemoryStore

KEEP_VERSIONS = 3


class Wrong(AssertionError):
    """An answer that is not the recompute, a refusal without a cause, or a standstill."""


class SimStore(MemoryStore):
    """Keeps the states that a power cut may bring back: those since the last durable one (invariant 12)."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.unsynced: list[MemorySnapshot] = []

    @contextmanager
    def write(self) -> Iterator[WriteTransaction]:
        before = self.state
        with super().write() as txn:
            yield txn
        durable = not is_commit(before.ledger, self.state.ledger)
        self.unsynced = [] if durable else [*self.unsynced, before]


class Process:
    """A running layer; `at` is the point at which it waits."""

    def __init__(self, name: str, body: Callable[[Process], None], locked: bool) -> None:
        self.name = name
        self.locked = locked
        self.at = "start"
        self.knows = (0, 0)
        self.astray = False
        self.failure: BaseException | None = None
        self._greenlet = greenlet(lambda: self._run(body))

    def _run(self, body: Callable[[Process], None]) -> None:
        try:
            body(self)
        except GreenletExit:
            raise
        except BaseException as error:  # noqa: BLE001 - judged by the world
            self.failure = error

    def resume(self) -> None:
        """Goes on to the next point."""
        self._greenlet.switch()

    def kill(self) -> None:
        """Ends where it waits, as SIGKILL does: nothing more of it reaches store, disk or broker."""
        if not self._greenlet.dead:
            self._greenlet.throw(GreenletExit)

    def wait(self, point: str) -> None:
        """Hands control to the schedule."""
        self.at = point
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()

    @property
    def ended(self) -> bool:
        return bool(self._greenlet.dead)

    def is_current(self) -> bool:
        return getcurrent() is self._greenlet


@dataclass
class World:
    """All of it. `draw(n)` is the schedule's next choice below n."""

    draw: Callable[[int], int]
    kafka: Kafka = field(default_factory=Kafka)
    disk: Disk = field(default_factory=Disk)
    store: SimStore = field(default_factory=lambda: SimStore(Ledger.create("simulated")))
    processes: list[Process] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    fault: str | None = None
    calm: bool = False
    changes: tuple[int, int] = (0, 0)
    checked: MemorySnapshot | None = None

    def __post_init__(self) -> None:
        self.history = dict(self.kafka.topics)
        self.wanted: dict[str, str] = {}
        self._answers: dict[Any, dict[Any, dict[str, Any]]] = {}
        self.apply(0)

    @property
    def ledger(self) -> Ledger:
        return self.store.state.ledger

    # Processes.

    def locked_by(self, name: str) -> int | None:
        """As a home says it: who holds a lock."""
        return next((i for i, p in enumerate(self.processes) if p.name == name and p.locked and not p.ended), None)

    def start(self, name: str, locked: bool = True) -> None:
        """A new process; one that is not `locked` believes that it holds the lock."""
        if locked and self.locked_by(name) is not None:
            return
        self.processes.append(Process(name, self._speed if name == "speed" else self._batch, locked))

    def reach(self, point: str) -> None:
        """The layers' hook."""
        for process in self.processes:
            if process.is_current():
                process.wait(point)

    def _speed(self, process: Process) -> None:
        layer = SpeedLayer(self.store, SimFolder(self.kafka, self.disk))
        while True:
            process.knows = self.changes
            names = topics(self.ledger)
            position = self._begin(process, layer.start())
            while topics(self.ledger) == names:
                end = position.advance(self._some_of(position, names))
                if end == position:
                    process.wait("speed.idle")
                    continue
                layer.process((position, end), position, end)
                position = end

    def _begin(self, process: Process, cut: Cut) -> Cut:
        """Where the query begins: at the ledger's cut, or where a checkpoint of another life stands."""
        choice = self.draw(16)
        if choice > 1 or self.calm:
            return cut
        process.astray = True
        end = self.kafka.end(cut.topics()) if choice else self.ledger.version.cut
        return Cut(
            {t: {p: (self.draw(2) and end.offset(t, p)) or o for p, o in cut.offsets(t).items()} for t in cut.topics()}
        )

    def _some_of(self, position: Cut, names: list[str]) -> Cut:
        """As much of the log as a micro-batch takes."""
        end = self.kafka.end(names)
        most = (3, 10, 1000)[self.draw(3)]
        return Cut(
            {
                topic: {p: min(offset, position.offset(topic, p) + most) for p, offset in end.offsets(topic).items()}
                for topic in names
            }
        )

    def _batch(self, process: Process) -> None:
        layer = BatchLayer(self.store, self, SimEngine(self.kafka, self.disk, self.store), KEEP_VERSIONS)
        while True:
            process.knows = self.changes
            choice = self.draw(10)
            try:
                layer.run(full=choice == 0, redecode=choice == 1)
            except (FenceError, GreenletExit):
                raise
            except TidelineError as error:
                self.judge(process, error)
            process.wait("batch.idle")

    def judge(self, process: Process, error: BaseException) -> None:
        """Passes a refusal that the schedule explains; anything else is Wrong."""
        allowed: tuple[type[TidelineError], ...] = (FenceError,)
        if process.astray:
            allowed += (GapError, OutsideError)
        if self.fault == "recreated":
            allowed += (TopicRecreatedError, OutsideError)
        if self.fault == "overtaken":
            allowed += (OutsideError,)
        if self.fault == "lost":
            allowed += (ChecksumError,)
        applies, expiries = self.changes
        if process.knows[0] != applies:
            allowed += (DefinitionSetError, MissingViewError)
        if process.knows[1] != expiries:  # what it takes for the archived cut is older, and so are its reads
            allowed += (OutsideError,)
        if not isinstance(error, allowed):
            raise Wrong(f"{process.name} at {process.at}: {type(error).__name__}: {error}") from error
        self.refused[getattr(error, "condition", type(error).__name__)] += 1

    def resume(self, process: Process) -> None:
        """One step of a process; what ends it is judged."""
        process.resume()
        if process.failure is not None:
            self.judge(process, process.failure)
        self.processes = [p for p in self.processes if not p.ended]

    def kill(self, process: Process) -> None:
        self.kills[process.at] += 1
        process.kill()
        self.processes = [p for p in self.processes if not p.ended]

    def kill_all(self) -> None:
        for process in list(self.processes):
            self.kill(process)

    # What happens outside.

    def cut_power(self, commits: int) -> None:
        """Every process ends, and the last commits of the speed layer were not on disk."""
        self.kill_all()
        if self.store.unsynced:
            self.store.state = self.store.unsynced[-min(commits, len(self.store.unsynced))]
            self.store.unsynced = []
        if dict(self.ledger.wanted) != self.wanted:
            raise Wrong(f"{self.wanted} was applied, {self.ledger.wanted} is left of it")

    def apply(self, catalog: int) -> None:
        """A user applies one of the catalogs."""
        meanings = views(catalog)
        sources = {**self.ledger.sources, **{m.source.name: m.source.to_json() for m in meanings}}
        names = [str(source["topic"]) for source in sources.values()]
        try:
            with self.store.write() as txn:
                ids, starts = self.kafka.ids(names), self.kafka.starts(names)
                register(txn, sources, [m.view for m in meanings], ids, starts)
            self.wanted = {m.view.name: m.view.fingerprint for m in meanings}
        except TopicRecreatedError:
            if self.fault != "recreated":
                raise
        self.changes = self.changes[0] + 1, self.changes[1]

    def produce(self, count: int) -> None:
        """Some messages: repeats, dead letters, late ones, offsets that hold nothing."""
        for _ in range(count):
            name = "tttu"[self.draw(4)]
            topic = self.kafka.topics[name]
            partition = self.draw(len(topic.ends))
            value = (self.draw(19) - 9, self.draw(19) - 9, 7, 500)[self.draw(4)]
            sent = sum(map(len, topic.messages))
            number = max(0, sent - self.draw(12)) if self.draw(5) == 0 else sent
            topic.append(
                partition,
                f"{name}{number}",
                (None, "a", "b", "c")[self.draw(4)],
                value,
                self.draw(30) + sent // 2,
                self.draw(12) == 0,
                self.draw(3) if self.draw(4) == 0 else 0,
            )

    def expire_records(self, archived: bool) -> None:
        """Retention: Kafka forgets what is archived and committed, or more than that."""
        self.changes = self.changes[0], self.changes[1] + 1
        topic = self.kafka.topics["t"]
        durable = self.store.unsynced[0] if self.store.unsynced else self.store.state
        safe = durable.ledger.archived.least("t", durable.ledger.committed)
        for partition, end in enumerate(topic.ends):
            upto = safe.offset("t", partition) if archived else min(end, safe.offset("t", partition) + 2)
            topic.kept[partition] = max(topic.kept[partition], min(upto, end))
        if not archived and self.kafka.starts(["t"]).least("t", safe) != self.kafka.starts(["t"]):
            self.fault = "overtaken"

    def recreate_topic(self) -> None:
        self.kafka.recreate("t")
        self.fault = "recreated"

    def lose_record(self) -> None:
        """The archive is about to lose a record that the speed layer has counted."""
        waiting = between(self.history["t"], "t", self.ledger.archived, self.ledger.committed)
        if waiting and self.disk.lost is None:
            self.disk.lost = waiting[0]
            self.fault = "lost"

    # The judge.

    def check(self) -> None:
        """Compares all that can be answered now with the recompute."""
        state = self.store.state
        if state is self.checked:
            return
        self.checked = state
        ledger = state.ledger
        for name, fingerprint in ledger.live.items():
            if MEANINGS[fingerprint].view.name != name:
                raise Wrong(f"{name} is answered by {fingerprint}")
            self._check_view(state, MEANINGS[fingerprint], ledger.committed, None)
        for version in ledger.versions:
            for fingerprint in version.views:
                self._check_view(state, MEANINGS[fingerprint], version.cut, version.id)
        self._check_log(ledger)

    def _check_view(self, state: MemorySnapshot, meaning: Meaning, cut: Cut, version: int | None) -> None:
        ledger, view = state.ledger, meaning.view
        floors = (ledger.version if version is None else ledger.find_version(version)).floors
        floor = floors.get(view.fingerprint)
        expected = {
            place: answer
            for place, answer in self._recompute(meaning, ledger.origin, cut).items()
            if floor is None or place[1] >= floor
        }
        try:
            found = {
                (row.key, row.bucket): {
                    name: measure.present(merged)
                    for (name, measure), merged in zip(view.measures.items(), row.merged, strict=True)
                }
                for row in scan_rows(state, view, version=version)
            }
            looked = [get_row(state, view, key, bucket, version) for key, bucket in list(expected)[:1]]
        except ProtocolError as error:
            raise Wrong(f"{view.fingerprint} cannot be answered: {error}") from error
        if found != expected or None in looked:
            wrong = {place for place in {*found, *expected} if found.get(place) != expected.get(place)}
            place = min(wrong, key=repr) if wrong else None
            raise Wrong(
                f"{view.fingerprint} version {version} at {cut}: {place} is {found.get(place)}, "
                f"recomputed {expected.get(place)}"
            )

        records = between(self.history[meaning.source.topic], meaning.source.topic, ledger.origin, cut)
        refused = sum(map(meaning.refuses, events(meaning.source, records)))
        counted = ledger.rejects(view.fingerprint) if version is None else self._rejects(ledger, view, version)
        if counted != refused:
            raise Wrong(f"{view.fingerprint} version {version} at {cut} rejects {counted} events, recomputed {refused}")

    def _rejects(self, ledger: Ledger, view: ViewDefinition, version: int) -> int:
        return ledger.find_version(version).rejects.get(view.fingerprint, 0)

    def _recompute(self, meaning: Meaning, origin: Cut, cut: Cut) -> dict[Any, dict[str, Any]]:
        memo = (meaning.view.fingerprint, origin, cut)
        if memo not in self._answers:
            topic = meaning.source.topic
            groups: dict[Any, list[Message]] = {}
            for message in events(meaning.source, between(self.history[topic], topic, origin, cut)):
                if meaning.takes(message):
                    groups.setdefault(meaning.place(message), []).append(message)
            self._answers[memo] = {place: meaning.answer(messages) for place, messages in groups.items()}
        return self._answers[memo]

    def _check_log(self, ledger: Ledger) -> None:
        """Every record before the committed cut is counted once, and no floor falls."""
        for older, newer in pairwise(version.floors for version in ledger.versions):
            if any(newer.get(name, floor) < floor for name, floor in older.items()):
                raise Wrong(f"a floor fell: {older}, then {newer}")
        log = ledger.log()
        for name in topics(ledger):
            for partition in range(len(self.history[name].ends)):
                found = log.get(name, {}).get(partition, LogStats())
                here = between(self.history[name], name, ledger.origin, ledger.committed)
                checksums = [m.checksum for m in here if m.partition == partition]
                expected = 0
                for checksum in checksums:
                    expected ^= checksum
                if (found.records, found.checksum) != (len(checksums), expected):
                    raise Wrong(f"{name}:{partition} counts {found.records} of {len(checksums)} records")
