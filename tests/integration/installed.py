"""An installation driven inside the test's process: real Kafka, Spark, Delta and LMDB."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cases import (
    Answers,
    Event,
    count_events,
    differences,
    encode,
    few_views,
    make_source,
    make_views,
    naive_answers,
)
from kafka import KafkaProducer
from pyspark.sql import SparkSession

from batch_layer.engine import SparkEngine
from batch_layer.run import BatchLayer
from speed_layer.fold import SparkFolder
from speed_layer.layer import Committed, SpeedLayer
from speed_layer.stream import SpeedQuery
from tideline import View
from tideline.apply import apply_catalog
from tideline.catalog import collect_catalog
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.ledger import Ledger
from tideline.merge import scan_rows
from tideline.runtime.home import Home
from tideline.runtime.kafka_access import kafka_python
from tideline.runtime.reading import Record, read_records
from tideline.runtime.topics import log_end_offsets
from tideline.source import SourceDefinition
from tideline.spark.resolve import Resolved, resolve_catalog
from tideline.stores.lmdb import LmdbStore

PATIENCE = 120.0  # seconds until a condition that is awaited must hold


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What `condition` returns once it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        threading.Event().wait(0.02)
    return found


class Speed:
    """A speed layer that runs in a thread."""

    def __init__(
        self, installed: Installed, max_offsets: int, on_commit: Callable[[Committed], None] = lambda _: None
    ) -> None:
        self.commits: list[Committed] = []
        self.folder = installed.folder()

        def committed(commit: Committed) -> None:
            self.commits.append(commit)
            on_commit(commit)

        self.layer = SpeedLayer(installed.store, self.folder, committed)
        self.query = SpeedQuery(self.layer, self.folder, installed.home.tmp, "0 seconds", max_offsets)
        self.error: BaseException | None = None
        self.stopping = threading.Event()
        self._reading = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.query.run(self.stopping, self._reading.set)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error

    def start(self) -> None:
        """Returns when the query reads."""
        self._thread.start()
        wait_for(lambda: self._reading.is_set() or self.ended, "the speed layer reads")

    @property
    def ended(self) -> bool:
        """Whether the thread is over."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Stops the query and waits for the thread; does nothing a second time."""
        self.stopping.set()
        self._thread.join(PATIENCE)
        assert self.ended

    def wait_error(self) -> BaseException:
        """The error that the layer ends with."""
        wait_for(lambda: self.ended, "the speed layer ends")
        assert self.error is not None
        return self.error


