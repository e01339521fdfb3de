"""Part 2, freshness: from the moment an event is due to be sent to the first answer that contains it, open loop."""

from __future__ import annotations

import contextlib
import http.client
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from contestants import Contestant, EngineFault, wait
from figures import Figure, Runs
from load_sender import POOL, SEED
from real_time import real_time
from sales import SCHEMA, VIEWS, Answers, answered, check, repeated

from serving_layer.reader import Reader
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.stack import Stack
from tideline.runtime.topics import create_topic
from tideline.settings import Settings

PART = "freshness"
RATES = (1_000, 5_000, 20_000)
BOUND = 5_000  # the rate that has bounds
PARTITIONS = 4
POLL = 0.005  # seconds between an answer and the next question
AROUND = 3.0  # seconds on each side of a hand-off
TOPIC = "sales"
CATALOG = f'''
from tideline import *
sales = Source("sales", schema="{SCHEMA}", event_time="sold_at", max_ahead=None)
lines, quantity, largest = {{"lines": Count()}}, {{"quantity": Sum("quantity")}}, {{"largest": Max("price")}}
by_product = View("by_product", source=sales, key="product", measures={{**lines, **quantity, **largest}})
by_customer = View("by_customer", source=sales, key="customer", measures={{**lines, **quantity}})
by_hour = View("by_hour", source=sales, key="country", bucket=hours(1), measures={{**lines, **quantity, **largest}})
'''
Floats = npt.NDArray[np.float64]
Look = Callable[[], "tuple[Mapping[int, int] | int, int]"]
"""An answer's cut by partition, or how many events it holds; and the version of its batch side."""


def watch(look: Look, begins: float, rate: float, seconds: float) -> tuple[Floats, Floats, list[float]]:
    """(when each event was due, after how many seconds an answer held it, when hand-offs were seen), from asking again
    and again for so long."""
    due: list[Floats] = []
    ages: list[Floats] = []
    held = dict.fromkeys(range(PARTITIONS), 0)
    handed: list[float] = []
    last_version: int | None = None
    while time.time() < begins + seconds:
        found, version = look()
        now = time.time()
        if version != last_version:
            if last_version is not None:
                handed.append(now)
            last_version = version
        # Of a count the events are the first that were sent: four partitions that are read evenly.
        cut = found if not isinstance(found, int) else {p: (found - p + PARTITIONS - 1) // PARTITIONS for p in held}
        for partition, end in cut.items():
            if end > held[partition]:
                numbers = np.arange(held[partition], end, dtype=np.float64) * PARTITIONS + partition
                moments = begins + numbers / rate
                due.append(moments)
                ages.append(now - moments)
                held[partition] = end
        time.sleep(POLL)
    empty = [np.empty(0)]
    return np.concatenate(due or empty), np.concatenate(ages or empty), handed


def tideline(rate: int, seconds: float, warm: float) -> dict[str, Any]:
    """Everything on this machine, a batch run each minute, asked over HTTP."""
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        home, catalog = Home(Path(folder) / "home").prepare(), Path(folder) / "catalog.py"
        catalog.write_text(CATALOG, "utf-8")
        settings = Settings().with_values({"kafka.port": "auto", "serve.port": "auto", "batch.every": "60s"})
        with Stack(home, settings, catalog, lambda _: None) as stack, Contestant("load_sender.py") as sender:
            address = urlsplit(stack.api)
            line = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)

            def look() -> tuple[dict[int, int], int]:
                line.request("GET", "/v1/views/by_hour/rows?country=France&limit=1")
                proof = json.loads(line.getresponse().read())["proof"]
                cut = proof["committed_cut"].get(TOPIC, {})
                return {int(partition): offset for partition, offset in cut.items()}, proof["version"]

            start = sender.ask(60, do="start", bootstrap=stack.bootstrap, topic=TOPIC, partitions=PARTITIONS, rate=rate)
            found = watch(look, start["begins"], rate, warm + seconds)
            sent = sender.ask(60, do="stop")["sent"]
            wait(lambda: sum(look()[0].values()) == sent, "all that was sent is answered", 60)
            with Reader(home) as reader:
                check(repeated(SEED, POOL, sent), answered(reader))
    return _summary(*found, start["begins"] + warm)


