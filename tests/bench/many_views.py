"""Part 3, many views: how much longer a micro-batch of 2,000 events takes with ten or a hundred views than with one."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from contestants import Contestant, EngineFault
from figures import Figure, Runs
from sales import Sales

from tideline.produce import produce_raw
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.topics import create_topic

PART = "many-views"
TOPIC = "sales"
EVENTS = 2_000  # of a micro-batch
CYCLES = 60  # of which the first half warm up
COUNTS = (1, 10, 100)
PARTITIONS = 4


def run(runs: Runs, rounds: int) -> None:
    """Measures what is not yet in `runs`: one, ten and a hundred views in turn."""
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        home = Home(Path(folder)).prepare()
        with Broker(home) as broker, Contestant("engine_tideline.py") as engine:
            create_topic(broker.bootstrap, TOPIC, PARTITIONS)
            produce_raw(Sales(3).events(EVENTS * CYCLES), TOPIC, broker.bootstrap)
            cycles = {"do": "cycles", "bootstrap": broker.bootstrap, "topic": TOPIC, "most": EVENTS}
            engine.ask(600, **cycles, count=1)  # the JVM warms up
            for number in range(rounds):
                for count in COUNTS:
                    if len(runs.of(PART, str(count))) <= number:
                        reply = engine.ask(600, **cycles, count=count)
                        if not reply["equal"]:
                            raise EngineFault(f"wrong answers of {count} views")
                        late = reply["cycles"][len(reply["cycles"]) // 2 :]
                        runs.add(PART, str(count), milliseconds=round(statistics.median(late) * 1000, 1))
            if not runs.of(PART, "parts"):
                runs.add(PART, "parts", **engine.ask(600, **{**cycles, "do": "parts"}, count=1))


def figures(runs: Runs) -> list[Figure]:
    """Ratios of one run."""
    one, ten, hundred = (runs.values(PART, str(count), "milliseconds") for count in COUNTS)
    found = [
        Figure(PART, "a micro-batch with one view", "ms", one),
        Figure(PART, "ten views against one", "times", [b / a for a, b in zip(one, ten, strict=False)], 3, 2),
        Figure(
            PART, "a hundred views against one", "times", [b / a for a, b in zip(one, hundred, strict=False)], 20, 12
        ),
    ]
    for run in runs.of(PART, "parts")[:1]:
        shares = {part: milliseconds for part, milliseconds in run.items() if part not in ("part", "name", "cpu")}
        found += [Figure(PART, f"of one view: {part}", "ms", [shares[part]]) for part in shares]
    return [figure for figure in found if figure.runs]
