"""Part 6, cost: seconds until `up` is ready, memory of each process at rest and under load, bytes on disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from contestants import Contestant
from figures import Figure, Runs
from freshness import PARTITIONS
from lookups import CATALOG, FLOW, settled
from sales import Sales

from tideline.produce import produce_raw
from tideline.runtime.home import Home
from tideline.runtime.process import pause
from tideline.runtime.stack import Stack
from tideline.settings import Settings
from tideline.stores.lmdb import LmdbStore

PART = "cost"
REST = 20.0  # seconds after which a new installation is at rest
LOAD = 90.0  # seconds of load, with a batch run each minute
KEYS = 1_000_000
LAYERS = ("speed", "batch", "serve")


def run(runs: Runs, rounds: int) -> None:
    """Measures what is not yet in `runs`; files are measured once."""
    for number in range(rounds):
        if len(runs.of(PART, "up")) <= number:
            _one(runs, with_files=not runs.of(PART, "disk"))


def _one(runs: Runs, with_files: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        home, catalog = Home(Path(folder) / "home").prepare(), Path(folder) / "catalog.py"
        catalog.write_text(CATALOG, "utf-8")
        settings = Settings().with_values({"kafka.port": "auto", "serve.port": "auto", "batch.every": "60s"})
        began = time.monotonic()
        with Stack(home, settings, catalog, lambda _: None) as stack, Contestant("load_sender.py") as sender:
            ready = time.monotonic() - began
            pause(REST)
            rest = dict(_memory(home))
            sender.ask(60, do="start", bootstrap=stack.bootstrap, topic="sales", partitions=PARTITIONS, rate=FLOW)
            load: dict[str, float] = {}
            until = time.monotonic() + LOAD
            while time.monotonic() < until:
                pause(2.0)
                load = {name: max(size, load.get(name, 0.0)) for name, size in _memory(home)}
            sender.ask(60, do="stop")
            runs.add(PART, "up", seconds=round(ready, 2), rest=rest, load=load)
            if with_files:
                runs.add(PART, "disk", **_files(home, stack.bootstrap))


def _memory(home: Home) -> Iterator[tuple[str, float]]:
    """MB that each process of an installation has for itself, a layer's JVM and its Python apart."""
    own = psutil.Process()
    for name in LAYERS:
        pid = int((home.read_status(name) or {}).get("pid", 0))
        if pid:
            whole = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            java = [process for process in whole if _is_java(process)]
            yield f"{name}, Python", _size([process for process in whole if process not in java])
            if java:
                yield f"{name}, JVM", _size(java)
    yield "Kafka", _size([process for process in own.children() if "kafka.Kafka" in process.cmdline()])


def _is_java(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "java")
    except psutil.NoSuchProcess:  # a worker that has ended
        return False


def _size(processes: list[psutil.Process]) -> float:
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().uss
        except psutil.NoSuchProcess:  # a worker that has ended
            continue
    return round(total / 1e6, 1)


def _files(home: Home, bootstrap: str) -> dict[str, Any]:
    """Bytes a million events in the master, and a million keys in the store and in the segments' tables."""

    def used() -> int:
        with LmdbStore.open(home.path, readonly=True) as store:
            return int(store.usage()["used"])

    before = used()
    produce_raw(Sales(8).events(KEYS), "lines", bootstrap)
    settled(home, bootstrap)
    segments = sum(_folder(table) for table in home.path.rglob("by_line-*"))
    return {
        "events": _folder(home.master / "lines") * 1_000_000 // KEYS,
        "keys": used() - before,
        "keys in Delta": segments,
    }


def _folder(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def figures(runs: Runs) -> list[Figure]:
    """Seconds, MB, bytes."""
    found = [Figure(PART, "up is ready", "s", runs.values(PART, "up", "seconds"), 25)]
    for state in ("rest", "load"):
        each = [line[state] for line in runs.of(PART, "up")]
        names = sorted({name for sizes in each for name in sizes})
        found += [
            Figure(PART, f"{name}, at {state}" if state == "rest" else f"{name}, under load", "MB", sizes)
            for name in names
            if (sizes := [one[name] for one in each if name in one])
        ]
    for name, text in (("events", "master"), ("keys", "store"), ("keys in Delta", "segments in Delta")):
        unit = "bytes a million keys" if name.startswith("keys") else "bytes a million events"
        found.append(Figure(PART, text, unit, runs.values(PART, "disk", name)))
    return [figure for figure in found if figure.runs]