def by_hand(rate: int, seconds: float, warm: float) -> dict[str, Any]:
    """A stateful job that upserts into SQLite, which is asked in this process."""
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        home, store = Home(Path(folder) / "home").prepare(), str(Path(folder) / "store.db")
        with Broker(home) as broker, Contestant("engine_spark.py") as job, Contestant("load_sender.py") as sender:
            create_topic(broker.bootstrap, TOPIC, PARTITIONS)
            job.ask(120, do="upsert", bootstrap=broker.bootstrap, topic=TOPIC, store=store)
            with _lines(store) as look:
                start = sender.ask(
                    60, do="start", bootstrap=broker.bootstrap, topic=TOPIC, partitions=PARTITIONS, rate=rate
                )
                found = watch(look, start["begins"], rate, warm + seconds)
                sent = sender.ask(60, do="stop")["sent"]
                wait(lambda: look()[0] == sent, "all that was sent is answered", 120)
            check(repeated(SEED, POOL, sent), _states(store))
    return _summary(*found, start["begins"] + warm)


@contextlib.contextmanager
def _lines(store: str) -> Iterator[Look]:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as database:

        def look() -> tuple[Mapping[int, int] | int, int]:
            (lines,) = database.execute("select coalesce(sum(lines), 0) from states where view = 'by_hour'").fetchone()
            return int(lines), 0

        yield look


def _states(store: str) -> Answers:
    with contextlib.closing(sqlite3.connect(store)) as database:
        found: Answers = {view: {} for view in VIEWS}
        for view, key, *values in database.execute("select view, key, lines, quantity, largest from states"):
            found[view][key] = values[: 2 if view == "by_customer" else 3]
        return found


def _summary(due: Floats, ages: Floats, handed: list[float], since: float) -> dict[str, Any]:
    steady = due >= since
    near = np.zeros(len(due), np.bool_)
    for moment in handed:
        near |= np.abs(due - moment) <= AROUND
    found: dict[str, Any] = {"events": int(steady.sum()), "hand_offs": len(handed)}
    for name, chosen in (("", steady), ("_around_hand_offs", steady & near)):
        if chosen.any():
            for share in (50, 99):
                found[f"p{share}{name}"] = round(float(np.percentile(ages[chosen], share)) * 1000, 1)
    return found


MEASURES = {"tideline": tideline, "by hand": by_hand, "real-time mode": real_time}


def run(runs: Runs, rounds: int, seconds: float, warm: float, rates: tuple[int, ...] = RATES) -> None:
    """Measures what is not yet in `runs`: Tideline and the job written by hand in turn at the rate of the bounds, three
    times at most; real-time mode there, and Tideline at the other rates, once."""
    for number in range(min(rounds, 3)):
        for rate in rates:
            for name, measure in MEASURES.items():
                again = rate == BOUND and name != "real-time mode"
                wanted = again or (number == 0 and (rate == BOUND or name == "tideline"))
                if wanted and len(runs.of(PART, f"{name}, {rate}/s")) <= number:
                    try:
                        runs.add(PART, f"{name}, {rate}/s", **measure(rate, seconds, warm))
                    except EngineFault as fault:
                        runs.add(PART, f"{name}, {rate}/s", fault=str(fault))


def figures(runs: Runs) -> list[Figure]:
    """Milliseconds by rate; floors and targets are those at `BOUND` events a second."""
    found: list[Figure] = []
    bounds: dict[str, tuple[float | None, float | None]] = {"p50": (400, 250), "p99": (2000, 800)}
    for rate in RATES:
        for share, (floor, target) in bounds.items():
            ours = runs.values(PART, f"tideline, {rate}/s", share)
            hand = runs.values(PART, f"by hand, {rate}/s", share)
            peers = {
                name: float(np.median(values))
                for name in list(MEASURES)[1:]
                if (values := runs.values(PART, f"{name}, {rate}/s", share))
            }
            at = (floor, target) if rate == BOUND else (None, None)
            found.append(Figure(PART, f"{share} at {rate}/s", "ms", ours, *at, peers=peers))
            near = runs.values(PART, f"tideline, {rate}/s", f"{share}_around_hand_offs")
            found.append(Figure(PART, f"{share} at {rate}/s, 3 s around hand-offs", "ms", near))
            if rate == BOUND:
                times = [mine / other for mine, other in zip(ours, hand, strict=False)]
                found.append(Figure(PART, f"{share} against the job by hand", "times", times, 1.0, 1 / 1.5))
    return [figure for figure in found if figure.runs]
