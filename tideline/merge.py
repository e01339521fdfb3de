"""The merge: batch segments and generations of a view, folded into one row per key and bucket.

1. The snapshot's ledger names the view's spaces: the last version's segments, which tile [origin, its cut),
   and every generation, which tile [its cut, committed).
2. Each space is sorted by the same key, so that a walk over all of them meets the states of one row together.
3. States merge in log order. Nothing is read but what the ledger names, and what it names must be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tideline.codec import pack_rows, unpack_row, unpack_rows
from tideline.errors import MissingSegmentError
from tideline.keys import encode_keys, key_encoder
from tideline.ledger import Ledger, Version
from tideline.stores.base import Item, Snapshot, WriteTransaction
from tideline.types import Column
from tideline.walk import Block, MergedRow, StatesMerger, block, walk

_AT_ONCE = 4_096  # rows that are merged together
Row = tuple[Sequence[Any], "int | None", Sequence[Any]]
"""(key, bucket, states): wire values, microseconds or None, a state per measure."""


class MergeableView(Protocol):
    """What the merge needs of a `ViewDefinition`."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def key(self) -> tuple[Column, ...]: ...
    @property
    def measures(self) -> Mapping[str, Any]: ...


def view_spaces(ledger: Ledger, fingerprint: str, version: int | None = None) -> tuple[list[str], list[str]]:
    """(batch spaces, speed spaces) that a view's answer is made of, each in log order.

    With `version`, that version's segments alone. Raises MissingSegmentError where a generation or a
    version lacks the view over a range that holds events (invariant 7), UsageError for a version that is
    not retained.
    """
    found = ledger.version if version is None else ledger.find_version(version)
    batch = _version_spaces(ledger, found, fingerprint)
    if version is not None:
        return batch, []
    topic = [ledger.topic_of(fingerprint)]
    speed = []
    for generation in ledger.generations:
        if fingerprint in generation.definitions:
            speed.append(generation.space(fingerprint))
            continue
        begin, end = generation.begin.restrict(topic), (generation.end or ledger.committed).restrict(topic)
        if begin != end:
            raise MissingSegmentError(
                "GENERATION_LACKS_VIEW",
                generation=generation.id,
                fingerprint=fingerprint,
                begin=str(begin),
                end=str(end),
            )
    return batch, speed


def _version_spaces(ledger: Ledger, version: Version, fingerprint: str) -> list[str]:
    if fingerprint in version.views:
        return [ledger.segments[id].space for id in version.views[fingerprint]]
    topic = [ledger.topic_of(fingerprint)]
    if version.cut.restrict(topic) != ledger.origin.restrict(topic):
        raise MissingSegmentError("VIEW_NOT_IN_VERSION", version=version.id, fingerprint=fingerprint)
    return []


class MergedView:
    """A view at a ledger, or in one of its versions: the spaces that its rows are merged from, and how.

    Raises MissingSegmentError and UsageError as `view_spaces` does.
    """

    def __init__(self, ledger: Ledger, view: MergeableView, version: int | None = None) -> None:
        batch, speed = view_spaces(ledger, view.fingerprint, version)
        self._spaces, self._batch = (*batch, *speed), len(batch)
        self._floor = (ledger.version if version is None else ledger.find_version(version)).floors.get(view.fingerprint)
        self._encode = key_encoder(tuple(column.type for column in view.key))
        self._merge = merger(view)

    def get(self, snapshot: Snapshot, key: Sequence[Any], bucket: int | None = None) -> MergedRow | None:
        """The row of one key and bucket; None where no event counts or the bucket lies before the floor.

        `snapshot` is one of this ledger.
        """
        if bucket is not None and self._floor is not None and bucket < self._floor:
            return None
        name = self._encode(key, bucket)
        found = []
        for index, space in enumerate(self._spaces):
            value = snapshot.get(space, name)
            if value is not None:
                found.append((index, value))
        return _merge_values(found, self._batch, self._merge) if found else None

    def get_many(self, snapshot: Snapshot, keys: Iterable[Sequence[Any]], bucket: int | None = None) -> Iterator[Block]:
        """The rows of these keys and one bucket, in the order of the encoded keys, each once."""
        if bucket is not None and self._floor is not None and bucket < self._floor:
            return
        names = sorted({self._encode(key, bucket) for key in keys})
        sides = [snapshot.get_many(space, names) for space in self._spaces]
        found = [(index, [(name, side[name]) for name in names if name in side]) for index, side in enumerate(sides)]
        if any(sides):
            yield block([(index, items) for index, items in found if items], self._batch, self._merge)

    def scan(self, snapshot: Snapshot, lower: bytes | None = None, upper: bytes | None = None) -> Iterator[Block]:
        """The rows with lower <= encoded key < upper, in the order of the keys; see `keys.key_range`."""
        scans = [snapshot.scan(space, lower, upper) for space in self._spaces]
        return _blocks(scans, self._batch, self._floor, self._merge)

    def settled(self, snapshot: Snapshot) -> Iterator[Block]:
        """The rows of the batch side alone, in the order of the keys."""
        scans = [snapshot.scan(space) for space in self._spaces[: self._batch]]
        return _blocks(scans, self._batch, self._floor, self._merge)

    def fresh(self, snapshot: Snapshot) -> Iterator[Block]:
        """The rows of which the speed side has something, both sides merged; in the order of the keys."""
        batch, speed = self._spaces[: self._batch], self._spaces[self._batch :]
        touched = [dict(snapshot.scan(space)) for space in speed]
        names = sorted({name for items in touched for name in items})
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            sides = [*(snapshot.get_many(space, some) for space in batch), *touched]
            found = [(index, [(name, side[name]) for name in some if name in side]) for index, side in enumerate(sides)]
            yield _above(block([(i, items) for i, items in found if items], self._batch, self._merge), self._floor)


