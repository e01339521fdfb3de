"""How fast Tideline is beside what a user would pick instead: `scripts/bench [PART ...]`.

Each part is measured in one run, contestants in turn, and a time counts once its answers are right. What was measured
is kept, so that a part that was broken off goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cost
import drain
import freshness
import hand_off
import live
import lookups
import many_views
import plots
import recompute
import report
import workloads
from figures import Figure, Runs, save


@dataclass(frozen=True)
class Part:
    """What measures a part, what is not yet measured of it; what makes figures of it; and how many rounds of it end
    within 25 minutes."""

    run: Callable[[Runs, Namespace, int], None]
    figures: Callable[[Runs], list[Figure]]
    rounds: int


PARTS = {
    drain.PART: Part(lambda runs, a, n: drain.run(runs, a.events, n, a.others, a.only), drain.figures, 5),
    freshness.PART: Part(
        lambda runs, a, n: freshness.run(runs, n, a.seconds, a.warm, tuple(a.rates)), freshness.figures, 3
    ),
    many_views.PART: Part(lambda runs, a, n: many_views.run(runs, n), many_views.figures, 5),
    recompute.PART: Part(lambda runs, a, n: recompute.run(runs, n, tuple(a.millions)), recompute.figures, 5),
    hand_off.PART: Part(lambda runs, a, n: hand_off.run(runs, n), hand_off.figures, 3),
    lookups.PART: Part(lambda runs, a, n: lookups.run(runs, n, a.seconds * 2 / 3, tuple(a.keys)), lookups.figures, 3),
    live.PART: Part(lambda runs, a, n: live.run(runs, n, a.seconds / 2), live.figures, 3),
    cost.PART: Part(lambda runs, a, n: cost.run(runs, n), cost.figures, 2),
    workloads.PART: Part(lambda runs, a, n: workloads.run(runs, a.events // 2, n), workloads.figures, 3),
}
ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "benchmarks.json"


def machine() -> dict[str, Any]:
    """Where it was measured."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("pyspark", "delta-spark", "pyarrow", "lmdb")
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"which of: {', '.join(PARTS)}")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, help="of Tideline, what it is measured by and the best peers")
    parser.add_argument("--others", type=int, default=1, help="rounds of the other peers")
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring freshness")
    parser.add_argument("--warm", type=float, default=60.0, help="seconds before that")
    parser.add_argument("--rates", type=int, nargs="*", default=freshness.RATES, help="events a second")
    parser.add_argument("--millions", type=int, nargs="*", default=recompute.MILLIONS, help="events to recompute")
    parser.add_argument("--keys", type=int, nargs="*", default=lookups.KEYS, help="keys to look up")
    parser.add_argument("--only", nargs="*", default=(), help="contestants, by name")
    parser.add_argument("--runs", type=Path, default=ROOT / "bench-runs.jsonl", help="what was measured so far")
    parser.add_argument("--out", type=Path, default=FIGURES)
    args = parser.parse_args()
    if unknown := [name for name in args.parts if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    runs = Runs(args.runs)
    for name in args.parts:
        PARTS[name].run(runs, args, args.rounds or PARTS[name].rounds)
        save(args.out, PARTS[name].figures(runs), machine(), [name])
    page = args.out.with_suffix(".md")
    if page.exists():
        report.write(page, args.out, plots.write(page.parent, runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
