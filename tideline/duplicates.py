"""Finding repeated event ids (invariant 11), in numpy and in bounded memory.

An event is a duplicate iff its id occurs at an offset in [its own - horizon, its own) of its partition,
whether or not that occurrence counted. Ids are 128-bit hashes. For each partition the index keeps sorted
runs of them with the offset of each id's latest occurrence, newest run last; a run is merged into its elder
as soon as it is half as large, so n ids stand in about log2(n) runs, and adding one costs O(log n).

Cost: 24 bytes an id. What lies beyond the horizon goes once it is an eighth of it, so a partition keeps at most
9/8 * horizon ids (27 MB for a million), and as much again while two runs are being merged. Measured on
one core while three million ids went through a horizon of one: 0.10 us an id to flag and 0.15 us to add in batches
of 50,000, 0.44 us and 0.26 us in batches of 500.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Kind = Literal["stable"] | None
"""Of a sort; that of none is the fastest for what is in no order."""
Ids = tuple[int, Offsets, Hashes]
"""A partition, the ascending offsets of events in it, and their hashes of shape (n, 2)."""

_MANY = 50_000  # ids
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class _Run:
    """Ids in ascending order of (high, low), each once, with the offset of its latest occurrence."""

    high: Hashes
    low: Hashes
    last: Offsets

    @cached_property
    def newest(self) -> int:
        return int(self.last.max())

    @cached_property
    def oldest(self) -> int:
        return int(self.last.min())

    def since(self, offset: int) -> _Run:
        """What occurred at this offset or after it."""
        keep = self.last >= offset
        return _Run(self.high[keep], self.low[keep], self.last[keep])

    def __len__(self) -> int:
        return len(self.high)

    def find(self, high: Hashes, low: Hashes) -> Offsets:
        """The offset at which each id occurred last, or the lowest integer where it did not."""
        found = np.full(len(high), _NEVER, np.int64)
        place = np.searchsorted(self.high, high)
        open_ = np.flatnonzero(place < len(self))
        while len(open_):  # one round, unless different ids agree in their first 64 bits
            open_ = open_[self.high[place[open_]] == high[open_]]
            at = place[open_]
            hit = self.low[at] == low[open_]
            found[open_[hit]] = self.last[at[hit]]
            open_ = open_[~hit]
            place[open_] += 1
            open_ = open_[place[open_] < len(self)]
        return found


def _in_order(high: Hashes, low: Hashes, kind: Kind) -> tuple[Offsets, Flags]:
    """The places of these ids in ascending order of (high, low, place), and which of them repeat the one before."""
    order = np.argsort(high, kind=kind)
    tied = high[order[1:]] == high[order[:-1]]
    if not tied.any():
        return order, np.zeros(len(order), np.bool_)
    tied = np.append(False, tied)
    among = np.flatnonzero(tied | np.append(tied[1:], False))
    places = order[among]
    order[among] = places[np.lexsort((places, low[places], high[places]))]
    return order, tied & np.append(False, low[order[1:]] == low[order[:-1]])


def _sorted_run(high: Hashes, low: Hashes, last: Offsets, kind: Kind = None) -> _Run:
    """A run of these occurrences, of which equal ids stand in ascending order of offset."""
    order, again = _in_order(high, low, kind)
    keep = order[np.append(~again[1:], True)] if again.any() else order
    return _Run(high[keep], low[keep], last[keep])


class DuplicateIndex:
    """Remembers the event ids of the last `horizon` offsets of each partition.

    Several threads may use it at a time, each for partitions of its own.
    """

    def __init__(self, horizon: int) -> None:
        if horizon < 0:
            raise ValueError(f"horizon must be 0 or more, not {horizon}")
        self.horizon = horizon
        self._runs: dict[int, list[_Run]] = {}

    def __len__(self) -> int:
        """How many ids it holds, those beyond the horizon that were not merged away yet included."""
        return sum(len(run) for runs in self._runs.values() for run in runs)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        runs = (run for runs in self._runs.values() for run in runs)
        return sum(run.high.nbytes + run.low.nbytes + run.last.nbytes for run in runs)

    def flag(self, offsets: Offsets, hashes: Hashes, partition: int) -> Flags:
        """Which of these events are duplicates; changes nothing.

        `offsets`, shape (n,), ascend and lie after every offset added to the partition; `hashes` have
        shape (n, 2).
        """
        high, low = hashes[:, 0], hashes[:, 1]
        if not self.horizon or not len(offsets):
            return np.zeros(len(offsets), np.bool_)
        order, again = _in_order(high, low, None)
        high, low, at = high[order], low[order], offsets[order]
        before = np.where(again, np.roll(at, 1), _NEVER)
        first = np.flatnonzero(~again)
        for run in self._runs.get(partition, ()):
            before[first] = np.maximum(before[first], run.find(high[first], low[first]))
        flags = np.empty(len(order), np.bool_)
        flags[order] = before >= at - self.horizon
        return flags

    def add(self, partition: int, offsets: Offsets, hashes: Hashes) -> None:
        """Remember these occurrences, duplicates among them too; once their commit has succeeded."""
        if not self.horizon or not len(offsets):
            return
        runs = self._runs.setdefault(partition, [])
        runs.append(_sorted_run(hashes[:, 0], hashes[:, 1], np.asarray(offsets, np.int64)))
        # An event to come has at least the offset newest + 1.
        oldest = runs[-1].newest + 1 - self.horizon
        surplus = self.horizon // 8
        kept = (run for run in runs if run.newest >= oldest)
        runs[:] = [run.since(oldest) if run.oldest < oldest - surplus else run for run in kept]
        while len(runs) > 1 and len(runs[-2]) <= 2 * len(runs[-1]):
            runs[-2:] = [_merge(runs[-2], runs[-1], oldest)]

    def clear(self, partition: int | None = None) -> None:
        """Forget one partition, or all of them."""
        if partition is None:
            self._runs.clear()
        else:
            self._runs.pop(partition, None)


class RecentIds:
    """An index, and the ids of the events in hand that it takes in once they are committed."""

    def __init__(self, horizon: int) -> None:
        self.index = DuplicateIndex(horizon)
        self._pending: list[Ids] = []

    def load(self, ids: Iterable[Ids]) -> None:
        """Takes in events that are committed already."""

        def add(of_one: Ids) -> None:
            partition, offsets, hashes = of_one
            self.index.add(partition, offsets, hashes)

        _of_each(add, list(ids))

    def flag(self, ids: Iterable[Ids]) -> list[tuple[int, Offsets]]:
        """The offsets of the duplicates by partition; these events are the ones in hand from here on."""

        def flagged(of_one: Ids) -> tuple[int, Offsets]:
            partition, offsets, hashes = of_one
            return partition, offsets[self.index.flag(offsets, hashes, partition)]

        self._pending = list(ids)
        return _of_each(flagged, self._pending)

    def committed(self) -> None:
        """The events in hand are committed: they count from now on."""
        self.load(self._pending)
        self._pending = []


def _of_each(act: Callable[[Ids], T], ids: Sequence[Ids]) -> list[T]:
    """For partitions with many ids in two threads: numpy lets others run meanwhile, and no two share an index."""
    if len({partition for partition, _, _ in ids}) < len(ids) or sum(len(one) for _, one, _ in ids) < _MANY:
        return [act(of_one) for of_one in ids]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(act, ids))


def _merge(elder: _Run, younger: _Run, oldest: int) -> _Run:
    kept = elder.since(oldest)
    return _sorted_run(
        np.concatenate([kept.high, younger.high]),
        np.concatenate([kept.low, younger.low]),
        np.concatenate([kept.last, younger.last]),
        "stable",  # linear for two sorted stretches
    )
