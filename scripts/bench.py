"""Figures of one machine, a line of JSON each: `.venv/bin/python scripts/bench.py drain|batch|freshness`.

drain      seconds for a backlog, by Tideline's speed layer and by a hand-written stateful streaming job, in turn
batch      seconds of a first backlog drained by the batch layer, a full and an incremental run
freshness  milliseconds from sending an event to the first HTTP answer that holds it, at a steady rate
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from batch_layer.engine import SparkEngine
from batch_layer.run import BatchLayer
from speed_layer.fold import SparkFolder
from speed_layer.layer import SpeedLayer
from speed_layer.stream import SpeedQuery
from tideline import Count, Max, Source, Sum, View, hours
from tideline.apply import apply_catalog
from tideline.catalog import collect_catalog
from tideline.cut import Cut
from tideline.eventfiles import Event
from tideline.produce import Sender, produce_raw
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.installation import layer_session
from tideline.runtime.jars import spark_jars
from tideline.runtime.stack import Stack
from tideline.runtime.topics import log_end_offsets
from tideline.settings import Settings
from tideline.spark.resolve import resolve_catalog
from tideline.stores.lmdb import LmdbStore

SCHEMA = (
    "line_id string, product string, quantity int, price decimal(10,2), customer string, country string, "
    "sold_at timestamp"
)
ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
WARM = 20_000
CATALOG = f'''
from tideline import *
bench = Source("bench", schema="{SCHEMA}", event_id="line_id", event_time="sold_at", max_ahead=None)
by_product = View("by_product", source=bench, key="product",
                  measures={{"lines": Count(), "quantity": Sum("quantity"), "largest": Max("price")}})
by_hour = View("by_hour", source=bench, key="country", bucket=hours(1),
               measures={{"lines": Count(), "revenue": Sum("quantity * price")}})
every = View("every", source=bench, measures={{"lines": Count(), "last": Last("line_id")}})
'''


def say(name: str, value: Any, unit: str, **more: Any) -> None:
    print(json.dumps({"figure": name, "value": round(value, 3), "unit": unit, **more}), flush=True)


def events(count: int, seed: int = 1) -> Iterator[Event]:
    """Invoice lines of some 150 bytes, keyed by their id."""
    chance = random.Random(seed)
    start = dt.datetime(2026, 1, 1)
    countries = ["United Kingdom", "France", "Germany", "Spain", "Norway"]
    for number in range(count):
        name = f"{seed}-{number}"
        at = (start + dt.timedelta(seconds=chance.randrange(86_400))).isoformat()
        yield Event(
            name.encode(),
            (
                f'{{"line_id":"{name}","product":"p{chance.randrange(4000)}","quantity":{chance.randrange(1, 50)},'
                f'"price":{chance.randrange(1, 10000) / 100},"customer":"c{chance.randrange(4000)}",'
                f'"country":"{chance.choice(countries)}","sold_at":"{at}Z"}}'
            ).encode(),
        )


def views(source: Source) -> list[View]:
    return [
        View(
            "by_product",
            source=source,
            key="product",
            measures={"lines": Count(), "quantity": Sum("quantity"), "largest": Max("price")},
        ),
        View(
            "by_hour",
            source=source,
            key="country",
            bucket=hours(1),
            measures={"lines": Count(), "revenue": Sum("quantity * price")},
        ),
    ]


@contextmanager
def scratch() -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="tideline-bench-"))
    try:
        yield Home(folder).prepare()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Bench:
    """One broker and one Spark session for the parts that need no processes."""

    def __init__(self, home: Home, broker: Broker) -> None:
        self.home = home
        self.bootstrap = broker.bootstrap
        self.spark: SparkSession = layer_session("bench", home, Settings())

    def installation(self, topic: str, identified: bool, count: int) -> tuple[Home, LmdbStore]:
        home = Home(self.home.path / f"{topic}-{identified}-{count}-{time.monotonic_ns()}").prepare()
        source = Source(
            "bench",
            schema=SCHEMA,
            topic=topic,
            event_id="line_id" if identified else None,
            event_time="sold_at",
            max_ahead=None,
        )
        store = LmdbStore.open(home.path, create=True)
        resolved = resolve_catalog(self.spark, collect_catalog(list(views(source)), "bench"))
        apply_catalog(store, resolved, self.bootstrap, 4, home.master)
        return home, store

    def end(self, topic: str) -> Cut:
        return Cut(log_end_offsets(self.bootstrap, [topic]))

    def drain(self, topic: str, identified: bool) -> float:
        """Seconds from starting the speed layer's query to the commit that covers the topic."""
        home, store = self.installation(topic, identified, 0)
        stop, end = threading.Event(), self.end(topic)

        def committed(_: Any) -> None:
            with store.snapshot() as snapshot:
                if snapshot.ledger.committed.covers(end):
                    stop.set()

        folder = SparkFolder(self.spark, self.bootstrap, home.master)
        query = SpeedQuery(SpeedLayer(store, folder, committed), folder, home.tmp, "0 seconds", 400_000)
        began = time.monotonic()
        query.run(stop)
        seconds = time.monotonic() - began
        store.close()
        return seconds


