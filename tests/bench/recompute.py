"""Part 4, recompute: full and incremental batch runs over a growing master, beside Spark SQL and DuckDB."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from contestants import Contestant
from figures import Figure, Runs
from sales import Answers, Sales, check

from tideline.produce import produce_raw
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.topics import create_topic

PART = "recompute"
TOPIC = "sales"
PARTITIONS = 4
MILLIONS = (2, 5, 10, 20)
FEW = 1_000  # events of an incremental run that is nothing but its start
TIMEOUT = 1500.0
CONTESTANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("full", "tideline", {"do": "batch", "full": True}),
    ("spark", "spark", {"do": "plain_spark"}),
    ("duckdb", "duckdb", {"do": "plain_duckdb"}),
)


def run(runs: Runs, rounds: int, millions: tuple[int, ...] = MILLIONS) -> None:
    """Measures what is not yet in `runs`; a size that was begun is begun anew."""
    if all(
        len(runs.of(PART, f"{name}, {size} M")) >= rounds
        for size in millions
        for name in ("full", "incremental", "start")
    ):
        return
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        home, sales, held = Home(Path(folder)).prepare(), Sales(5), 0
        with Broker(home) as broker, Contestant("engine_tideline.py") as engine:
            create_topic(broker.bootstrap, TOPIC, PARTITIONS)
            engine.ask(TIMEOUT, do="install", bootstrap=broker.bootstrap, topic=TOPIC)
            for size in millions:
                produce_raw(sales.events(int(size * 1e6) - held), TOPIC, broker.bootstrap)
                held = int(size * 1e6)
                archived = engine.ask(TIMEOUT, do="batch", full=False)
                runs.add(PART, f"archive, to {size} M", **archived)
                for number in range(rounds):
                    if len(runs.of(PART, f"full, {size} M")) <= number:
                        for name, of, request in CONTESTANTS:
                            found = engine.ask(TIMEOUT, **request)
                            _check(engine, of, sales.answers, Path(folder) / "answers.json")
                            runs.add(PART, f"{name}, {size} M", **found)
                    for name, fresh in (("start", FEW), ("incremental", int(size * 1e4))):
                        if len(runs.of(PART, f"{name}, {size} M")) <= number:
                            produce_raw(sales.events(fresh), TOPIC, broker.bootstrap)
                            held += fresh
                            found = engine.ask(TIMEOUT, do="batch", full=False)
                            _check(engine, "tideline", sales.answers, Path(folder) / "answers.json")
                            runs.add(PART, f"{name}, {size} M", **found)


def _check(engine: Contestant, of: str, expected: Answers, path: Path) -> None:
    engine.ask(TIMEOUT, do="answers", of=of, path=str(path))
    check(expected, json.loads(path.read_text("utf-8")))


def figures(runs: Runs) -> list[Figure]:
    """Ratios at each size; floors and targets are those at twenty million."""
    found: list[Figure] = []
    for size in MILLIONS:
        names = ("full", "spark", "duckdb", "incremental", "start")
        full, spark, duckdb, fresh, start = (runs.values(PART, f"{name}, {size} M", "seconds") for name in names)
        archived, computed = (_beyond_start(runs, size, step) for step in ("archive", "compute"))
        last = size == MILLIONS[-1]
        times = [ours / plain for ours, plain in zip(full, spark, strict=False)]
        peers = {name: sorted(t)[len(t) // 2] for name, t in (("spark", spark), ("duckdb", duckdb)) if t}
        # A full run over the same new events has to archive them too.
        share = [(f - s) / (whole + a) for f, s, a, whole in zip(fresh, start, archived, full, strict=False)]
        alone = [part / whole for part, whole in zip(computed, full, strict=False)]
        found += [
            Figure(PART, f"full, {size} M events", "s", full, peers=peers),
            Figure(PART, f"full against Spark SQL, {size} M", "times", times, *((1.5, 1.15) if last else ())),
            Figure(PART, f"incremental, 1 % new, beyond its start, {size} M", "of full", share, *_bounds(last)),
            Figure(PART, f"its compute step alone, {size} M", "of full", alone),
            Figure(PART, f"the start of an incremental run: {FEW} events, {size} M", "s", start),
        ]
    return [figure for figure in found if figure.runs]


def _bounds(last: bool) -> tuple[float, ...]:
    return (0.2, 0.05) if last else ()


def _beyond_start(runs: Runs, size: int, step: str) -> list[float]:
    """Seconds of a step of the incremental runs beyond those of a run that is nothing but its start."""
    whole, least = ([run["steps"][step] for run in runs.of(PART, f"{n}, {size} M")] for n in ("incremental", "start"))
    return [max(0.0, a - b) for a, b in zip(whole, least, strict=False)]
