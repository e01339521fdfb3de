"""How fast Tideline is beside what a user would pick instead: `scripts/bench [PART ...]`.

Each part is measured in one run, contestants in turn; in `drain` every answer is checked before its time counts, in the
others not yet. What was measured is kept, so that a part that was broken off goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import drain
import freshness
import lookups
import many_views
import recompute
from figures import Runs, save

PARTS = ("drain", "freshness", "many-views", "recompute", "lookups")
ROOT = Path(__file__).resolve().parents[2]


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
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"which of: {', '.join(PARTS)}")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="of Tideline, what it is measured by and the best peers")
    parser.add_argument("--others", type=int, default=1, help="rounds of the other peers")
    parser.add_argument("--seconds", type=float, default=120.0, help="of measuring freshness, after as long to warm up")
    parser.add_argument("--warm", type=float, default=90.0)
    parser.add_argument("--rates", type=int, nargs="*", default=freshness.RATES, help="events a second")
    parser.add_argument("--millions", type=int, nargs="*", default=recompute.MILLIONS, help="events to recompute")
    parser.add_argument("--keys", type=int, nargs="*", default=lookups.KEYS, help="keys to look up")
    parser.add_argument("--only", nargs="*", default=(), help="contestants, by name")
    parser.add_argument("--runs", type=Path, default=ROOT / "bench-runs.jsonl", help="what was measured so far")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.json")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    runs = Runs(args.runs)
    for part in args.parts:
        if part == "drain":
            drain.run(runs, args.events, args.rounds, args.others, args.only)
            save(args.out, drain.figures(runs), machine(), [part])
        if part == "freshness":
            freshness.run(runs, args.rounds, args.seconds, args.warm, tuple(args.rates))
            save(args.out, freshness.figures(runs), machine(), [part])
        if part == "many-views":
            many_views.run(runs, args.rounds)
            save(args.out, many_views.figures(runs), machine(), [many_views.PART])
        if part == "recompute":
            recompute.run(runs, args.rounds, tuple(args.millions))
            save(args.out, recompute.figures(runs), machine(), [part])
        if part == "lookups":
            lookups.run(runs, args.rounds, args.seconds / 6, tuple(args.keys))
            save(args.out, lookups.figures(runs), machine(), [part])
    return 0


if __name__ == "__main__":
    sys.exit(main())
