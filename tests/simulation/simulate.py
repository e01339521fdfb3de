"""Runs many seeds of the simulation, on every core: `scripts/simulate --seeds 10000`.

Prints how often each point was passed by a crash, and for a seed that fails the shortest schedule that still does.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from sim_run import Outcome, run, shorten


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    logging.disable()
    began = time.monotonic()
    crashes: Counter[tuple[str, str]] = Counter()
    faults: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    outcomes: list[Outcome] = []
    failed: list[int] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for seed, outcome in zip(seeds, pool.map(run, seeds, chunksize=20), strict=True):
            outcomes.append(outcome)
            crashes += outcome.crashes
            faults[outcome.fault or "none"] += 1
            refused += outcome.refused
            if outcome.failure:
                failed.append(seed)
                print(f"seed {seed}: {outcome.failure}", flush=True)
    kinds = ("kill", "power cut", "end")
    print(f"{'crashes at':18}" + "".join(f"{kind:>12}" for kind in kinds))
    for point in sorted({point for point, _ in crashes}):
        print(f"{point:18}" + "".join(f"{crashes[point, kind]:12,}" for kind in kinds))
    for fault, count in sorted(faults.items()):
        print(f"{count:8,} with fault {fault}")
    for condition, count in sorted(refused.items()):
        print(f"{count:8,} refused as {condition}")
    steps = statistics.median(outcome.steps for outcome in outcomes)
    hand_offs = statistics.median(outcome.hand_offs for outcome in outcomes)
    seconds = time.monotonic() - began
    print(f"{len(outcomes):,} seeds in {seconds:.0f} s; median {steps:.0f} steps, {hand_offs:.0f} hand-offs")
    print(f"{len(failed)} failed")
    if failed:
        schedule = shorten(run(failed[0]).schedule)
        print(
            f"seed {failed[0]}, as short as it gets ({len(schedule)} steps): {schedule}\n{run(None, schedule).failure}"
        )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