def get_row(
    snapshot: Snapshot,
    view: MergeableView,
    key: Sequence[Any],
    bucket: int | None = None,
    version: int | None = None,
) -> MergedRow | None:
    """One row of a view; see `MergedView.get`."""
    return MergedView(snapshot.ledger, view, version).get(snapshot, key, bucket)


def scan_rows(
    snapshot: Snapshot,
    view: MergeableView,
    lower: bytes | None = None,
    upper: bytes | None = None,
    version: int | None = None,
) -> Iterator[MergedRow]:
    """The rows of a view, one by one; see `MergedView.scan`."""
    return _rows(MergedView(snapshot.ledger, view, version).scan(snapshot, lower, upper))


def scan_spaces(
    snapshot: Snapshot, view: MergeableView, spaces: Sequence[str], floor: int | None = None
) -> Iterator[MergedRow]:
    """The rows of these spaces of a view, which join on to each other, as one side; in the order of the keys."""
    return _rows(_blocks([snapshot.scan(space) for space in spaces], len(spaces), floor, merger(view)))


def _rows(blocks: Iterable[Block]) -> Iterator[MergedRow]:
    for found in blocks:
        yield from found.rows()


def _blocks(scans: Sequence[Iterator[Item]], batch: int, floor: int | None, merge: StatesMerger) -> Iterator[Block]:
    for found in walk(scans, batch, merge):
        yield _above(found, floor)


def _above(found: Block, floor: int | None) -> Block:
    """The rows that retention has not reached."""
    return found if floor is None else found.where([bucket is None or bucket >= floor for bucket in found.buckets])


def merger(view: MergeableView) -> StatesMerger:
    """Merges two lists of a view's states, measure by measure; neither is changed."""
    match [measure.merge for measure in view.measures.values()]:
        case [one]:
            return lambda left, right: [one(left[0], right[0])]
        case [one, two]:
            return lambda left, right: [one(left[0], right[0]), two(left[1], right[1])]
        case merges:
            return lambda left, right: [merge(a, b) for merge, a, b in zip(merges, left, right, strict=True)]


def _merge_values(found: Sequence[tuple[int, bytes]], batch: int, merge: StatesMerger) -> MergedRow:
    sides: list[list[Any] | None] = [None, None]
    for index, value in found:
        key, bucket, states = unpack_row(value)
        side = 0 if index < batch else 1
        current = sides[side]
        sides[side] = states if current is None else merge(current, states)
    settled, fresh = sides
    both = settled if fresh is None else fresh if settled is None else merge(settled, fresh)
    return MergedRow(key, bucket, settled, fresh, both or [])


def merge_into(txn: WriteTransaction, space: str, view: MergeableView, rows: Iterable[Row]) -> int:
    """Merges a micro-batch's states into a generation's space; returns how many rows it touched.

    `rows` may come in any order and repeat a key. Keys are read and written in their order, for locality.
    """
    merge = merger(view)
    fresh = _by_name(view, list(rows), merge)
    names = sorted(fresh)
    stored = txn.get_many(space, names)
    for name, (_, _, states) in zip(stored, unpack_rows(stored.values()), strict=True):
        key, bucket, more = fresh[name]
        fresh[name] = key, bucket, merge(states, more)
    txn.put_many(space, zip(names, pack_rows(map(fresh.__getitem__, names)), strict=True))
    return len(names)


def _by_name(view: MergeableView, rows: Sequence[Row], merge: StatesMerger) -> dict[bytes, Row]:
    """Rows by their encoded keys, those of one key merged."""
    names = _names(view, rows)
    found = dict(zip(names, rows, strict=True))
    if len(found) == len(rows):
        return found
    found = {}
    for name, row in zip(names, rows, strict=True):
        seen = found.get(name)
        found[name] = row if seen is None else (row[0], row[1], merge(seen[2], row[2]))
    return found


def _names(view: MergeableView, rows: Sequence[Row]) -> list[bytes]:
    return encode_keys([column.type for column in view.key], [row[0] for row in rows], [row[1] for row in rows])


def segment_items(view: MergeableView, rows: Iterable[Row]) -> list[Item]:
    """A batch segment's rows, each key once, as `WriteTransaction.load` takes them: encoded and sorted."""
    found = list(rows)
    return sorted(zip(_names(view, found), pack_rows(found), strict=True))
