"""Part 4, the hand-off: how long a batch run keeps the speed layer from committing, with few keys and with many."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contestants import Contestant, EngineFault
from figures import Figure, Runs
from sales import Sales

from tideline.produce import produce_raw
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.topics import create_topic
from tideline.stores.lmdb import LmdbStore

PART = "hand-off"
TOPIC = "sales"
PARTITIONS = 4
KEYS = (1_000, 1_000_000)
SAMPLE = 1_000  # ids that are asked for after each run
PROBE = 0.002  # seconds between two write transactions


def run(runs: Runs, rounds: int, keys: tuple[int, ...] = KEYS) -> None:
    """Measures what is not yet in `runs`: batch runs over so many new keys, each an event."""
    if all(len(runs.of(PART, f"{count} keys")) >= rounds for count in keys):
        return
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        sales = Sales(6)
        with Broker(Home(Path(folder)).prepare()) as broker, Contestant("engine_tideline.py") as engine:
            create_topic(broker.bootstrap, TOPIC, PARTITIONS)
            home = Path(engine.ask(120, do="install", bootstrap=broker.bootstrap, topic=TOPIC, by_line=True)["home"])
            sent = 0
            for count in (10, *keys * rounds):  # the first run warms up
                produce_raw(sales.events(count), TOPIC, broker.bootstrap)
                with _probing(home) as waits:
                    engine.ask(900, do="batch", full=False)
                sent += count
                ids = [f"6-{number}" for number in random.sample(range(sent), min(SAMPLE, sent))]
                if (found := engine.ask(60, do="lines", ids=ids)) != {**found, "held": sent, "sum": len(ids)}:
                    raise EngineFault(f"wrong answers: {found} of {sent} lines, {len(ids)} of them asked for")
                if count in keys:
                    runs.add(PART, f"{count} keys", longest=round(max(waits) * 1000, 1), probes=len(waits))


@contextmanager
def _probing(home: Path) -> Iterator[list[float]]:
    """Seconds that write transactions of another process wait for the store meanwhile, one after the other."""
    waits: list[float] = []
    stopping = threading.Event()

    def probe() -> None:
        with LmdbStore.open(home) as store:
            while not stopping.wait(PROBE):
                began = time.perf_counter()
                with store.write():
                    waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield waits
    finally:
        stopping.set()
        thread.join()


def figures(runs: Runs) -> list[Figure]:
    """Milliseconds."""
    found = [
        Figure(
            PART,
            f"longest wait of a commit, {count:,} keys",
            "ms",
            runs.values(PART, f"{count} keys", "longest"),
            300,
            100,
        )
        for count in KEYS
    ]
    return [figure for figure in found if figure.runs]
