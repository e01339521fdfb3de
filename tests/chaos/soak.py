"""The whole under load for a long time, with a random kill every minute: `scripts/soak`.

3,000 events a second, a batch run every two minutes, somebody who asks all the time and adds up each answer. It ends in
`verify`, and says how fast the memory of each process grew and how large the files became.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from live_site import LAYERS, Site

from tideline.runtime.process import pause

SAMPLE = 5.0  # seconds
LATE = 20 * 60.0  # seconds at the end, over which growth is measured
GROWTH = 1.0  # MB a minute
KILLS = (*LAYERS, "kafka")
JAVA = "-XX:ReservedCodeCacheSize=240m"


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


def memory(site: Site) -> Iterator[tuple[str, int]]:
    """Each process of a site, such as `speed java`, and its bytes."""
    pids = {name: child.pid for name, child in site.children.items()} | {"kafka": site.broker.pid}
    for layer, pid in pids.items():
        try:
            for program, size in anonymous(pid or 0).items():
                yield f"{layer} {program}", size
        except (psutil.Error, OSError):  # it was killed in between
            continue


def files(site: Site) -> dict[str, int]:
    """Bytes under the home by its first folders."""
    sizes: dict[str, int] = {}
    for file in site.home.path.rglob("*"):
        try:
            if file.is_file():
                top = file.relative_to(site.home.path).parts[0]
                sizes[top] = sizes.get(top, 0) + file.stat().st_blocks * 512
        except OSError:  # removed in between
            continue
    return sizes


def slope(points: list[tuple[float, float]]) -> float:
    """The least-squares slope of (x, y) points."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


class Soak:
    """One soak: samples of memory and files, kills with the seconds each took to come back."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.dice = random.Random(seed)
        self.began = time.monotonic()
        self.memory: dict[str, list[tuple[float, float]]] = {}
        self.files: list[tuple[float, dict[str, int]]] = []
        self.kills: list[tuple[float, str]] = []

    @property
    def minute(self) -> float:
        return (time.monotonic() - self.began) / 60

    def sample(self) -> None:
        for name, size in memory(self.site):
            self.memory.setdefault(name, []).append((self.minute, size / 1e6))
        self.files.append((self.minute, files(self.site)))

    def kill(self) -> None:
        name = self.dice.choice(KILLS)
        self.kills.append((self.minute, name))
        if name == "kafka":
            self.site.restart_broker()
        else:
            self.site.stop(name)
            self.site.start(name)

    def run(self, minutes: float, kill_every: float) -> None:
        """Samples and kills until the time is over, then waits until everything sent is published."""
        next_kill = kill_every
        while self.minute < minutes:
            self.sample()
            if kill_every and self.minute >= next_kill:
                self.kill()
                next_kill += kill_every
            pause(SAMPLE)
        end = self.site.log_end()
        self.site.wait(lambda: self.site.ledger.version.cut.covers(end), "everything is published", 900)

    def growth(self) -> dict[str, dict[str, float]]:
        """MB a minute of each process over the last 20 minutes, with its least and most MB in them."""
        begin = self.minute - LATE / 60
        late = {name: [p for p in points if p[0] >= begin] for name, points in self.memory.items()}
        return {
            name: {
                "MB a minute": round(slope(points), 2),
                "least": round(min(size for _, size in points)),
                "most": round(max(size for _, size in points)),
            }
            for name, points in late.items()
            if len(points) > 10
        }

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
    site = Site(folder, args.rate, args.every, JAVA)
    with site.running():
        soak = Soak(site, args.seed)
        soak.run(args.minutes, args.kill_every)
        asker, report, ledger = site.asker, site.verify(), site.ledger
    growth = soak.growth()
    result: dict[str, Any] = {
        "minutes": args.minutes,
        "records": ledger.committed.count_since(ledger.origin),
        "versions": ledger.version.id,
        "kills": len(soak.kills),
        "answers": asker.answers,
        "wrong": len(asker.wrong),
        "verified": report.ok,
        "growth": growth,
        "files": soak.sizes(),
    }
    print(report.to_text())
    print(json.dumps(result, indent=1))
    if args.out:
        samples = {"memory": soak.memory, "files": soak.files, "kills": soak.kills}
        args.out.write_text(json.dumps({**result, **samples}), encoding="utf-8")
    good = report.ok and not asker.wrong and all(one["MB a minute"] < GROWTH for one in growth.values())
    if good:
        shutil.rmtree(folder)
    else:
        print("\n".join(asker.wrong[:10]), f"soak: the installation is kept in {folder}", sep="\n", file=sys.stderr)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
