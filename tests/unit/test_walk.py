"""Walking spaces together: whatever is in which of them, rows come as if all were merged in one dictionary."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tideline.codec import pack_row
from tideline.keys import encode_key
from tideline.stores.base import Item
from tideline.types import parse_type
from tideline.walk import MergedRow, walk

BIGINT = parse_type("bigint")


def add(left: object, right: object) -> list[int]:
    return [left[0] + right[0]]  # type: ignore[index]


def space(keys: range | list[int], value: int) -> list[Item]:
    return [(encode_key([BIGINT], (key,)), pack_row((key,), None, [value])) for key in keys]


def naive(spaces: list[list[int]], batch: int) -> list[MergedRow]:
    rows = []
    for key in sorted(set().union(*spaces)):
        sides = [[1 << i for i, s in enumerate(spaces) if key in s and (i < batch) == first] for first in (True, False)]
        found = [[sum(side)] if side else None for side in sides]
        rows.append(MergedRow((key,), None, *found, [sum(map(sum, sides))]))
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_spaces_of_any_density_merge_row_by_row(seed: int) -> None:
    dice = random.Random(seed)
    count = dice.randint(1, 5)
    spaces = [sorted(dice.sample(range(30_000), dice.choice([0, 1, 64, 65, 1_000, 20_000]))) for _ in range(count)]
    batch = dice.randint(0, count)
    scans = [iter(space(keys, 1 << index)) for index, keys in enumerate(spaces)]
    blocks = list(walk(scans, batch, add))
    assert [row for block in blocks for row in block.rows()] == naive(spaces, batch)
    keys = [key for block in blocks for key in block.keys]
    assert all(one < other for one, other in pairwise(keys))


def test_the_first_rows_are_had_without_reading_the_others() -> None:
    read = []

    def scan() -> object:
        for item in space(range(100_000), 1):
            read.append(item)
            yield item

    first = next(walk([scan(), iter(space([5], 2))], 1, add))  # type: ignore[list-item]
    assert next(first.rows()) == MergedRow((0,), None, [1], None, [1])
    assert len(read) < 100


def test_a_block_keeps_the_rows_that_are_wanted() -> None:
    [block] = walk([iter(space(range(4), 1)), iter(space([2], 2))], 1, add)
    assert list(block.where([False, True, True, False]).rows()) == [
        MergedRow((1,), None, [1], None, [1]),
        MergedRow((2,), None, [1], [2], [3]),
    ]
    assert block.where([True] * 4) is block
