"""Events folded by Arrow in Spark's Python workers, where they are read: what leaves a worker is groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from tideline.arrow_fold import ArrowFold
from tideline.arrow_terms import NotPlain
from tideline.collect import Tables, packed, unpacked
from tideline.fold_plan import FoldPlan

FEW = 400_000  # records that are read and folded in the driver: to start a job takes longer
_AT_ONCE = 64 << 20  # bytes of events, which a worker holds
_NOT_PLAIN = -1


def folds(plan: FoldPlan, events: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of events, with `_duplicate`, folded in tables of some size: rows of `collect.PACKED`."""
    fold = ArrowFold(plan)
    for table in gathered(events):
        try:
            yield packed(fold.fold(table))
        except NotPlain:
            yield packed({_NOT_PLAIN: table.slice(0, 0)})


def results(batches: Iterable[pa.RecordBatch]) -> list[Tables] | None:
    """What `folds` gave, wherever; None where events were not as plain as the plan."""
    found = [result for batch in batches for result in unpacked(batch)]
    return None if any(_NOT_PLAIN in result for result in found) else found


def gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The batches in tables of some size."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= _AT_ONCE:
            yield pa.Table.from_batches(held)
            held, size = [], 0
    if held:
        yield pa.Table.from_batches(held)
