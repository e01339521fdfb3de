"""Faults planted in the protocol, two or more for each invariant: every one must make the simulation fail.

A mutant is a piece of a module's text and what stands there instead. Chosen from the invariants, before it was known
which of them the simulation would find.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from mutants_of_cuts import OF_CUTS
from mutants_of_layers import OF_LAYERS
from planting import Mutant, in_place
from sim_run import run

MUTANTS = [*OF_CUTS, *OF_LAYERS]


def planted(mutant: Mutant) -> AbstractContextManager[None]:
    """A mutant, and those that it is planted with, while it is open."""
    return in_place([mutant, *(other for other in MUTANTS if other.name in mutant.without)])


def first_seed(mutant: Mutant, seeds: Iterable[int]) -> int | None:
    """The first of the seeds whose schedule fails with a mutant planted, and with none does not."""
    return next((seed for seed in seeds if _fails(mutant, seed) and not run(seed).failure), None)


def _fails(mutant: Mutant, seed: int) -> bool:
    with planted(mutant):
        return run(seed).failure is not None