class ByHand:
    """A stateful Structured Streaming job as one would write it by hand, in a process of its own."""

    def __init__(self, bootstrap: str) -> None:
        argv = [sys.executable, __file__, "by-hand", "--bootstrap", bootstrap]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def drain(self, topic: str) -> float:
        """Seconds to drain a topic."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("no pipes")
        self._process.stdin.write(f"{topic}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise RuntimeError("the hand-written job ended")

    def close(self) -> None:
        self._process.communicate(timeout=60)


def by_hand(bootstrap: str) -> None:
    """Drains the topics that standard input names: the two views as two queries with RocksDB, results thrown away."""
    jars = ",".join(map(str, spark_jars()))
    builder = SparkSession.builder.master("local[2]").config("spark.jars", jars).config("spark.driver.memory", "2g")
    for name, value in {
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.streaming.stateStore.providerClass": ROCKSDB,
    }.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    for topic in sys.stdin:
        with scratch() as home:
            print("seconds", _by_hand(spark, bootstrap, topic.strip(), home.path), flush=True)


def _by_hand(spark: SparkSession, bootstrap: str, topic: str, folder: Path) -> float:
    rows = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", 400_000)
        .load()
    )
    event = rows.select(F.from_json(F.col("value").cast("string"), SCHEMA).alias("e")).select("e.*")
    totals = [F.count("*").alias("lines"), F.sum("quantity").alias("quantity"), F.max("price").alias("largest")]
    revenue = [F.count("*").alias("lines"), F.sum(F.expr("quantity * price")).alias("revenue")]
    frames = [
        event.groupBy("product").agg(*totals),
        event.groupBy("country", F.window("sold_at", "1 hour")).agg(*revenue),
    ]
    began = time.monotonic()
    queries = [
        frame.writeStream.outputMode("update")
        .format("noop")
        .option("checkpointLocation", str(folder / str(number)))
        .trigger(availableNow=True)
        .start()
        for number, frame in enumerate(frames)
    ]
    for query in queries:
        query.awaitTermination()
    return time.monotonic() - began


def drain(count: int, rounds: int) -> None:
    with scratch() as home, Broker(home) as broker:
        bench, hand = Bench(home, broker), ByHand(broker.bootstrap)
        for topic, size in (("warm", WARM), ("backlog", count)):
            bench.installation(topic, True, 0)[1].close()
            produce_raw(events(size), topic, broker.bootstrap)
        for _ in range(3):
            bench.drain("warm", True)
            bench.drain("warm", False)
            hand.drain("warm")
        for _ in range(rounds):
            say("drain, hand-written", seconds := hand.drain("backlog"), "s", rate=round(count / seconds))
            say("drain, tideline", seconds := bench.drain("backlog", False), "s", rate=round(count / seconds))
            say(
                "drain, tideline, repeats found",
                seconds := bench.drain("backlog", True),
                "s",
                rate=round(count / seconds),
            )
        hand.close()


def batch(count: int, rounds: int) -> None:
    with scratch() as home, Broker(home) as broker:
        bench = Bench(home, broker)
        own, store = bench.installation("backlog", True, 0)
        produce_raw(events(WARM), "backlog", broker.bootstrap)
        layer = BatchLayer(store, own, SparkEngine(bench.spark, store, own, broker.bootstrap))
        layer.run()
        produce_raw(events(count, 2), "backlog", broker.bootstrap)
        for name, full in [("batch, first backlog", False), *[("batch, full", True)] * rounds]:
            began = time.monotonic()
            report = layer.run(full=full) or {}
            say(name, time.monotonic() - began, "s", steps={s["name"]: s["seconds"] for s in report.get("steps", ())})
        for number in range(rounds):
            produce_raw(events(count // 100, 3 + number), "backlog", broker.bootstrap)
            began = time.monotonic()
            report = layer.run() or {}
            say(
                "batch, incremental, 1 % new",
                time.monotonic() - began,
                "s",
                steps={s["name"]: s["seconds"] for s in report["steps"]},
            )
        store.close()


def freshness(rate: int, seconds: float) -> None:
    """Open loop: events leave on a fixed schedule, whatever the answers do."""
    with scratch() as home:
        catalog = home.path / "catalog.py"
        catalog.write_text(CATALOG, "utf-8")
        settings = Settings().with_values({"kafka.port": "auto", "serve.port": "auto", "batch.every": "60s"})
        with Stack(home, settings, catalog, lambda line: None) as stack:
            sent: list[float] = []
            seen: list[tuple[float, int]] = []
            stop = threading.Event()
            threads = [
                threading.Thread(target=_send, args=(stack.bootstrap, rate, sent, stop)),
                threading.Thread(target=_watch, args=(stack.api, seen, stop)),
            ]
            for thread in threads:
                thread.start()
            stack.supervisor.watch(timeout=seconds)
            stop.set()
            for thread in threads:
                thread.join()
            for name, memory in _memory(stack).items():
                say(f"memory, {name}", memory, "MB")
        _report(rate, sent, seen, seconds)


def _send(bootstrap: str, rate: int, sent: list[float], stop: threading.Event) -> None:
    stream = list(events(100_000, 9))
    began = time.monotonic()
    with Sender("bench", bootstrap, linger_ms=2) as sender:
        while not stop.is_set():
            due = int((time.monotonic() - began) * rate)
            for number in range(len(sent), due):
                event = stream[number % len(stream)]
                name = f'"line_id":"x{number}"'.encode()
                sender.send(
                    Event(f"x{number}".encode(), event.value.replace(event.value[1 : event.value.index(b",")], name, 1))
                )
                sent.append(began + number / rate)
            stop.wait(0.002)


def _watch(api: str, seen: list[tuple[float, int]], stop: threading.Event) -> None:
    while not stop.is_set():
        with urllib.request.urlopen(f"{api}/v1/views/every/rows", timeout=10) as response:
            rows = json.load(response)["rows"]
        seen.append((time.monotonic(), rows[0]["lines"] if rows else 0))
        stop.wait(0.01)


def _report(rate: int, sent: list[float], seen: list[tuple[float, int]], seconds: float) -> None:
    ages: list[float] = []
    half = len(sent) // 2  # the first half warms up
    position = 0
    for at, count in seen:
        while position < min(count, len(sent)):
            if position >= half:
                ages.append((at - sent[position]) * 1000)
            position += 1
    if not ages:
        say("freshness", float("inf"), "ms", rate=rate)
        return
    cuts = statistics.quantiles(ages, n=100)
    say("freshness p50", cuts[49], "ms", rate=rate, events=len(ages))
    say("freshness p99", cuts[98], "ms", rate=rate, events=len(ages))


def _memory(stack: Stack) -> dict[str, float]:
    """Resident megabytes of each process and what it started."""
    found: dict[str, float] = {}
    for name in ("kafka", "speed", "batch", "serve"):
        pid = stack.supervisor.pid(name)
        total = 0
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[2]) == pid:  # its process group
                        total += int((folder / "statm").read_text().split()[1]) * 4096
                except OSError:
                    continue
        found[name] = total / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("drain", "batch", "freshness", "by-hand"))
    parser.add_argument("--bootstrap", help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=90.0)
    args = parser.parse_args()
    if args.part == "by-hand":
        by_hand(args.bootstrap)
    elif args.part == "freshness":
        freshness(args.rate, args.seconds)
    else:
        {"drain": drain, "batch": batch}[args.part](args.events, args.rounds)


if __name__ == "__main__":
    main()
