"""Runs many seeds of the simulation, on every core: `scripts/simulate --seeds 10000`, `scripts/simulate --mutants`.

Prints how often each point was passed by a crash, and for a seed that fails the shortest schedule that still does; of
the planted faults, by which seed each is found.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product

from mutants import MUTANTS, first_seed
from sim_run import run, shorten

from tideline.points import POINTS, RECOVERY_POINTS

KINDS = ("kill", "power cut", "end")
ENOUGH, LEAST = 10_000, 20  # with so many seeds each pair of point and crash must have occurred so often


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000, help="how many, at most (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--mutants", action="store_true", help="by which of the seeds each planted fault is found")
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    logging.disable()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return _mutants(pool, seeds) if args.mutants else _seeds(pool, seeds)


def _mutants(pool: ProcessPoolExecutor, seeds: range) -> int:
    began = time.monotonic()
    found: list[int | None] = []
    for mutant, seed in zip(MUTANTS, pool.map(first_seed, MUTANTS, [seeds] * len(MUTANTS)), strict=True):
        found.append(seed)
        print(f"{mutant.name}: {seed}", file=sys.stderr, flush=True)
    rows = [
        (mutant.invariant, mutant.name, f"`{mutant.module.replace('.', '/')}.py`", "never" if seed is None else seed)
        for mutant, seed in sorted(zip(MUTANTS, found, strict=True), key=lambda pair: pair[0].invariant)
    ]
    print(_table(("invariant", "planted fault", "in", "found by seed"), rows))
    missed = found.count(None)
    print(f"{len(found)} planted faults in {time.monotonic() - began:.0f} s, {missed} not found")
    return int(bool(missed))


def _seeds(pool: ProcessPoolExecutor, seeds: range) -> int:
    began = time.monotonic()
    crashes: Counter[tuple[str, str]] = Counter()
    faults: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    failed: list[int] = []
    steps, hand_offs = [], []
    for seed, outcome in zip(seeds, pool.map(run, seeds, chunksize=20), strict=True):
        crashes += outcome.crashes
        faults[outcome.fault or "none"] += 1
        refused += outcome.refused
        steps.append(outcome.steps)
        hand_offs.append(outcome.hand_offs)
        if outcome.failure:
            failed.append(seed)
            print(f"seed {seed}: {outcome.failure}", flush=True)
    points = sorted({point for point, _ in crashes})
    rows = [(f"`{point}`", *(f"{crashes[point, kind]:,}" for kind in KINDS)) for point in points]
    print(_table(("crashes at", *KINDS), rows))
    print(_table(("fault outside that stood at the end", "seeds"), sorted(faults.items())))
    print(_table(("refused as", "times"), sorted(refused.items())))
    rarest = min((crashes[pair], *pair) for pair in product((*POINTS, *RECOVERY_POINTS), ("kill", "power cut")))
    print(
        f"{len(seeds):,} seeds in {time.monotonic() - began:.0f} s, {len(failed)} failed; median "
        f"{statistics.median(steps):.0f} steps and {statistics.median(hand_offs):.0f} hand-offs; the rarest crash is a "
        f"{rarest[2]} at {rarest[1]}, {rarest[0]} times"
    )
    if failed:
        schedule = shorten(run(failed[0]).schedule)
        print(
            f"seed {failed[0]}, as short as it gets ({len(schedule)} steps): {schedule}\n{run(None, schedule).failure}"
        )
    return int(bool(failed) or (len(seeds) >= ENOUGH and rarest[0] < LEAST))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """As Markdown."""
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
