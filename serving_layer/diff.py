"""Two definitions' answers, key by key, at the furthest cut that both are held at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving_layer.find import not_shown
from serving_layer.sides import Side, common_place
from tideline.cut import Cut
from tideline.errors import UsageError
from tideline.keys import key_encoder
from tideline.merge import scan_spaces
from tideline.quarantine import FAULTS
from tideline.stores.base import Snapshot
from tideline.types import bucket_start, json_value, to_json
from tideline.walk import MergedRow

Json = dict[str, Any]
BOTH, LEFT, RIGHT, EQUAL = "both", "left", "right", "equal"
_NEAR = 1e-9  # doubles added up in another order


@dataclass(frozen=True)
class Diff:
    """What differs; `counts` of keys by where they are: equal, both (they differ), left, right.

    `rows` are the first that differ, JSON-able: `{"key", "bucket", "in", "measures": {name: {"left", "right"}}}`.
    """

    left: Side
    right: Side
    cut: Cut
    floor: int | None
    measures: tuple[str, ...]
    counts: Mapping[str, int]
    rows: list[Json]

    @property
    def equal(self) -> bool:
        """Whether every key and measure that both have is equal."""
        return not any(self.counts[side] for side in (BOTH, LEFT, RIGHT))

    def to_json(self) -> Json:
        """All of it, JSON-able."""
        return {
            "left": _describe(self.left, self.measures),
            "right": _describe(self.right, self.measures),
            "cut": self.cut.to_json(),
            "floor": json_value(bucket_start(self.floor)),
            "measures": list(self.measures),
            "equal": self.equal,
            "counts": dict(self.counts),
            "rows": self.rows,
        }


def _describe(side: Side, common: Iterable[str]) -> Json:
    return {
        "view": side.view.name,
        "fingerprint": side.view.fingerprint,
        "version": side.version,
        "only": [name for name in side.view.measures if name not in common],
    }


def diff_sides(snapshot: Snapshot, left: Side, right: Side, limit: int) -> Diff:
    """Compares the measures of the same name; keeps the first `limit` keys that differ. Raises UsageError."""
    _check_comparable(left, right)
    mine, theirs = common_place(left, right)
    floor = max((side.floor for side in (left, right) if side.floor is not None), default=None)
    names = tuple(name for name in left.view.measures if name in right.view.measures)
    counts: Counter[str] = Counter({EQUAL: 0, BOTH: 0, LEFT: 0, RIGHT: 0})
    kept: list[Json] = []
    pairs = _pairs(
        scan_spaces(snapshot, left.view, mine.spaces, floor),
        scan_spaces(snapshot, right.view, theirs.spaces, floor),
        left,
    )
    for one, other in pairs:
        measures = _differing(left, right, names, one, other)
        where = LEFT if other is None else RIGHT if one is None else BOTH if measures else EQUAL
        counts[where] += 1
        if where != EQUAL and len(kept) < limit:
            kept.append(_row(left, one or other, where, measures))
    return Diff(left, right, mine.cut, floor, names, counts, kept)


def _check_comparable(left: Side, right: Side) -> None:
    shapes = [
        {"key": [f"{c.name} {c.type.sql}" for c in side.view.key], "bucket": side.view.bucket} for side in (left, right)
    ]
    if shapes[0] != shapes[1]:
        raise UsageError(
            "NOT_COMPARABLE",
            f"{left.label} and {right.label} differ in key or bucket, so that no row of one is a row of the other",
            "compare definitions with the same key columns and bucket",
            left=shapes[0],
            right=shapes[1],
        )


def _pairs(
    left: Iterator[MergedRow], right: Iterator[MergedRow], side: Side
) -> Iterator[tuple[MergedRow | None, MergedRow | None]]:
    """Rows of the same key and bucket; None where one has none. Both come in the order of their encoded keys."""
    encode = key_encoder(tuple(column.type for column in side.view.key))

    def following(rows: Iterator[MergedRow]) -> tuple[bytes, MergedRow] | None:
        row = next(rows, None)
        return None if row is None else (encode(row.key, row.bucket), row)

    one, other = following(left), following(right)
    while one or other:
        if other is None or (one is not None and one[0] < other[0]):
            yield one[1] if one else None, None
            one = following(left)
        elif one is None or other[0] < one[0]:
            yield None, other[1]
            other = following(right)
        else:
            yield one[1], other[1]
            one, other = following(left), following(right)


def _differing(
    left: Side, right: Side, names: Iterable[str], one: MergedRow | None, other: MergedRow | None
) -> dict[str, Json]:
    found = {}
    mine, theirs = (_answers(side, names, row) for side, row in ((left, one), (right, other)))
    for name in names:
        if one is None or other is None or not _same(mine[name], theirs[name]):
            shown = (left.view.measures[name], mine), (right.view.measures[name], theirs)
            values = [None if not a else measure.answer_json(a[name]) for measure, a in shown]
            found[name] = {LEFT: values[0], RIGHT: values[1]}
    return found


def _answers(side: Side, names: Iterable[str], row: MergedRow | None) -> dict[str, Any]:
    if row is None:
        return {}
    states = dict(zip(side.view.measures, row.merged, strict=True))
    return {name: _shown(side, name, states[name]) for name in names}


def _shown(side: Side, name: str, state: Any) -> Any:
    try:
        return side.view.measures[name].present(state)
    except FAULTS as error:
        raise not_shown(side.view.name, name, error) from error


def _same(left: Any, right: Any) -> bool:
    """Equal; doubles up to the order in which they were added."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=_NEAR) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    return bool(left == right)


def _row(side: Side, row: MergedRow | None, where: str, measures: Mapping[str, Json]) -> Json:
    if row is None:
        return {}
    key = {column.name: to_json(column.type, value) for column, value in zip(side.view.key, row.key, strict=True)}
    return {"key": key, "bucket": json_value(bucket_start(row.bucket)), "in": where, "measures": dict(measures)}
