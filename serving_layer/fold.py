"""From a snapshot to groups of merged states: the rows of a plan, folded by group key and window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from serving_layer.plan import Plan
from tideline.keys import encode_key, key_range
from tideline.merge import MergedView
from tideline.stores.base import Item, Snapshot
from tideline.walk import Block

States = Sequence[Any]
T = TypeVar("T")
Merge = Callable[[States, States], list[Any]]
Side = Sequence[States | None]


@dataclass(frozen=True, slots=True)
class Groups:
    """The rows of an answer before they are presented, by the column.

    `keys` holds the wire values of each group's key columns, `windows` the starts in microseconds, the rest a state for
    each of the view's measures, or of the plan's slots where it does not keep rows as they are stored. `batch` and
    `speed` are None for a group where that side has nothing; where the plan asks for no parts they mean nothing.
    """

    keys: Sequence[tuple[Any, ...]]
    windows: Sequence[int | None]
    merged: Sequence[States]
    batch: Side = ()
    speed: Side = ()

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, places: Sequence[int]) -> Groups:
        """The groups at these places."""

        def those(column: Sequence[T]) -> list[T]:
            return [column[place] for place in places] if column else []

        return Groups(those(self.keys), those(self.windows), those(self.merged), those(self.batch), those(self.speed))


class _Pile:
    """States to be merged, equals with equals: a large map or sketch is copied log n times, not n times."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: list[States | None] = []

    def add(self, states: States, merge: Merge) -> None:
        for level, waiting in enumerate(self._levels):
            if waiting is None:
                self._levels[level] = states
                return
            states = merge(waiting, states)
            self._levels[level] = None
        self._levels.append(states)

    def total(self, merge: Merge) -> States | None:
        total: States | None = None
        for waiting in self._levels:
            if waiting is not None:
                total = waiting if total is None else merge(waiting, total)
        return total


def collect(snapshot: Snapshot, plan: Plan, merged: MergedView, keys: Sequence[Sequence[Any]]) -> Groups:
    """The groups of a plan, in the order of their keys and windows, before its order and limits.

    `merged` is the plan's view at the snapshot's ledger, `keys` are the values that its filtered key columns may have.
    """
    if not plan.is_lookup:
        blocks = _in_range(snapshot, plan, merged, keys)
    elif len(keys) == 1:
        row = merged.get(snapshot, keys[0], plan.windows.start)
        blocks = iter(() if row is None else (Block([row.key], [row.bucket], [row.batch], [row.speed], [row.merged]),))
    else:
        blocks = merged.get_many(snapshot, keys, plan.windows.start)
    return _as_stored(blocks, plan) if plan.keeps_rows else _folded(blocks, plan)


def _in_range(snapshot: Snapshot, plan: Plan, merged: MergedView, keys: Sequence[Sequence[Any]]) -> Iterator[Block]:
    """The stored rows that matter: one range of a key, or what is wanted of one prefix, or of all."""
    if not keys:
        return iter(())
    types = [column.type for column in plan.view.key]
    prefix, start, end = keys[0][: plan.depth], plan.windows.start, plan.windows.end
    if len(prefix) == len(types):
        return merged.scan(snapshot, *key_range(types, prefix, start, end))
    if start is not None or end is not None:
        snapshot = _BucketsOnly(snapshot, start, end)
    blocks = merged.scan(snapshot, *key_range(types, prefix))
    return _wanted(blocks, plan, keys) if plan.filtered else blocks


class _BucketsOnly:
    """A snapshot whose scans show only the keys of buckets in [start, end), told by their last eight bytes.

    So a time range over many keys unpacks and merges nothing that it does not answer.
    """

    def __init__(self, snapshot: Snapshot, start: int | None, end: int | None) -> None:
        self._snapshot = snapshot
        self._low = b"" if start is None else _bucket_bytes(start)
        self._high = b"\xff" * 9 if end is None else _bucket_bytes(end)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._snapshot, name)

    def scan(self, space: str, lower: bytes | None = None, upper: bytes | None = None) -> Iterator[Item]:
        low, high = self._low, self._high
        found = self._snapshot.scan(space, lower, upper)
        return (item for item in found if low <= item[0][-8:] < high)


