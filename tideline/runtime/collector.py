"""Python's collector of cycles, in processes that hold tens of thousands of plain values at a time."""

from __future__ import annotations

import gc
from functools import cache

_OBJECTS = 50_000


def collect_seldom() -> None:
    """Looks for cycles after 50,000 new objects instead of 700, and no more at what is there already.

    The states of a micro-batch are lists and tuples in no cycle. To go over them again and again took four fifths of
    the time in which they were made from Spark's rows (15,000 states: 4.2 us each, without it 0.6).
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS, 10, 10)


@cache
def collect_seldom_here() -> None:
    """The same in one of Spark's Python workers, at its first task, once its modules are there.

    PySpark's worker collects all garbage after each task. To go over what was imported took 0.2 s each time, in which
    the next task waits.
    """
    collect_seldom()
