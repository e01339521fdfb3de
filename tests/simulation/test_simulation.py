"""The layers' own code around a simulated broker, disk and store, with faults at every step: seeds, and planted faults.

`scripts/simulate` runs more seeds.
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant, first_seed, planted
from sim_run import Outcome, run, shorten

from tideline.points import POINTS, RECOVERY_POINTS

SEEDS = 250
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [run(seed) for seed in range(SEEDS)]


def test_every_answer_at_every_step_is_the_recompute(outcomes: list[Outcome]) -> None:
    for seed, outcome in enumerate(outcomes):
        if outcome.failure:
            schedule = shorten(outcome.schedule)
            pytest.fail(
                f"seed {seed}: {outcome.failure}\nas short as it gets: {schedule}\n{run(None, schedule).failure}"
            )


def test_schedules_are_long_and_end_processes_at_every_point(outcomes: list[Outcome]) -> None:
    assert statistics.median(outcome.steps for outcome in outcomes) >= 200
    assert statistics.median(outcome.hand_offs for outcome in outcomes) >= 3
    crashes = {pair for outcome in outcomes for pair in outcome.crashes}
    assert crashes >= {(point, crash) for point in POINTS for crash in ("kill", "power cut")}
    assert {point for point, _ in crashes} >= RECOVERY_POINTS.keys(), "rarer; `scripts/simulate` counts each pair"
    assert {outcome.fault for outcome in outcomes} >= {None, "recreated", "overtaken", "swapped"}
    assert any(outcome.refused["CHECKSUM"] for outcome in outcomes), "what was lost or swapped is found out"


def test_a_seed_is_the_same_schedule_each_time() -> None:
    first, again = run(3), run(3)
    assert (first.schedule, first.crashes, first.refused) == (again.schedule, again.crashes, again.refused)
    assert run(None, first.schedule).crashes == first.crashes


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_found(mutant: Mutant) -> None:
    assert first_seed(mutant, (mutant.seed, *range(1000))) is not None


def test_the_page_lists_every_planted_fault_as_found() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| \d+ \| ", line)]
    assert sorted(row[1] for row in rows) == sorted(mutant.name for mutant in MUTANTS)
    assert all(row[0] == str(mutant.invariant) for row in rows for mutant in MUTANTS if row[1] == mutant.name)
    assert all(int(row[3]) < 1000 for row in rows)


def test_each_invariant_has_two_planted_faults_or_more() -> None:
    planted_for = [mutant.invariant for mutant in MUTANTS]
    assert len(MUTANTS) >= 30
    assert all(planted_for.count(invariant) >= 2 for invariant in range(1, 13))


def test_a_failing_schedule_is_made_shorter() -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == "dead letters are not counted")
    with planted(mutant):
        failed = run(0)
        assert failed.failure
        schedule = shorten(failed.schedule)
        assert len(schedule) < len(failed.schedule) / 4
        assert run(None, schedule).failure
