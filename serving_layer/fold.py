"""From a snapshot to groups of merged states: the rows of a plan, folded by group key and window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from serving_layer.paging import Place
from serving_layer.plan import Plan
from tideline.errors import UsageError
from tideline.keys import encode_key, encode_keys, key_range
from tideline.merge import MergedView
from tideline.stores.base import Item, Snapshot
from tideline.walk import Block

FEW_WINDOWS = 8  # that a row may lie in, however many rows there are
MOST_MERGED = 4_000_000  # rows where each lies in more windows, counted in every one of them
States = Sequence[Any]
T = TypeVar("T")
MergeAll = Callable[[Sequence[States]], States]
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


class _Pile(list[States]):
    """States of one group that are not merged yet; `more` holds what each of `MOST` were merged to.

    So a large map or sketch is copied log n times, and no more than `MOST` states of a size wait at once.
    """

    __slots__ = ("more",)
    MOST = 256

    def __init__(self) -> None:
        self.more: _Pile | None = None

    def settle(self, merge: MergeAll) -> None:
        """Merges what waits, which has become many."""
        if self.more is None:
            self.more = _Pile()
        self.more.append(merge(self))
        self.clear()
        if len(self.more) == self.MOST:
            self.more.settle(merge)

    def total(self, merge: MergeAll) -> States:
        """All that was put here, merged."""
        if self.more is None:
            return self[0] if len(self) == 1 else merge(self)
        settled = self.more.total(merge)
        return merge([settled, *self]) if self else settled


_Piles = dict[tuple[bytes, "int | None"], _Pile]
"""The piles of one side, or of both together, by encoded group key and window."""


def collect(
    snapshot: Snapshot,
    plan: Plan,
    merged: MergedView,
    keys: Sequence[Sequence[Any]],
    start: Place | None = None,
    most: int | None = None,
) -> Groups:
    """The groups of a plan, in the order of their keys and windows, before its order and limits.

    `merged` is the plan's view at the snapshot's ledger, `keys` are the values that its filtered key columns may have.
    Of what is stored in the order that is asked for, only groups behind `start` are read, and one more than the limit,
    or `most`. Raises UsageError TOO_MUCH_WORK.
    """
    if not plan.is_lookup:
        blocks = _in_range(snapshot, plan, merged, keys, start if plan.reads_in_order else None)
    elif len(keys) == 1:
        row = merged.get(snapshot, keys[0], plan.windows.start)
        blocks = iter(() if row is None else (Block([row.key], [row.bucket], [row.batch], [row.speed], [row.merged]),))
    else:
        blocks = merged.get_many(snapshot, keys, plan.windows.start)
    return as_stored(blocks, plan, most) if plan.keeps_rows else _folded(blocks, plan)


def _in_range(
    snapshot: Snapshot, plan: Plan, merged: MergedView, keys: Sequence[Sequence[Any]], behind: Place | None
) -> Iterator[Block]:
    """The stored rows that matter: one range of a key, or what is wanted of one prefix, or of all; behind a place."""
    if not keys:
        return iter(())
    types = [column.type for column in plan.view.key]
    prefix, start, end = keys[0][: plan.depth], plan.windows.start, plan.windows.end
    whole = len(prefix) == len(types)
    lower, upper = key_range(types, prefix, start, end) if whole else key_range(types, prefix)
    if behind is not None:
        lower = max(lower, behind.name(plan) + b"\x00")
    if not whole and (start is not None or end is not None):
        snapshot = _BucketsOnly(snapshot, start, end)
    blocks = merged.scan(snapshot, lower, upper)
    if whole:
        return blocks
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


def as_stored(blocks: Iterator[Block], plan: Plan, most: int | None = None) -> Groups:
    """Every stored row is a group; where that is the order to answer in, one more than the limit of them, or `most`."""
    keys: list[tuple[Any, ...]] = []
    windows: list[int | None] = []
    merged: list[States] = []
    batch: list[States | None] = []
    speed: list[States | None] = []
    enough = least(None if plan.limit is None else plan.limit + 1, most) if plan.reads_in_order else None
    for block in blocks:
        place = plan.rows_at
        rows = block if place is None else block.where([states[place] > 0 for states in block.merged])
        keys += rows.keys
        windows += rows.buckets
        merged += rows.merged
        batch += rows.batch
        speed += rows.speed
        if enough is not None and len(keys) >= enough:
            break
    return Groups(keys, windows, merged, batch, speed)


def least(*limits: int | None) -> int | None:
    """The lowest of some limits, of which None is none."""
    return min((limit for limit in limits if limit is not None), default=None)


def _folded(blocks: Iterator[Block], plan: Plan) -> Groups:
    """Stored rows are merged into those of their group and window. Raises UsageError TOO_MUCH_WORK."""
    measures = [list(plan.view.measures.values())[slot] for slot in plan.slots]

    def merge(rows: Sequence[States]) -> States:
        return [measure.merge_all(states) for measure, states in zip(measures, zip(*rows, strict=True), strict=True)]

    types = [plan.view.key[index].type for index in plan.group]
    keys: dict[bytes, tuple[Any, ...]] = {}
    sides: list[_Piles] = [{}, {}] if plan.parts else [{}]
    find, merged = plan.windows.finder(), 0
    for block in blocks:
        grouped = [tuple(key[index] for index in plan.group) for key in block.keys]
        names = encode_keys(types, grouped, [None] * len(block))
        keys.update(zip(names, grouped, strict=True))
        of = {bucket: find(bucket) for bucket in set(block.buckets)}
        windows = [of[bucket] for bucket in block.buckets]
        if plan.windows.overlap > FEW_WINDOWS:
            merged += sum(map(len, windows))
            if merged > MOST_MERGED:
                raise _too_much_work(plan)
        for side, rows in zip(sides, (block.batch, block.speed) if plan.parts else (block.merged,), strict=True):
            _pile_up(side, names, windows, _picked(rows, plan.slots), merge)
    totals = [{group: pile.total(merge) for group, pile in side.items()} for side in sides]
    whole, *_ = totals
    if plan.parts:
        batch, speed = totals
        whole = {**batch, **speed, **{group: merge([batch[group], speed[group]]) for group in batch.keys() & speed}}
    if plan.rows_at is not None:
        place = plan.slots.index(plan.rows_at)
        whole = {group: states for group, states in whole.items() if states[place] > 0}
    groups = sorted(whole)
    return Groups(
        [keys[name] for name, _ in groups],
        [window for _, window in groups],
        [whole[group] for group in groups],
        *([side.get(group) for group in groups] for side in totals if plan.parts),
    )


def _too_much_work(plan: Plan) -> UsageError:
    return UsageError(
        "TOO_MUCH_WORK",
        f"each bucket lies in {plan.windows.overlap} windows: more than {MOST_MERGED} rows would have to be merged",
        "ask for a shorter time range or fewer keys, or for fewer windows: a shorter window, or a longer slide",
        view=plan.view.name,
        overlap=plan.windows.overlap,
        limit=MOST_MERGED,
    )


def _pile_up(
    piles: _Piles,
    names: Sequence[bytes],
    windows: Sequence[Sequence[int | None]],
    rows: Sequence[States | None],
    merge: MergeAll,
) -> None:
    """Puts the states of rows on the piles of their groups, one in each window."""
    for name, several, states in zip(names, windows, rows, strict=True):
        if states is None:
            continue
        for window in several:
            group = name, window
            pile = piles.get(group)
            if pile is None:
                pile = piles[group] = _Pile()
            pile.append(states)
            if len(pile) == _Pile.MOST:
                pile.settle(merge)


def _picked(rows: Sequence[States | None], slots: Sequence[int]) -> list[States | None]:
    return [states and [states[slot] for slot in slots] for states in rows]
