"""The merged read over spaces filled by hand: which rows, which sides, what is missing, what is hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideline.cut import Cut
from tideline.errors import MissingSegmentError, UsageError
from tideline.keys import key_range
from tideline.ledger import Generation, Ledger, Segment, Version
from tideline.measures import Count, CountBy, Measure, Sum
from tideline.merge import Row, get_row, merge_into, merger, scan_rows, segment_items
from tideline.stores.memory import MemoryStore
from tideline.types import Column, parse_type
from tideline.walk import MergedRow

STRING, BIGINT = parse_type("string"), parse_type("bigint")


@dataclass(frozen=True)
class View:
    fingerprint: str
    key: tuple[Column, ...]
    measures: dict[str, Measure]


VIEW = View("v", (Column("k", STRING),), {"n": Count(), "total": Sum("x").resolve(BIGINT)})


def at(offset: int) -> Cut:
    return Cut({"t": {0: offset}})


def row(key: str | None, bucket: int | None, n: int, total: int) -> Row:
    return (key,), bucket, [n, [n, total]]


def filled(
    segments: list[list[Row]], generations: list[list[Row]], floors: dict[str, int] | None = None
) -> MemoryStore:
    """A store with one offset of the log per segment and generation."""
    cut, ids = len(segments), range(1, len(segments) + 1)
    made = [Generation(id, at(cut + id), at(cut + id + 1), ("v",)) for id in range(len(generations))]
    made[-1] = replace(made[-1], end=None)
    ledger = replace(
        Ledger.create("test"),
        sources={"t": {"name": "t", "topic": "t"}},
        definitions={"v": {"name": "v", "source": "t", "fingerprint": "v"}},
        live={"v": "v"},
        committed=at(cut + len(generations)),
        generations=tuple(made),
        versions=(Version(0, at(0)), Version(1, at(cut), {"v": tuple(ids)}, {"v": "v"}, floors or {})),
        segments={id: Segment(id, "v", at(id - 1), at(id), len(segments[id - 1]), "full") for id in ids},
        next_segment=cut + 1,
    )
    store = MemoryStore(Ledger.create("test"))
    with store.write() as txn:
        for id, rows in zip(ids, segments, strict=True):
            txn.load(f"s{id}", segment_items(VIEW, rows))
        txn.put_ledger(ledger)
        for id, rows in enumerate(generations):
            merge_into(txn, f"g{id}/v", VIEW, rows)
    return store


def scanned(store: MemoryStore, *limits: Any, **options: Any) -> list[MergedRow]:
    with store.snapshot() as snapshot:
        return list(scan_rows(snapshot, VIEW, *limits, **options))


def test_batch_and_speed_meet_in_one_row_per_key() -> None:
    store = filled(
        [[row("a", 0, 1, 10), row("b", 0, 1, 20)], [row("a", 0, 2, 5)]],
        [[row("a", 0, 1, 1)], [row("c", 0, 1, 7)]],
    )
    assert scanned(store) == [
        MergedRow(("a",), 0, [3, [3, 15]], [1, [1, 1]], [4, [4, 16]]),
        MergedRow(("b",), 0, [1, [1, 20]], None, [1, [1, 20]]),
        MergedRow(("c",), 0, None, [1, [1, 7]], [1, [1, 7]]),
    ]


def test_one_row_is_what_the_scan_says_of_it() -> None:
    store = filled([[row("a", 0, 1, 10), row(None, 0, 1, 3)]], [[row("a", 0, 1, 1), row("a", 10, 1, 2)]])
    with store.snapshot() as snapshot:
        for found in scan_rows(snapshot, VIEW):
            assert get_row(snapshot, VIEW, found.key, found.bucket) == found
        assert get_row(snapshot, VIEW, ("x",), 0) is None
        assert get_row(snapshot, VIEW, ("a",), 20) is None


def test_a_time_range_of_a_key_is_one_scan() -> None:
    store = filled([[row("a", t, 1, t) for t in (0, 10, 20)], [row("b", 10, 1, 0)]], [[row("a", 10, 1, 5)]])
    found = scanned(store, *key_range([STRING], ["a"], 10, 20))
    assert found == [MergedRow(("a",), 10, [1, [1, 10]], [1, [1, 5]], [2, [2, 15]])]


def test_a_version_is_answered_from_its_segments_alone() -> None:
    store = filled([[row("a", 0, 1, 10)]], [[row("a", 0, 1, 1)]])
    assert scanned(store, version=1) == [MergedRow(("a",), 0, [1, [1, 10]], None, [1, [1, 10]])]
    assert scanned(store, version=0) == []
    with pytest.raises(UsageError):
        scanned(store, version=7)


def test_buckets_before_the_floor_are_not_answered() -> None:
    store = filled([[row("a", 0, 1, 1), row("a", 10, 1, 2)]], [[row("a", 0, 1, 3), row("b", 5, 1, 4)]], {"v": 10})
    assert [(found.key, found.bucket) for found in scanned(store)] == [(("a",), 10)]
    with store.snapshot() as snapshot:
        assert get_row(snapshot, VIEW, ("a",), 0) is None
        assert get_row(snapshot, VIEW, ("a",), 10) is not None


@pytest.mark.parametrize("space", ["s1", "s2", "g0/v", "g1/v"])
def test_a_space_that_is_lost_is_an_error_and_not_a_smaller_number(space: str) -> None:
    store = filled([[row("a", 0, 1, 1)], []], [[row("a", 0, 1, 1)], []])
    with store.write() as txn:
        txn.drop(space)
    with store.snapshot() as snapshot:
        for read in (lambda: list(scan_rows(snapshot, VIEW)), lambda: get_row(snapshot, VIEW, ("a",), 0)):
            with pytest.raises(MissingSegmentError) as missing:
                read()
            assert missing.value.params == {"space": space}


def test_a_generation_without_the_view_is_an_error() -> None:
    store = filled([], [[], []])
    with store.write() as txn:
        ledger = txn.ledger
        first = replace(ledger.generations[0], definitions=())
        txn.put_ledger(replace(ledger, generations=(first, ledger.open)))
    with pytest.raises(MissingSegmentError) as missing:
        scanned(store)
    assert missing.value.params == {"generation": 0, "fingerprint": "v", "begin": "t:0=0", "end": "t:0=1"}


def test_merging_changes_no_input() -> None:
    left, right = [1, [1, 2]], [3, [3, 4]]
    assert merger(VIEW)(left, right) == [4, [4, 6]]
    assert (left, right) == ([1, [1, 2]], [3, [3, 4]])


def test_a_batch_that_repeats_a_key_is_merged_before_it_is_stored() -> None:
    store = filled([], [[row("a", 0, 1, 1), row("b", 0, 1, 9), row("a", 0, 1, 2)]])
    with store.write() as txn:
        assert merge_into(txn, "g0/v", VIEW, [row("a", 0, 1, 4), row("a", 0, 1, 8)]) == 1
        assert merge_into(txn, "g0/v", VIEW, []) == 0
    assert [(found.key, found.merged) for found in scanned(store)] == [
        (("a",), [4, [4, 15]]),
        (("b",), [1, [1, 9]]),
    ]


rows = st.lists(
    st.tuples(
        st.tuples(st.none() | st.sampled_from(["", "a", "a\0", "x" * 600, "x" * 600 + "y"])),
        st.sampled_from([0, 10, -10]),
        st.tuples(st.integers(0, 3), st.dictionaries(st.sampled_from("pq"), st.integers(1, 1 << 70))).map(list),
    ),
    max_size=5,
)


@given(st.lists(rows, max_size=3), st.lists(rows, min_size=1, max_size=3))
def test_any_split_into_segments_and_generations_gives_the_same_rows(batch: list[Any], speed: list[Any]) -> None:
    view = View("v", VIEW.key, {"n": Count(), "by": CountBy("x").resolve(STRING)})
    merge = merger(view)
    expected: dict[Any, Any] = {}
    unique = [list({(key, bucket): (key, bucket, states) for key, bucket, states in part}.values()) for part in batch]
    for part in (*unique, *speed):
        for key, bucket, states in part:
            old = expected.get((key, bucket))
            expected[key, bucket] = states if old is None else merge(old, states)
    store = filled(unique, [[] for _ in speed])
    with store.write() as txn:
        for id, part in enumerate(speed):
            merge_into(txn, f"g{id}/v", view, part)
    with store.snapshot() as snapshot:
        found = list(scan_rows(snapshot, view))
    assert {(one.key, one.bucket): one.merged for one in found} == expected
    assert len(found) == len(expected)
