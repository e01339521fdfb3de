"""One installation in the simulation: a store, a broker, a disk, processes that any step may end, and the judge.

The layers are the ones that run in production. Each process is a greenlet; at every named point it hands control back,
and the schedule decides who goes on, who is killed there, and what happens outside. After every step every live view
and every retained version is compared with a plain fold of the records before its cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from greenlet import GreenletExit
from sim_judge import Judge, Wrong
from sim_layers import Disk, SimEngine, SimFolder
from sim_log import Kafka, Message
from sim_process import Process
from sim_views import BREAKING, CATALOGS, views

from batch_layer.recover import recover
from batch_layer.run import RETRIES, BatchLayer
from speed_layer.layer import SpeedLayer
from tideline.apply import register
from tideline.cut import Cut
from tideline.errors import (
    ChecksumError,
    DefinitionSetError,
    FenceError,
    GapError,
    LostLogError,
    MissingViewError,
    OutsideError,
    TidelineError,
    TopicRecreatedError,
)
from tideline.ledger import Ledger
from tideline.plans import topics
from tideline.stores.base import WriteTransaction, is_commit
from tideline.stores.memory import MemorySnapshot, MemoryStore

KEEP_VERSIONS = 3
MENDABLE = ("overtaken", "lost", "swapped", "torn")  # faults that `tideline recover` goes on after


class SimStore(MemoryStore):
    """Keeps the states that a power cut may bring back: those since the last durable one (invariant 12)."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.unsynced: list[MemorySnapshot] = []
        self.quarantines = 0

    @contextmanager
    def write(self) -> Iterator[WriteTransaction]:
        before = self.state
        with super().write() as txn:
            yield txn
        self.quarantines += bool(self.state.ledger.quarantined.keys() - before.ledger.quarantined.keys())
        durable = not is_commit(before.ledger, self.state.ledger)
        self.unsynced = [] if durable else [*self.unsynced, before]


