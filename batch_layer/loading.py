"""What every builder of segments does: choosing those to merge, and loading the new one into the serving store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from tideline.definition import ViewDefinition
from tideline.ledger import Segment
from tideline.merge import Row, segment_items
from tideline.points import reach
from tideline.stores import Store
from tideline.stores.base import Item

LOAD_ROWS = 10_000  # rows of one write transaction: the speed layer's commits go between
MANY_SEGMENTS = 6  # a lookup touches no more, and the new one
FEW_ROWS = 20_000  # that are merged in a moment


def load_segment(store: Store, view: ViewDefinition, segment: Segment, states: Iterable[Row]) -> Segment:
    """Copies a segment's states into its space of the store, in short transactions; the segment with its rows."""
    items = segment_items(view, states)
    for chunk in _chunks(items, LOAD_ROWS):
        reach("segment.load")
        with store.write() as txn:
            txn.load(segment.space, chunk)
    reach("segment.done")
    return replace(segment, rows=len(items))


def to_merge(earlier: Sequence[Segment], rows: int, at_once: bool = True) -> list[Segment]:
    """The last segments that are small beside the new one: at least one once a view has many, before only a few rows.

    Those only where they are merged `at_once`, with no job of Spark's.
    """
    merged: list[Segment] = []
    total = rows
    many = len(earlier) >= MANY_SEGMENTS
    for segment in reversed(earlier):
        if segment.rows > 2 * total and (merged or not many):
            break
        if not many and (not at_once or total + segment.rows > FEW_ROWS):
            break
        merged.insert(0, segment)
        total += segment.rows
    return merged


def _chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`; one empty list where there are none, so that an empty segment exists too."""
    iterator = iter(items)
    yield list(islice(iterator, size))
    while chunk := list(islice(iterator, size)):
        yield chunk
