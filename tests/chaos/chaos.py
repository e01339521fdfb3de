"""Kills real processes at every named point under traffic, and verifies after each: `scripts/chaos`.

One installation lives through all of it: a broker, the speed layer, a batch layer that runs every two seconds, the HTTP
API, and a shop that sends events at a steady rate. For each point the process that stands there is started so that it
kills itself as it reaches it (`TIDELINE_KILL_AT`), then started again as a supervisor would; the broker and the API are
killed at random moments. Recovery is the time from that start until what had been sent when it died is committed (the
speed layer, the broker), published (the batch layer) or answered (the API). Each result is a line of JSON in `--out`;
what it holds already is not done again, so that a run can be broken off and resumed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tideline
from tideline.cut import Cut
from tideline.errors import TidelineError
from tideline.ledger import Ledger
from tideline.oracle import verify
from tideline.points import POINTS
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.process import ChildProcess, Command, pause
from tideline.runtime.topics import log_end_offsets
from tideline.simulate import shop_catalog
from tideline.simulate.shop import Shop, run_shop

TOPIC = "shop"
RATE = 200
DEATH, RECOVERY = 180.0, 240.0  # seconds within which a process must have died, and be back
PROCESSES = ("speed", "batch", "serve", "kafka")
QUICK = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"  # these JVMs live for less than a minute


def victim(point: str) -> str:
    """The process that a point is killed in."""
    if point in PROCESSES:
        return point
    return "speed" if point.startswith("speed.") else "batch"


class Site:
    """An installation under traffic."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder).prepare()
        self.broker = Broker(self.home)
        self.bootstrap = self.broker.bootstrap
        self.port = int(self.bootstrap.rpartition(":")[2])
        self.children: dict[str, ChildProcess] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything up, and all of it gone at the end."""
        stop = threading.Event()
        shop = Shop(dt.datetime.now(dt.timezone.utc), rate=RATE, repeated=0.05, broken=0.01)
        try:
            self.broker.start()
            applied = self.command("apply", "--catalog", str(shop_catalog.__file__)).start()
            self.wait(lambda: not applied.alive, "the catalog is applied")
            self.reader = tideline.open(str(self.home.path))
            traffic = threading.Thread(target=self._traffic, args=(shop, stop))
            traffic.start()
            for name in ("serve", "speed", "batch"):
                self.start(name)
            self.wait(lambda: self.ledger.version.id > 0, "the first version")
            yield
        finally:
            stop.set()
            for child in self.children.values():
                child.stop(0)
            self.broker.stop()
            if hasattr(self, "reader"):
                self.reader.close()

    def _traffic(self, shop: Shop, stop: threading.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(TidelineError):  # the broker is away; what was not sent is not missing
                run_shop(shop, TOPIC, self.bootstrap, stop)
            stop.wait(0.5)

    def command(self, name: str, *options: str, kill_at: str = "") -> ChildProcess:
        argv = (sys.executable, "-m", "tideline.cli.main", name, "--home", str(self.home.path), *options)
        env = {"TIDELINE_KILL_AT": kill_at, "JAVA_TOOL_OPTIONS": QUICK}
        return ChildProcess(Command(name, (*argv, *self._where(name)), env, self.home.logs / f"{name}.log"))

    def _where(self, name: str) -> tuple[str, ...]:
        return () if name == "serve" else ("--bootstrap-server", self.bootstrap)

    def start(self, name: str, point: str = "") -> ChildProcess:
        """A process, which dies at `point` where one is given."""
        options = {"batch": ("--every", "2s"), "serve": ("--port", "auto")}.get(name, ())
        if point.startswith("archive.rewr"):
            options += ("--redecode",)
        self.children[name] = self.command(name, *options, kill_at=f"{point}:1" if point else "").start()
        return self.children[name]

    @property
    def ledger(self) -> Ledger:
        return self.reader.ledger()

    def log_end(self) -> Cut:
        return Cut(log_end_offsets(self.bootstrap, [TOPIC]))

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = RECOVERY) -> float:
        """Seconds until it holds."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            pause(0.05)
        return time.monotonic() - began

    def answers(self) -> bool:
        """Whether the HTTP API answers a query."""
        url = (self.home.read_status("serve") or {}).get("url")
        try:
            with urllib.request.urlopen(f"{url}/v1/views/sales/rows", timeout=5) as response:
                return bool(json.load(response)["rows"])
        except OSError:
            return False

    def strike(self, point: str, dice: random.Random) -> float:
        """Kills at a point and starts again; seconds to recover."""
        name = victim(point)
        if name == "kafka":
            pause(dice.random() * 3)
            end = self.ledger.committed
            self.broker.stop(0)
            self.broker = Broker(self.home, self.port).start()
            return self.wait(lambda: self.ledger.committed.count_since(end) > RATE, "events are committed again")
        if name == point:
            pause(dice.random() * 3)
            self.children[name].stop(0)
        else:
            self.children[name].stop(0)
            child = self.start(name, point)
            self.wait(lambda: not child.alive, f"{name} dies at {point}", DEATH)
            child.clear_group(5)
        end = self.log_end()
        self.start(name)
        reached: dict[str, Callable[[], bool]] = {
            "speed": lambda: self.ledger.committed.covers(end),
            "batch": lambda: self.ledger.version.cut.covers(end),
            "serve": self.answers,
        }
        return self.wait(reached[name], f"{name} is back after {point}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1, help="how often each point is struck (default: 1)")
    parser.add_argument("--only", nargs="*", help="these alone; speed, batch, serve, kafka: at random")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no other point after so many minutes")
    parser.add_argument("--first", type=int, default=0, help="begin with the point of this number, for parts in turn")
    parser.add_argument("--out", type=Path, help="the file of results, to be continued")
    args = parser.parse_args()
    points = args.only or [*POINTS, *PROCESSES]
    if unknown := set(points) - {*POINTS, *PROCESSES}:
        parser.error(f"no such points: {sorted(unknown)}; known: {[*POINTS, *PROCESSES]}")
    turn = args.first % len(points)
    wanted = [(run, point) for run in range(args.runs) for point in (*points[turn:], *points[:turn])]
    lines = args.out.read_text("utf-8").splitlines() if args.out and args.out.exists() else []
    results = [json.loads(line) for line in lines]
    done = {(result["run"], result["point"]) for result in results}
    deadline = time.monotonic() + args.minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="tideline-chaos-"))
    site = Site(folder)
    try:
        with site.running():
            for run, point in wanted:
                if (run, point) in done or time.monotonic() > deadline:
                    continue
                seconds = site.strike(point, random.Random(f"{run} {point}"))
                report = verify(site.home.path, bootstrap=site.bootstrap)
                result = {"run": run, "point": point, "process": victim(point), "seconds": round(seconds, 1)}
                result |= {"wrong": 0 if report.ok else 1, "keys": report.keys}
                results.append(result)
                print(json.dumps(result), flush=True)
                if args.out:
                    with args.out.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(result) + "\n")
                if not report.ok:
                    print(report.to_text(), file=sys.stderr)
    except TimeoutError as error:
        print(f"chaos: {error}; the installation is kept in {folder}", file=sys.stderr)
        return 1
    print(table(results))
    wrong = sum(result["wrong"] for result in results)
    if not wrong:
        shutil.rmtree(folder)
    return int(bool(wrong or not results))


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown, a line for each point."""
    rows = ["| point | process | runs | recovery, s: least, median, most | wrong answers |", "| --- " * 5 + "|"]
    for point in dict.fromkeys(result["point"] for result in results):
        found = [result for result in results if result["point"] == point]
        times = [result["seconds"] for result in found]
        spread = f"{min(times)}, {statistics.median(times)}, {max(times)}"
        rows.append(f"| {point} | {found[0]['process']} | {len(found)} | {spread} | {sum(r['wrong'] for r in found)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
