"""Where the time of our own processes goes: flame graphs of drain, recompute, many views and lookups, by py-spy.

`scripts/profile [PART ...]` draws them into `docs/profiles`, each on a page with the processor time of all processes
and the functions that took most. What is profiled is slower than what is timed: `scripts/bench` measures without.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import drain
import flame
import lookups
import many_views
import recompute
from contestants import Contestant
from sales import Sales

from tideline.produce import produce_raw
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.process import pause
from tideline.runtime.stack import Stack
from tideline.runtime.topics import create_topic
from tideline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 200  # a second
TOP = 20
TOPIC = "sales"
PARTITIONS = 4
_TICK = os.sysconf("SC_CLK_TCK")


def _spent() -> dict[int, tuple[str, float]]:
    """Of each process of this machine: what it is, and its processor seconds so far."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found[int(folder.name)] = _kind(command), sum(map(int, fields[11:13])) / _TICK
    return found


def _kind(command: str) -> str:
    for mark, kind in (
        ("kafka.Kafka", "broker"),
        ("pyspark.daemon", "Python workers of Spark"),
        ("worker_daemon", "Python workers of Spark"),
        ("java", "JVM of Spark"),
        ("engine_serve", "server"),
        ("engine_", "Python driver"),
    ):
        if mark in command:
            return kind
    return "others"


@contextlib.contextmanager
def recorded(name: str, pid: int, folder: Path) -> Iterator[None]:
    """Draws what the Python processes from `pid` down do meanwhile, and writes which functions take most."""
    tool = Path(sys.executable).with_name("py-spy")
    with tempfile.NamedTemporaryFile("r", suffix=".txt") as raw:
        options = ["--rate", str(SAMPLES), "--subprocesses", "--nolineno", "--format", "raw", "--output", raw.name]
        process = subprocess.Popen([str(tool), "record", "--pid", str(pid), *options], stdout=subprocess.DEVNULL)
        try:
            pause(2)  # until it has found the processes
            before = _spent()
            yield
            spent: Counter[str] = Counter()
            for each, (kind, seconds) in _spent().items():
                spent[kind] += seconds - before.get(each, (kind, 0.0))[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)
        samples = flame.read_samples(raw)
    flame.draw(folder / f"{name}.svg", samples)
    worked = "; ".join(f"{kind} {seconds:.1f} s" for kind, seconds in spent.most_common() if kind != "others")
    lines = [f"| `{function}` | {share:.1%} |" for function, share in flame.top(samples, TOP)]
    table = "\n".join(["| function, with what it calls of libraries | of Python's time |", "| --- | --- |", *lines])
    (folder / f"{name}.md").write_text(
        f"# {name}\n\n![{name}]({name}.svg)\n\nProcessor time: {worked}.\n\n{table}\n", "utf-8"
    )


@contextlib.contextmanager
def _engine(events: int, seed: int) -> Iterator[tuple[Contestant, str, Sales]]:
    """An engine and a broker with so many events."""
    with (
        tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder,
        Broker(Home(Path(folder)).prepare()) as broker,
    ):
        create_topic(broker.bootstrap, TOPIC, PARTITIONS)
        sales = Sales(seed)
        produce_raw(sales.events(events), TOPIC, broker.bootstrap)
        with Contestant("engine_tideline.py") as engine:
            yield engine, broker.bootstrap, sales


def profile_drain(folder: Path) -> None:
    """Five million events, once warm."""
    with _engine(5_000_000, 4) as (engine, bootstrap, _), tempfile.TemporaryDirectory() as scratch:
        asked = {"do": "drain", "bootstrap": bootstrap, "topic": TOPIC, "answers": f"{scratch}/a", "most": drain.MOST}
        engine.ask(drain.TIMEOUT, **asked)
        with recorded("drain", engine.pid, folder):
            engine.ask(drain.TIMEOUT, **asked)


def profile_recompute(folder: Path) -> None:
    """Ten incremental runs of 200,000 new events each, over five million and more."""
    with _engine(5_000_000, 5) as (engine, bootstrap, sales):
        engine.ask(recompute.TIMEOUT, do="install", bootstrap=bootstrap, topic=TOPIC)
        for _ in range(3):
            engine.ask(recompute.TIMEOUT, do="batch", full=False)
            produce_raw(sales.events(200_000), TOPIC, bootstrap)
        with recorded("recompute", engine.pid, folder):
            for _ in range(10):
                engine.ask(recompute.TIMEOUT, do="batch", full=False)
                produce_raw(sales.events(200_000), TOPIC, bootstrap)


def profile_many_views(folder: Path) -> None:
    """Sixty micro-batches of 2,000 events into a hundred views."""
    with _engine(many_views.EVENTS * many_views.CYCLES, 3) as (engine, bootstrap, _):
        asked = {"do": "cycles", "bootstrap": bootstrap, "topic": TOPIC, "most": many_views.EVENTS, "checked": False}
        engine.ask(600, **asked, count=100)
        with recorded("many-views", engine.pid, folder):
            engine.ask(600, **asked, count=100)


def profile_lookups(folder: Path) -> None:
    """One key of ten thousand after another, over eight lines."""
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as scratch:
        home, catalog = Home(Path(scratch) / "home").prepare(), Path(scratch) / "catalog.py"
        catalog.write_text(lookups.CATALOG, "utf-8")
        settings = Settings().with_values({"kafka.port": "auto", "serve.port": "auto", "batch.every": "60s"})
        with Stack(home, settings, catalog, lambda _: None) as stack:
            produce_raw(Sales(8).events(10_000), "lines", stack.bootstrap)
            lookups.settled(home, stack.bootstrap)
            with lookups.serving(home) as (url, pid), Contestant("load_http.py") as client:
                one = {"one key": (url, lookups.asked_of(10_000)["one key"])}
                client.ask(300, do="at_once", asked=one, seconds=3)
                with recorded("lookups", pid, folder):
                    client.ask(300, do="at_once", asked=one, seconds=15)


PROFILES: dict[str, Callable[[Path], None]] = {
    drain.PART: profile_drain,
    recompute.PART: profile_recompute,
    many_views.PART: profile_many_views,
    lookups.PART: profile_lookups,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PROFILES), choices=[*PROFILES, []], metavar="PART")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "profiles")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.parts:
        PROFILES[name](args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
