"""The duplicate rule of invariant 11, against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideline.duplicates import DuplicateIndex, Ids, RecentIds


class Naive:
    """The rule as it is written: any occurrence within the horizon, counted or not."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.seen: dict[tuple[int, tuple[int, int]], int] = {}

    def is_duplicate(self, partition: int, offset: int, event_id: tuple[int, int]) -> bool:
        last = self.seen.get((partition, event_id))
        self.seen[partition, event_id] = offset
        return last is not None and offset - self.horizon <= last < offset


def arrays(events: list[tuple[int, tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.array([offset for offset, _ in events], np.int64)
    return offsets, np.array([event_id for _, event_id in events], np.uint64).reshape(-1, 2)


# Few values, so that ids repeat, and so that different ids agree in either half.
IDS = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 5))
STEPS = st.lists(st.tuples(st.integers(1, 9), IDS), max_size=25)
BATCHES = st.lists(st.tuples(st.integers(0, 1), STEPS), max_size=25)


@settings(max_examples=300, deadline=None)
@given(horizon=st.integers(0, 60), batches=BATCHES)
def test_flags_what_the_rule_says_in_any_batches(
    horizon: int, batches: list[tuple[int, list[tuple[int, tuple[int, int]]]]]
) -> None:
    index, naive, ends = DuplicateIndex(horizon), Naive(horizon), {0: 0, 1: 0}
    for partition, steps in batches:
        events = []
        for step, event_id in steps:
            ends[partition] += step
            events.append((ends[partition], event_id))
        offsets, hashes = arrays(events)
        flags = index.flag(offsets, hashes, partition)
        assert flags.tolist() == index.flag(offsets, hashes, partition).tolist(), "flag must change nothing"
        assert flags.tolist() == [naive.is_duplicate(partition, *event) for event in events]
        index.add(partition, offsets, hashes)


def test_the_horizon_is_a_distance_in_offsets() -> None:
    index = DuplicateIndex(10)
    index.add(0, *arrays([(5, (1, 1))]))
    assert index.flag(*arrays([(15, (1, 1))]), 0).tolist() == [True]
    assert index.flag(*arrays([(16, (1, 1))]), 0).tolist() == [False]
    assert index.flag(*arrays([(15, (1, 1))]), 1).tolist() == [False]


def test_a_duplicate_renews_its_id() -> None:
    index = DuplicateIndex(10)
    events = arrays([(0, (7, 7)), (10, (7, 7)), (20, (7, 7)), (31, (7, 7))])
    assert index.flag(*events, 0).tolist() == [False, True, True, False]


def test_memory_stays_near_the_horizon() -> None:
    index, random = DuplicateIndex(10_000), np.random.default_rng(1)
    for start in range(0, 200_000, 500):
        offsets = np.arange(start, start + 500, dtype=np.int64)
        index.add(0, offsets, random.integers(0, 2**64, (500, 2), np.uint64))
        assert len(index) <= 1.125 * index.horizon + 500
    assert index.nbytes == 24 * len(index)


def test_clear_forgets_a_partition_or_all() -> None:
    index = DuplicateIndex(10)
    for partition in (0, 1, 2):
        index.add(partition, *arrays([(5, (1, 1))]))
    index.clear(1)
    assert [index.flag(*arrays([(6, (1, 1))]), p).tolist() for p in (0, 1, 2)] == [[True], [False], [True]]
    index.clear()
    assert len(index) == 0


def test_a_negative_horizon_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        DuplicateIndex(-1)


def test_many_ids_are_found_in_each_partition_as_in_one_alone() -> None:
    """Those of some partitions are looked for at the same time."""
    random, horizon, begin = np.random.default_rng(2), 40_000, 0
    together, alone = RecentIds(horizon), {partition: DuplicateIndex(horizon) for partition in range(3)}
    for count in (30_000, 30_000, 100, 50_000):
        offsets = np.arange(begin, begin + count)
        ids: list[Ids] = [(p, offsets, random.integers(0, 60_000, (count, 2)).astype(np.uint64) // 600) for p in alone]
        found = dict(together.flag(ids))
        for partition, _, hashes in ids:
            flags = alone[partition].flag(offsets, hashes, partition)
            assert found[partition].tolist() == offsets[flags].tolist()
            alone[partition].add(partition, offsets, hashes)
        assert any(len(repeats) for repeats in found.values())
        together.committed()
        begin += count