class Installed:
    """A home with its own topic and store."""

    def __init__(self, spark: SparkSession, bootstrap: str, folder: Path, topic: str, map_size: int = 1 << 30) -> None:
        self.spark = spark
        self.bootstrap = bootstrap
        self.topic = topic
        self.home = Home(folder).prepare()
        self.store = LmdbStore.open(folder, create=True, map_size=map_size)
        self.batch_layer: BatchLayer
        self.new_batch_layer()
        self.horizon = 1_000_000
        self.source: SourceDefinition
        self._producer: KafkaProducer | None = None

    def close(self) -> None:
        """Closes what is open and removes the files."""
        self.stop_sending()
        self.store.close()
        shutil.rmtree(self.home.path)

    # Definitions.

    def resolve(self, views: Sequence[View]) -> Resolved:
        return resolve_catalog(self.spark, collect_catalog(list(views), "a test"))

    def apply(self, *views: View, partitions: int = 2) -> None:
        """Registers these views, by default the ones of `make_views`."""
        chosen = views or make_views(make_source(self.topic))
        self.horizon = chosen[0].source.horizon
        resolved = self.resolve(chosen)
        (self.source,) = resolved.sources.values()
        apply_catalog(self.store, resolved, self.bootstrap, partitions, self.home.master)

    def apply_few(self, partitions: int = 2) -> None:
        """Registers `few_views`."""
        self.apply(*few_views(make_source(self.topic)), partitions=partitions)

    # Events.

    def send(
        self, events: Iterable[Event | bytes | None], partition: int | None = None, key: bytes | None = None
    ) -> Cut:
        """Sends events keyed by their id or by `key` (bytes as they are); where the log ends then."""
        if self._producer is None:
            self._producer = KafkaProducer(**kafka_python(self.bootstrap), linger_ms=5, max_request_size=16 << 20)
        for event in events:
            own = str(event["id"]).encode() if isinstance(event, dict) else b"gone" if event is None else None
            self._producer.send(self.topic, None if event is None else encode(event), key or own, partition=partition)
        self._producer.flush(30)
        return self.log_end

    def stop_sending(self) -> None:
        """Closes the producer; the next `send` makes another."""
        if self._producer is not None:
            self._producer.close(timeout=5)
            self._producer = None

    @property
    def log_end(self) -> Cut:
        return Cut(log_end_offsets(self.bootstrap, [self.topic]))

    def records(self, end: Cut | None = None) -> list[Record]:
        """Every record before `end`, by default the committed cut, as Kafka has it."""
        batches = read_records(self.bootstrap, self.topic, Cut(), end or self.ledger.committed)
        return [record for batch in batches for record in batch]

    # The layers.

    @contextmanager
    def speed(
        self, max_offsets: int = 100_000, on_commit: Callable[[Committed], None] = lambda _: None
    ) -> Iterator[Speed]:
        """A speed layer that runs meanwhile. An error of it that the test did not look at fails the test."""
        running = Speed(self, max_offsets, on_commit)
        with self.home.lock("speed"):
            try:
                running.start()
                yield running
            finally:
                running.stop()
        if running.error is not None and not isinstance(running.error, KeyboardInterrupt):
            raise running.error

    def folder(self) -> SparkFolder:
        """What folds for a speed layer of this installation."""
        return SparkFolder(self.spark, self.bootstrap, self.home.master, self.home.tmp)

    def batch(self, **options: bool) -> Any:
        """One batch run."""
        return self.batch_layer.run(**options)

    def lose_store(self) -> None:
        """As after a disk was lost: an empty store, beside the master."""
        self.store.close()
        shutil.rmtree(self.home.path / "store")
        self.store = LmdbStore.open(self.home.path, create=True, map_size=1 << 30)
        self.new_batch_layer()

    def reopen(self) -> None:
        """After another process had the store."""
        self.store = LmdbStore.open(self.home.path, map_size=1 << 30)
        self.new_batch_layer()

    def new_batch_layer(self) -> None:
        """As after a restart: what a batch layer keeps in memory is gone."""
        self.batch_layer = BatchLayer(self.store, self.home, self.engine)

    @property
    def engine(self) -> SparkEngine:
        """What a batch layer works with; a new one each time."""
        return SparkEngine(self.spark, self.store, self.home, self.bootstrap)

    def run_speed_to_its_error(self, max_offsets: int = 100_000) -> None:
        """A speed layer that is expected to end by itself. Raises what it ended with."""
        running = Speed(self, max_offsets)
        running.start()
        raise running.wait_error()

    def wait_committed(self, end: Cut | None = None) -> None:
        """Returns when everything before `end`, by default the log's end now, is committed."""
        wanted = end or self.log_end
        wait_for(lambda: self.ledger.committed.covers(wanted), f"{wanted} is committed")

    # Answers.

    @property
    def ledger(self) -> Ledger:
        with self.store.snapshot() as snapshot:
            return snapshot.ledger

    def look(self, *views: str, version: int | None = None) -> tuple[Cut, dict[str, Answers]]:
        """The committed cut, and by view what the merged read says: presented measures by key and bucket."""
        with self.store.snapshot() as snapshot:
            ledger = snapshot.ledger
            live = ledger.live if version is None else ledger.find_version(version).live
            found = {}
            for view in views or tuple(live):
                definition = ViewDefinition.from_json(ledger.definition(live[view]))
                names, measures = list(definition.measures), list(definition.measures.values())
                found[view] = {
                    (row.key, row.bucket): {
                        name: measure.present(state)
                        for name, measure, state in zip(names, measures, row.merged, strict=True)
                    }
                    for row in scan_rows(snapshot, definition, version=version)
                }
            return ledger.committed, found

    def answers(self, view: str, version: int | None = None) -> Answers:
        """One view's answers; with `version`, that version's."""
        return self.look(view, version=version)[1][view]

    def states(self, view: str) -> dict[Any, dict[str, Any]]:
        """The last version's states in their canonical form."""
        with self.store.snapshot() as snapshot:
            ledger = snapshot.ledger
            definition = ViewDefinition.from_json(ledger.definition(ledger.live[view]))
            rows = list(scan_rows(snapshot, definition, version=ledger.version.id))
        return {
            (row.key, row.bucket): {
                name: measure.canonical(state)
                for (name, measure), state in zip(definition.measures.items(), row.merged, strict=True)
            }
            for row in rows
        }

    def wrong(self, *views: str) -> list[tuple[Any, ...]]:
        """Where the answers differ from a plain fold over the log before the committed cut.

        The views' names are those of `make_views`. May be asked while the layers run.
        """
        committed, found = self.look(*views)
        facts = count_events(self.records(committed), self.horizon)
        assert found
        return [
            (view, *one) for view, answers in found.items() for one in differences(naive_answers(view, facts), answers)
        ]
