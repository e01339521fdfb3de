"""The whole under load for a long time, with a random kill every minute: `scripts/soak`.

3,000 events a second, a batch run every two minutes, somebody who asks all the time and adds up each answer. It ends in
`verify`, and says how fast the memory of each process grew and how large the files became.

Processes live for some minutes and then are killed, so growth is that from one life to the next: the most that lives of
one age have needed, against time, with its standard error. How one life grows shows without kills (`--kill-every 0`).
Java's heap is bounded by `spark.driver_memory`; here it is taken whole at the start, so that what grows is what nothing
bounds. For the sake of the two cores a micro-batch begins every five seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from live_site import LAYERS, QUICK, Site

from tideline.runtime.process import pause

SAMPLE = 5.0  # seconds
LATE = 20 * 60.0  # seconds at the end, over which growth is measured
GROWTH = 1.0  # MB a minute
YOUNG = 1  # minutes after which a process has read what it begins with
FILES = 150.0  # MB, of all but Kafka's and the master's
OTHERS = ("kafka", "master")
KILLS = (*LAYERS, "kafka")
# The heap is as large as its bound at once, and stays so.
JAVA = f"{QUICK} -XX:InitialRAMPercentage=5 -XX:+AlwaysPreTouch -XX:-UseAdaptiveSizePolicy"
SETTINGS = {"TIDELINE_SPARK_DRIVER_MEMORY": "1g", "TIDELINE_SPEED_TRIGGER": "5s"}


def anonymous(pid: int) -> dict[str, int]:
    """Bytes of memory of a process and its descendants that no file backs: by name of the program."""
    sizes: dict[str, int] = {}
    with_children = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in with_children:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Anonymous:"):
                name = process.name()
                sizes[name] = sizes.get(name, 0) + int(line.split()[1]) * 1024
    return sizes


def memory(site: Site) -> Iterator[tuple[str, float, int]]:
    """Each process of a site, such as `speed java`, when it was started, and its bytes."""
    pids = {name: child.pid for name, child in site.children.items()} | {"kafka": site.broker.pid}
    for layer, pid in pids.items():
        try:
            started = psutil.Process(pid or 0).create_time()
            for program, size in anonymous(pid or 0).items():
                yield f"{layer} {program}", started, size
        except (psutil.Error, OSError):  # it was killed in between
            continue


def files(site: Site) -> dict[str, int]:
    """Bytes under the home by its first folders; what is removed in between does not count."""
    sizes: dict[str, int] = {}
    for folder, _, names in os.walk(site.home.path):
        top = Path(folder).relative_to(site.home.path).parts[:1]
        for name in names:
            with contextlib.suppress(OSError):
                size = os.lstat(os.path.join(folder, name)).st_blocks * 512
                sizes["".join(top)] = sizes.get("".join(top), 0) + size
    return sizes


@dataclass(frozen=True)
class Sample:
    """The memory of a process: at which minute, in which life, at what age in minutes, MB."""

    minute: float
    life: float
    age: float
    size: float


class Growth(NamedTuple):
    """MB a minute, and its standard error; not numbers where no two lives reached one age."""

    slope: float
    error: float

    @property
    def is_steady(self) -> bool:
        """Whether it is less than GROWTH, as far as one can tell."""
        return self.slope - 2 * self.error < GROWTH


def growth(samples: list[Sample]) -> Growth:
    """The most that lives of one age have needed, regressed on time; of one life alone the plain slope of all samples.

    Lives that ended while they were young do not count.
    """
    lives = {sample.life for sample in samples}
    groups: dict[int, list[Sample]] = {}
    for life in lives:
        most = 0.0
        by_age: dict[int, Sample] = {}
        for sample in (one for one in samples if one.life == life):
            most = max(most, sample.size)
            by_age[int(sample.age)] = replace(sample, size=most)
        for age, sample in by_age.items():
            if age >= YOUNG:
                groups.setdefault(age, []).append(sample)
    pairs = [pair for group in (groups.values() if len(lives) > 1 else [samples]) for pair in _centred(group)]
    spread = sum(x * x for x, _ in pairs)
    if not spread:
        return Growth(math.nan, math.nan)
    slope = sum(x * y for x, y in pairs) / spread
    rest = sum((y - slope * x) ** 2 for x, y in pairs)
    return Growth(slope, math.sqrt(rest / max(1, len(pairs) - len(groups) - 1) / spread))


def _centred(group: list[Sample]) -> list[tuple[float, float]]:
    """Minute and size about their means."""
    minute, size = (statistics.fmean(getattr(one, name) for one in group) for name in ("minute", "size"))
    return [(one.minute - minute, one.size - size) for one in group]


def described(samples: list[Sample]) -> dict[str, float | None]:
    """Growth, lives, least and most of a process."""
    found, sizes = growth(samples), [one.size for one in samples]
    return {
        "a minute": None if math.isnan(found.slope) else round(found.slope, 2),
        "error": None if math.isnan(found.error) else round(found.error, 2),
        "lives": len({one.life for one in samples}),
        "least": round(min(sizes)),
        "most": round(max(sizes)),
    }


class Soak:
    """One soak: samples of memory and files, kills with the seconds each took to come back."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.dice = random.Random(seed)
        self.began = time.monotonic()
        self.memory: dict[str, list[Sample]] = {}
        self.files: list[tuple[float, dict[str, int]]] = []
        self.kills: list[tuple[float, str]] = []
        self.deaths: list[tuple[float, str]] = []

    @property
    def minute(self) -> float:
        return (time.monotonic() - self.began) / 60

    def sample(self) -> None:
        for name, started, size in memory(self.site):
            sample = Sample(self.minute, started, (time.time() - started) / 60, size / 1e6)
            self.memory.setdefault(name, []).append(sample)
        self.files.append((self.minute, files(self.site)))

    def kill(self) -> None:
        name = self.dice.choice(KILLS)
        self.kills.append((self.minute, name))
        if name == "kafka":
            self.site.restart_broker()
        else:
            self.site.stop(name)
            self.site.start(name)

    def supervise(self) -> None:
        """Starts again what ended by itself, as the speed layer may without a broker."""
        self.deaths += [(self.minute, name) for name in self.site.supervise()]

    def run(self, minutes: float, kill_every: float) -> None:
        """Samples and kills until the time is over, then waits until everything sent is published."""
        next_kill = kill_every
        while self.minute < minutes:
            self.sample()
            self.supervise()
            if kill_every and self.minute >= next_kill:
                self.kill()
                next_kill += kill_every
            pause(SAMPLE)
        end = self.site.log_end()
        self.site.wait(lambda: self.site.ledger.version.cut.covers(end), "everything is published", 900)

    def late(self) -> dict[str, list[Sample]]:
        """The memory of each process over the last 20 minutes."""
        begin = self.minute - LATE / 60
        late = {name: [one for one in samples if one.minute >= begin] for name, samples in self.memory.items()}
        return {name: samples for name, samples in late.items() if len(samples) > 10}

    def others(self) -> float:
        """The most MB that all files but Kafka's and the master's ever took."""
        return max(sum(size for name, size in sizes.items() if name not in OTHERS) for _, sizes in self.files) / 1e6

    def sizes(self) -> dict[str, dict[str, float]]:
        """MB of each folder of the home: at the end, and the most it ever was."""
        folders = {name for _, sizes in self.files for name in sizes}
        return {
            name: {
                "end": round(self.files[-1][1].get(name, 0) / 1e6, 1),
                "most": round(max(sizes.get(name, 0) for _, sizes in self.files) / 1e6, 1),
            }
            for name in sorted(folders)
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--rate", type=float, default=3000, help="events a second")
    parser.add_argument("--every", default="2m", help="between two batch runs")
    parser.add_argument("--kill-every", type=float, default=1.0, help="minutes between two kills; 0: none")
    parser.add_argument("--seed", type=int, default=1, help="of who is killed")
    parser.add_argument("--out", type=Path, help="a file for the samples, as JSON")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tideline-soak-"))
    site = Site(folder, args.rate, args.every, JAVA, SETTINGS)
    with site.running():
        soak = Soak(site, args.seed)
        soak.run(args.minutes, args.kill_every)
        late, asker, ledger = soak.late(), site.asker, site.ledger
        grown = {name: growth(samples) for name, samples in late.items()}
        result: dict[str, Any] = {
            "minutes": args.minutes,
            "records": ledger.committed.count_since(ledger.origin),
            "versions": ledger.version.id,
            "kills": len(soak.kills),
            "ended by themselves": len(soak.deaths),
            "answers": asker.answers,
            "wrong": len(asker.wrong),
            "memory, MB": {name: described(samples) for name, samples in late.items()},
            "files": soak.sizes(),
            "files but Kafka's and the master's, most": round(soak.others(), 1),
        }
        print(json.dumps(result, indent=1), flush=True)
        if args.out:
            memory = {name: [astuple(one) for one in samples] for name, samples in soak.memory.items()}
            samples = {"memory": memory, "samples of files": soak.files, "killed": soak.kills, "ended": soak.deaths}
            args.out.write_text(json.dumps({**result, **samples}), encoding="utf-8")
        with site.quiet():
            report = site.verify()
            found = [*asker.wrong[:10], *site.faults()]
    print(report.to_text())
    steady = all(one.is_steady for one in grown.values()) and soak.others() < FILES
    good = report.ok and asker.answers > 0 and not found and steady
    if good:
        shutil.rmtree(folder)
    else:
        print(*found, f"soak: the installation is kept in {folder}", sep="\n", file=sys.stderr)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
