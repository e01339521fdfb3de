"""Walking sorted spaces together: what they hold of each key and bucket, merged, a block of rows at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from operator import itemgetter
from typing import Any, TypeVar

from tideline.codec import unpack_rows
from tideline.stores.base import Item

_FIRST, _MOST = 64, 4_096  # items that are taken from a space at once; a short range reads no more than it needs
States = Sequence[Any]
StatesMerger = Callable[[States, States], list[Any]]
Stored = list[Any]
"""Key, bucket and states of a row, as they are kept."""
T = TypeVar("T")
_name: Callable[[Any], bytes] = itemgetter(0)


@dataclass(frozen=True, slots=True)
class MergedRow:
    """A view's states for one key and bucket: batch side, speed side, both; None where a side is empty."""

    key: tuple[Any, ...]
    bucket: int | None
    batch: States | None
    speed: States | None
    merged: States


@dataclass(frozen=True, slots=True)
class Block:
    """Merged rows by the column, in the order of their encoded keys."""

    keys: Sequence[tuple[Any, ...]]
    buckets: Sequence[int | None]
    batch: Sequence[States | None]
    speed: Sequence[States | None]
    merged: Sequence[States]

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self) -> Iterator[MergedRow]:
        """Row by row."""
        return map(MergedRow, self.keys, self.buckets, self.batch, self.speed, self.merged)

    def where(self, kept: Sequence[bool]) -> Block:
        """The rows for which `kept` holds."""
        if all(kept):
            return self

        def those(column: Sequence[T]) -> list[T]:
            return list(compress(column, kept))

        return Block(those(self.keys), those(self.buckets), those(self.batch), those(self.speed), those(self.merged))


def walk(scans: Sequence[Iterator[Item]], batch: int, merge: StatesMerger) -> Iterator[Block]:
    """The rows of spaces in log order, of which the first `batch` are the batch side."""
    size = _FIRST
    held = [list(islice(scan, size)) for scan in scans]
    ended = [len(items) < size for items in held]
    while any(held):
        # Up to here every space has been read.
        bound = min((items[-1][0] for items, end in zip(held, ended, strict=True) if not end), default=None)
        found = []
        for index, items in enumerate(held):
            count = len(items) if bound is None else bisect_right(items, bound, key=_name)
            if count:
                found.append((index, items[:count]))
                held[index] = items[count:]
        yield block(found, batch, merge)
        size = min(4 * size, _MOST)
        for index, scan in enumerate(scans):
            if not ended[index]:
                wanted = size - len(held[index])
                more = list(islice(scan, wanted))
                ended[index] = len(more) < wanted
                held[index] += more


def block(found: Sequence[tuple[int, Sequence[Item]]], batch: int, merge: StatesMerger) -> Block:
    """The rows of what spaces hold of some keys, each given as its index and its items in their order."""
    if len(found) == 1:
        ((index, items),) = found
        return _one_side(unpack_rows([value for _, value in items]), index < batch)
    settled = _joined([items for index, items in found if index < batch], merge)
    fresh = _joined([items for index, items in found if index >= batch], merge)
    if not settled or not fresh:
        return _one_side([row for _, row in settled or fresh], bool(settled))
    old, new = dict(settled), dict(fresh)
    both = old.keys() & new.keys()
    rows = sorted({**old, **new}.items(), key=_name) if len(both) < len(old) or len(both) < len(new) else settled
    left, right = [old.get(name) for name, _ in rows], [new.get(name) for name, _ in rows]
    return Block(
        [tuple(row[0]) for _, row in rows],
        [row[1] for _, row in rows],
        [row and row[2] for row in left],
        [row and row[2] for row in right],
        [_both(one, other, merge) for one, other in zip(left, right, strict=True)],
    )


def _one_side(rows: Sequence[Stored], is_batch: bool) -> Block:
    states, nothing = [row[2] for row in rows], [None] * len(rows)
    left, right = (states, nothing) if is_batch else (nothing, states)
    return Block([tuple(row[0]) for row in rows], [row[1] for row in rows], left, right, states)


def _joined(sides: Sequence[Sequence[Item]], merge: StatesMerger) -> list[tuple[bytes, Stored]]:
    """The rows of spaces on one side with their encoded keys, in their order, those of one key merged in log order."""
    joined: dict[bytes, Stored] = {}
    for items in sides:
        rows = dict(zip(map(_name, items), unpack_rows([value for _, value in items]), strict=True))
        if not joined:
            joined = rows
            continue
        for name in joined.keys() & rows.keys():
            known = joined[name]
            known[2] = merge(known[2], rows.pop(name)[2])
        joined.update(rows)
    return list(joined.items()) if len(sides) < 2 else sorted(joined.items(), key=_name)


def _both(settled: Stored | None, fresh: Stored | None, merge: StatesMerger) -> Any:
    if settled and fresh:
        return merge(settled[2], fresh[2])
    found = settled or fresh
    return found[2] if found else ()