@dataclass
class World:
    """All of it. `draw(n)` is the schedule's next choice below n."""

    draw: Callable[[int], int]
    kafka: Kafka = field(default_factory=Kafka)
    disk: Disk = field(default_factory=Disk)
    store: SimStore = field(default_factory=lambda: SimStore(Ledger.create("simulated")))
    processes: list[Process] = field(default_factory=list)
    crashes: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    fault: str | None = None
    mending: bool = False
    recoveries: int = 0
    calm: bool = False
    changes: tuple[int, int] = (0, 0)
    catalogs: tuple[int, int] = (0, 0)
    held: list[MemorySnapshot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.judge = Judge(self.kafka)
        self.wanted: dict[str, str] = {}
        self.apply(0)

    @property
    def ledger(self) -> Ledger:
        return self.store.state.ledger

    @property
    def redefined(self) -> int:
        """How often the set of definitions was changed, by users and by quarantine."""
        return self.changes[0] + self.store.quarantines

    # Processes.

    def locked_by(self, name: str) -> int | None:
        """As a home says it: who holds a lock. A recovery holds every one, but for its own run."""
        holders = [i for i, p in enumerate(self.processes) if p.locked and not p.ended and p.name in (name, "recover")]
        return next((i for i in holders if not self.processes[i].is_current()), None)

    def start(self, name: str, locked: bool = True) -> None:
        """A new process; one that is not `locked` believes that it holds the lock."""
        if (locked and self.locked_by(name) is not None) or self.locked_by("recover") is not None:
            return
        bodies = {"speed": self._speed, "batch": self._batch, "recover": self._recover}
        self.processes.append(Process(name, bodies[name], locked))

    def reach(self, point: str) -> None:
        """The layers' hook."""
        for process in self.processes:
            if process.is_current():
                process.wait(point)

    def _speed(self, process: Process) -> None:
        layer = SpeedLayer(self.store, SimFolder(self.kafka, self.disk))
        while True:
            process.knows = self.redefined, self.changes[1], self.ledger.fences["speed"]
            names = topics(self.ledger)
            position = self._begin(process, layer.start())
            while topics(self.ledger) == names:
                end = position.advance(self._some_of(position, names))
                if end == position:
                    process.wait("speed.idle")
                    continue
                layer.process(position, end)
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
            process.knows = self.redefined, self.changes[1], self.ledger.fences["speed"]
            choice = self.draw(10)
            try:
                layer.run(full=choice == 0, redecode=choice == 1)
            except (FenceError, GreenletExit):
                raise
            except TidelineError as error:
                self.excuse(process, error)
            process.wait("batch.idle")

    def _recover(self, process: Process) -> None:
        """What somebody runs who has seen that a part of the log is gone."""
        process.knows = *self.changes, self.ledger.fences["speed"]
        self.recoveries += 1
        seen = self.fault
        engine = SimEngine(self.kafka, self.disk, self.store)
        recover(self.store, engine)
        BatchLayer(self.store, self, engine, KEEP_VERSIONS).run()
        self.mending = False
        if self.fault == seen:  # and not what broke meanwhile
            self.fault = None

    @property
    def broken(self) -> bool:
        """Whether a recovery is needed: for a fault outside, or as one was broken off."""
        return self.fault in MENDABLE or (self.mending and self.fault is None)

    def mend(self) -> None:
        """Somebody recovers because it helps, or now and then to be sure."""
        if self.broken or self.draw(6) == 0:
            self.start_recovery()

    def start_recovery(self) -> None:
        """Somebody stops all that holds a lock, and recovers."""
        if self.fault == "recreated":
            return
        for process in list(self.processes):
            if process.locked:
                self.kill(process, "end")
        self.disk.lost, self.mending = None, True
        self.start("recover")

    def excuse(self, process: Process, error: BaseException) -> None:
        """Passes a refusal that the schedule explains; anything else is Wrong."""
        allowed: tuple[type[TidelineError], ...] = (FenceError,)
        if process.astray:
            allowed += (GapError, OutsideError)
        if self.fault == "recreated":
            allowed += (TopicRecreatedError, OutsideError)
        if self.fault == "overtaken":
            allowed += (OutsideError,)
        if self.fault in ("lost", "swapped"):
            allowed += (ChecksumError,)
        if self.mending:  # a recovery that was cut off is to be run again
            allowed += (ChecksumError, LostLogError)
        if self.recoveries and self.ledger.fences["speed"] > process.knows[2] + 1:  # the cut fell under a zombie
            allowed += (GapError, LostLogError)
        expiries = self.changes[1]
        if process.knows[0] != self.redefined:
            allowed += (DefinitionSetError, MissingViewError)
        if process.knows[1] != expiries:  # what it takes for the archived cut is older, and so are its reads
            allowed += (OutsideError,)
        if self.ledger.fences["speed"] - process.knows[2] > RETRIES:  # others took it during each attempt
            allowed += (DefinitionSetError,)
        # A batch layer that believes the lock its own, beside a recovery that has just taken back what was archived.
        condition = error.condition if isinstance(error, TidelineError) else None
        falls = self.mending and condition in ("CUT_FALLS", "ARCHIVE_LOST")
        falls |= process.name == "recover" and condition == "MASTER_CHANGED"  # by such a layer
        torn = self.recoveries > 0 and condition == "ARCHIVE_TORN"
        if torn:
            self.fault = self.fault or "torn"
        if not isinstance(error, allowed) and not falls and not torn:
            raise Wrong(f"{process.name} at {process.at}: {type(error).__name__}: {error}") from error
        self.refused[getattr(error, "condition", type(error).__name__)] += 1

    def resume(self, process: Process) -> None:
        """One step of a process; what ends it is judged."""
        process.resume()
        if process.failure is not None:
            self.excuse(process, process.failure)
        self.processes = [p for p in self.processes if not p.ended]

    def kill(self, process: Process, crash: str = "kill") -> None:
        self.crashes[process.at, crash] += 1
        process.kill()
        self.processes = [p for p in self.processes if not p.ended]

    def kill_all(self, crash: str = "end") -> None:
        for process in list(self.processes):
            self.kill(process, crash)

    # What happens outside.

    def cut_power(self, commits: int) -> None:
        """Every process ends, and the last commits of the speed layer were not on disk."""
        self.kill_all("power cut")
        self.held = []
        if self.store.unsynced:
            self.store.state = self.store.unsynced[-min(commits, len(self.store.unsynced))]
            self.store.unsynced = []
        wanted = {name: view for name, view in self.wanted.items() if view not in self.ledger.quarantined}
        if not wanted.items() <= self.ledger.wanted.items() or not self.ledger.wanted.keys() <= self.wanted.keys():
            raise Wrong(f"{self.wanted} was applied, {self.ledger.wanted} is left of it")

    def apply(self, catalog: int) -> None:
        """A user applies one of the catalogs, or beyond them the one before the last: takes a change back."""
        catalog = catalog if catalog < len(CATALOGS) else self.catalogs[0]
        self.catalogs = self.catalogs[1], catalog
        meanings = views(catalog)
        sources = {**self.ledger.sources, **{m.source.name: m.source.to_json() for m in meanings}}
        names = [str(source["topic"]) for source in sources.values()]
        try:
            with self.store.write() as txn:
                ids, starts = self.kafka.ids(names), self.kafka.starts(names)
                failed = [entry["view"] for entry in self.ledger.quarantined.values() if self.draw(2)]
                register(txn, sources, [m.view for m in meanings], ids, starts, failed)
            self.wanted = {m.view.name: m.view.fingerprint for m in meanings}
        except TopicRecreatedError:
            if self.fault != "recreated":
                raise
        self.changes = self.changes[0] + 1, self.changes[1]

    def produce(self, count: int, values: tuple[int, ...] = ()) -> None:
        """Some messages: repeats, dead letters, late ones, offsets that hold nothing; `values` among theirs."""
        for _ in range(count):
            name = "tttu"[self.draw(4)]
            topic = self.kafka.topics[name]
            partition = self.draw(len(topic.ends))
            value = (self.draw(19) - 9, self.draw(19) - 9, 7, 500, *values)[self.draw(4 + len(values))]
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

    def expire_records(self) -> None:
        """Retention: Kafka forgets what is archived and committed; not before what is being mended is whole again."""
        if self.disk.lost is None and not self.mending:
            self._expire(0)

    def lose_records(self) -> None:
        """Retention overtakes: Kafka forgets what nobody has read yet."""
        if self._expire(2):
            self.fault = "overtaken"

    def _expire(self, more: int) -> bool:
        self.changes = self.changes[0], self.changes[1] + 1
        topic = self.kafka.topics["t"]
        durable = self.store.unsynced[0] if self.store.unsynced else self.store.state
        safe = durable.ledger.archived.least("t", durable.ledger.committed)
        if table := self.disk.masters.get("t"):  # of which a recovery that was broken off may have taken some back
            safe = safe.least("t", Cut.from_json(table[-1].metadata["end"]))
        for partition, end in enumerate(topic.ends):
            topic.kept[partition] = max(topic.kept[partition], min(safe.offset("t", partition) + more, end))
        return self.kafka.starts(["t"]).least("t", safe) != self.kafka.starts(["t"])

    def recreate_topic(self) -> None:
        """The topic is deleted, made again under its name, and filled with what some views fail on."""
        self.kafka.recreate("t")
        self.fault = "recreated"
        self.produce(100 + self.draw(100), (BREAKING,) * 4)

    def lose_record(self) -> None:
        """The archive is about to lose a record that the speed layer has counted; one whose id nobody will look for."""
        kept = self.kafka.starts(["t"]) == self.ledger.origin.restrict(["t"])  # it can be read again
        if kept and not self.mending and (waiting := [message for message in self._waiting() if message.junk]):
            self.disk.lost = waiting[0]
            self.fault = "lost"

    def swap_records(self) -> None:
        """With the power the broker loses the end of its log, of which some was counted, and fills it again."""
        self.cut_power(1)
        if self.ledger.losses:
            return
        if waiting := self._waiting():
            first = waiting[-1]
            messages = self.kafka.topics["t"].messages[first.partition]
            for place, message in enumerate(messages):
                if message.offset >= first.offset:
                    messages[place] = replace(message, value=message.value + 1)
                    self.judge.gone.append(message)
                    if message.offset < self.ledger.committed.offset("t", first.partition):
                        self.judge.swap(message, messages[place])
            self.fault = "swapped"

    def _waiting(self) -> list[Message]:
        """What the speed layer has counted, and no archive holds."""
        table = self.disk.masters.get("t")
        archived = Cut.from_json(table[-1].metadata["end"]) if table else self.ledger.origin.restrict(["t"])
        return self.judge.records(self.ledger, "t", archived, self.ledger.committed.restrict(["t"]))

    def read(self) -> None:
        """A reader takes a snapshot and holds it, or looks again at one that it holds."""
        if len(self.held) < 3 or self.draw(2):
            self.held = [*self.held[-2:], self.store.state]
        else:
            self.judge.check(self.held[self.draw(3)])