def _bucket_bytes(bucket: int) -> bytes:
    return encode_key((), (), bucket)[-8:]


def _wanted(blocks: Iterator[Block], plan: Plan, keys: Sequence[Sequence[Any]]) -> Iterator[Block]:
    """Compared as they are stored: so NaN equals NaN, and a key that shares a long prefix does not pass."""
    types = [plan.view.key[index].type for index in plan.filtered]
    wanted = {encode_key(types, values) for values in keys}
    for block in blocks:
        yield block.where([encode_key(types, [key[i] for i in plan.filtered]) in wanted for key in block.keys])


def _as_stored(blocks: Iterator[Block], plan: Plan) -> Groups:
    """Every stored row is a group."""
    keys: list[tuple[Any, ...]] = []
    windows: list[int | None] = []
    merged: list[States] = []
    batch: list[States | None] = []
    speed: list[States | None] = []
    most = None if plan.order or plan.limit_by else plan.limit
    for block in blocks:
        place = plan.rows_at
        rows = block if place is None else block.where([states[place] > 0 for states in block.merged])
        keys += rows.keys
        windows += rows.buckets
        merged += rows.merged
        batch += rows.batch
        speed += rows.speed
        if most is not None and len(keys) >= most:
            break
    return Groups(keys, windows, merged, batch, speed)


def _folded(blocks: Iterator[Block], plan: Plan) -> Groups:
    """Stored rows are merged into those of their group and window."""
    measures = list(plan.view.measures.values())
    merges = [measures[slot].merge for slot in plan.slots]

    def merge(left: States, right: States) -> list[Any]:
        return [one(a, b) for one, a, b in zip(merges, left, right, strict=True)]

    types = [plan.view.key[index].type for index in plan.group]
    piles: dict[tuple[bytes, int | None], _Piles] = {}
    for row in chain.from_iterable(block.rows() for block in blocks):
        key = tuple(row.key[index] for index in plan.group)
        name = encode_key(types, key)
        for window in plan.windows.of(row.bucket):
            found = piles.get((name, window))
            if found is None:
                found = piles[name, window] = _Piles(key)
            if not plan.parts:
                found.whole.add(_pick(row.merged, plan.slots), merge)
                continue
            for pile, states in ((found.batch, row.batch), (found.speed, row.speed)):
                if states is not None:
                    pile.add(_pick(states, plan.slots), merge)
    ordered = sorted(piles.items(), key=lambda item: (item[0][0], item[0][1] or 0))
    totals = [(group.key, window, *_totals(group, merge)) for (_, window), group in ordered]
    if plan.rows_at is not None:
        place = plan.slots.index(plan.rows_at)
        totals = [total for total in totals if total[2][place] > 0]
    return Groups(*(list(column) for column in zip(*totals, strict=True))) if totals else Groups((), (), ())


@dataclass(slots=True)
class _Piles:
    """The states of one group: of each side where the plan asks for the parts, else of both together."""

    key: tuple[Any, ...]
    whole: _Pile = field(default_factory=_Pile)
    batch: _Pile = field(default_factory=_Pile)
    speed: _Pile = field(default_factory=_Pile)


def _totals(piles: _Piles, merge: Merge) -> tuple[States, States | None, States | None]:
    """Both sides together, and each."""
    batch, speed, whole = piles.batch.total(merge), piles.speed.total(merge), piles.whole.total(merge)
    if whole is None:
        whole = speed if batch is None else batch if speed is None else merge(batch, speed)
    return whole or [], batch, speed


def _pick(states: States, slots: Sequence[int]) -> list[Any]:
    return [states[slot] for slot in slots]
