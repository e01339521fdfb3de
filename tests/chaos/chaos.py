"""Kills real processes at every named point under traffic, and verifies after each: `scripts/chaos`.

One installation lives through each run. For each point the process that stands there is started so that it kills
itself as it reaches it, then started again as a supervisor would. Every answer that somebody gets over HTTP meanwhile
must add up; all views are recomputed and compared while the process is dead and once it is back. Recovery is the time
from the start that follows until what had been sent when it died is committed (the speed layer, the broker), published
(the batch layer) or answered (the API). Each result is a line of JSON in `--out`; what it holds already is not done
again, so that a run can be broken off and resumed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from live_site import Site
from strikes import STRIKES, Strikes, victim

from tideline.errors import EXIT_OUTSIDE, TidelineError

RATE = 50  # events a second
EVERY = "30s"  # between the starts of two batch runs
TRIGGER = {"TIDELINE_SPEED_TRIGGER": "4s"}  # leaves the processor to what is being started


def main() -> int:
    args = _arguments()
    turn = args.first % len(args.only)
    names = (*args.only[turn:], *args.only[:turn])
    lines = args.out.read_text("utf-8").splitlines() if args.out and args.out.exists() else []
    results = [json.loads(line) for line in lines]
    done = {(result["run"], result["point"]) for result in results}
    deadline = time.monotonic() + args.minutes * 60
    for run in range(args.runs):
        wanted = [name for name in names if (run, name) not in done]
        if not wanted or time.monotonic() > deadline:
            continue
        folder = Path(tempfile.mkdtemp(prefix="tideline-chaos-"))
        before = len(results)
        try:
            for result in _run(run, wanted, folder, deadline):
                results.append(result)
                print(json.dumps(result), flush=True)
                if args.out:
                    with args.out.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(result) + "\n")
        except (TimeoutError, RuntimeError, TidelineError) as error:
            print(f"chaos: {error}; the installation is kept in {folder}", file=sys.stderr)
            return 1
        if not any(result["wrong"] for result in results[before:]):
            shutil.rmtree(folder)
    print(table(results))
    return int(not results or any(result["wrong"] for result in results))


def _run(run: int, names: list[str], folder: Path, deadline: float) -> Iterator[dict[str, Any]]:
    """The strikes of one run, each on the same installation, as long as there is time."""
    site = Site(folder, RATE, EVERY, settings=TRIGGER)
    strikes = Strikes(site)
    with site.running():
        for name in names:
            if time.monotonic() > deadline:
                break
            yield {"run": run, "point": name, "process": victim(name), **_strike(strikes, name, f"{run} {name}")}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1, help="how often each point is struck (default: 1)")
    parser.add_argument("--only", nargs="+", default=list(STRIKES), help=f"some of: {', '.join(STRIKES)}")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no other point after so many minutes")
    parser.add_argument("--first", type=int, default=0, help="begin with the point of this number, for parts in turn")
    parser.add_argument("--out", type=Path, help="the file of results, to be continued")
    args = parser.parse_args()
    if unknown := set(args.only) - set(STRIKES):
        parser.error(f"no such points: {sorted(unknown)}; known: {', '.join(STRIKES)}")
    return args


def _strike(strikes: Strikes, name: str, seed: str) -> dict[str, Any]:
    """One strike: seconds to recover, answers that were asked for meanwhile, and what was wrong."""
    site = strikes.site
    # Without a broker the speed layer may end with exit code 3, and a supervisor starts it again.
    found = [f"{layer} ended with exit code {code}" for layer, code in site.supervise().items() if code != EXIT_OUTSIDE]
    before = site.asker.answers
    seconds = strikes.strike(name, random.Random(seed))
    site.wait(lambda: site.asker.answers > before, "somebody is answered")
    found += [*site.asker.news(), *site.faults(), *(report.to_text() for report in strikes.reports if not report.ok)]
    print("".join(f"{name}: {one}\n" for one in found), file=sys.stderr, end="")
    values = sum(view.values for report in strikes.reports for view in report.views)
    answers = site.asker.answers - before
    return {"seconds": round(seconds, 1), "answers": answers, "compared": values, "wrong": len(found)}


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown, a line for each point."""
    head = ("point", "process", "runs", "recovery, s: least, median, most", "answers", "values compared", "wrong")
    rows = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for point in dict.fromkeys(result["point"] for result in results):
        found = [result for result in results if result["point"] == point]
        times = [result["seconds"] for result in found]
        spread = f"{min(times)}, {statistics.median(times)}, {max(times)}"
        answers, compared, wrong = (sum(r[name] for r in found) for name in ("answers", "compared", "wrong"))
        row = (f"`{point}`", found[0]["process"], len(found), spread, answers, compared, wrong)
        rows.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
