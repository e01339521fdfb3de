"""From a snapshot to groups of merged states: the rows of a plan, folded by group key and window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from serving_layer.plan import Plan
from tideline.keys import encode_key, key_range
from tideline.merge import MergedRow, MergedView
from tideline.stores.base import Item, Snapshot

States = Sequence[Any]
Merge = Callable[[States, States], list[Any]]


@dataclass(slots=True)
class Group:
    """One row of an answer before it is presented.

    `key` holds the wire values of the group's key columns, `window` the start in microseconds, the rest a
    state for each of the plan's slots; `batch` and `speed` are None where that side has nothing. `seen`
    caches answers.
    """

    key: tuple[Any, ...]
    window: int | None
    merged: States
    batch: States | None = None
    speed: States | None = None
    seen: dict[str, Any] = field(default_factory=dict)


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


def collect(snapshot: Snapshot, plan: Plan, merged: MergedView, keys: Sequence[Sequence[Any]]) -> list[Group]:
    """The groups of a plan, in the order of their keys and windows, before its order and limits.

    `merged` is the plan's view at the snapshot's ledger, `keys` are the values that its filtered key columns may have.
    """
    if plan.is_lookup and len(keys) == 1:
        row = merged.get(snapshot, keys[0], plan.windows.start)
        rows = iter(() if row is None else (row,))
    elif plan.is_lookup:
        rows = merged.get_many(snapshot, keys, plan.windows.start)
    else:
        rows = _in_range(_rows(snapshot, plan, merged, keys), plan, keys)
    if plan.keeps_rows:
        groups: Iterator[Group] = (_as_group(row, plan.slots) for row in rows)
        if plan.rows_at is not None:
            groups = (group for group in groups if _has_rows(group, plan.rows_at))
        if plan.limit is not None and not plan.order and not plan.limit_by:
            groups = islice(groups, plan.limit)
        return list(groups)
    folded = _folded(rows, plan)
    return folded if plan.rows_at is None else [group for group in folded if _has_rows(group, plan.rows_at)]


def _has_rows(group: Group, place: int) -> bool:
    """Whether a group has rows left: one whose rows were all retracted is none."""
    return bool(group.merged[place] > 0)


def _rows(snapshot: Snapshot, plan: Plan, merged: MergedView, keys: Sequence[Sequence[Any]]) -> Iterator[MergedRow]:
    """The stored rows that may matter: one range of a key, one prefix, or all."""
    if not keys:
        return iter(())
    types = [column.type for column in plan.view.key]
    prefix, start, end = keys[0][: plan.depth], plan.windows.start, plan.windows.end
    whole = len(prefix) == len(types)
    lower, upper = key_range(types, prefix, start, end) if whole else key_range(types, prefix)
    if not whole and (start is not None or end is not None):
        snapshot = _BucketsOnly(snapshot, start, end)
    return merged.scan(snapshot, lower, upper)


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


def _in_range(rows: Iterator[MergedRow], plan: Plan, keys: Sequence[Sequence[Any]]) -> Iterator[MergedRow]:
    start, end, indices = plan.windows.start, plan.windows.end, plan.filtered
    types = [plan.view.key[index].type for index in indices]
    wanted = {encode_key(types, values) for values in keys}
    for row in rows:
        if row.bucket is not None and (
            (start is not None and row.bucket < start) or (end is not None and row.bucket >= end)
        ):
            continue
        # Compared as they are stored: so NaN equals NaN, and a key that shares a long prefix does not pass.
        if not indices or encode_key(types, [row.key[index] for index in indices]) in wanted:
            yield row


def _as_group(row: MergedRow, slots: Sequence[int]) -> Group:
    batch = None if row.batch is None else _pick(row.batch, slots)
    speed = None if row.speed is None else _pick(row.speed, slots)
    return Group(row.key, row.bucket, _pick(row.merged, slots), batch, speed)


def _pick(states: States, slots: Sequence[int]) -> list[Any]:
    return [states[slot] for slot in slots]


def _folded(rows: Iterator[MergedRow], plan: Plan) -> list[Group]:
    measures = list(plan.view.measures.values())
    merges = [measures[slot].merge for slot in plan.slots]

    def merge(left: States, right: States) -> list[Any]:
        return [one(a, b) for one, a, b in zip(merges, left, right, strict=True)]

    types = [plan.view.key[index].type for index in plan.group]
    piles: dict[tuple[bytes, int | None], _Piles] = {}
    for row in rows:
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
    return [_total(found, window, merge) for (_, window), found in ordered]


@dataclass(slots=True)
class _Piles:
    """The states of one group: of each side where the plan asks for the parts, else of both together."""

    key: tuple[Any, ...]
    whole: _Pile = field(default_factory=_Pile)
    batch: _Pile = field(default_factory=_Pile)
    speed: _Pile = field(default_factory=_Pile)


def _total(piles: _Piles, window: int | None, merge: Merge) -> Group:
    batch, speed, whole = piles.batch.total(merge), piles.speed.total(merge), piles.whole.total(merge)
    if whole is None:
        whole = speed if batch is None else batch if speed is None else merge(batch, speed)
    return Group(piles.key, window, whole or [], batch, speed)
