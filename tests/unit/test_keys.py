"""Encoded keys order as their values do; rows survive their bytes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideline.codec import pack_row, unpack_row
from tideline.errors import UsageError
from tideline.keys import encode_key, key_range
from tideline.types import ColumnType, from_wire, parse_text, parse_type

LARGEST_LMDB_KEY = 511
INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=6),
    "binary": st.binary(max_size=6),
    "boolean": st.booleans(),
    "bigint": INTEGERS,
    "date": st.integers(-100_000, 100_000),
    "timestamp": INTEGERS,
    "decimal(38,2)": st.integers(-(10**38) + 1, 10**38 - 1),
    "double": st.floats(),
}
TYPES = {name: parse_type(name) for name in VALUES}


def order(value: Any) -> Any:
    """Null first, NaN last, -0.0 equal to 0.0."""
    if value is None:
        return (0,)
    if isinstance(value, float):
        return (1, math.isnan(value), 0.0 if math.isnan(value) else value)
    return (1, value.encode() if isinstance(value, str) else value)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[ColumnType], list[Any], list[Any]]:
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3))
    rows = [[draw(st.none() | VALUES[name]) for name in names] for _ in range(2)]
    if draw(st.booleans()):
        rows[1][0] = rows[0][0]
    return [TYPES[name] for name in names], rows[0], rows[1]


@given(pairs(), INTEGERS, INTEGERS)
def test_bytes_order_as_values_do(pair: Any, left_bucket: int, right_bucket: int) -> None:
    types, left, right = pair
    ordered = [*map(order, left), left_bucket], [*map(order, right), right_bucket]
    encoded = encode_key(types, left, left_bucket), encode_key(types, right, right_bucket)
    assert (ordered[0] < ordered[1]) == (encoded[0] < encoded[1])
    assert (ordered[0] == ordered[1]) == (encoded[0] == encoded[1])


@given(st.lists(st.text(max_size=400), min_size=2, max_size=2), st.none() | INTEGERS)
def test_no_key_is_longer_than_lmdb_takes(key: list[str], bucket: int | None) -> None:
    types = [TYPES["string"]] * 2
    assert 0 < len(encode_key(types, key, bucket)) <= LARGEST_LMDB_KEY


def test_long_keys_stay_apart_and_keep_their_buckets_together() -> None:
    types = [TYPES["string"]]
    keys = [["x" * 5000 + tail] for tail in "abc"]
    assert len({encode_key(types, key, 0) for key in keys}) == 3
    lower, upper = key_range(types, keys[1], 10, 20)
    assert upper is not None
    inside = [(k[0][-1], b) for k in keys for b in (9, 10, 19, 20) if lower <= encode_key(types, k, b) < upper]
    assert inside == [("b", 10), ("b", 19)]


def test_a_view_without_key_columns_has_one_key() -> None:
    assert encode_key([], [], None)
    assert encode_key([], [], 1) < encode_key([], [], 2)


@given(pairs(), INTEGERS)
def test_a_prefix_range_holds_the_keys_that_begin_with_it(pair: Any, bucket: int) -> None:
    types, left, right = pair
    for size in range(len(types) + 1):
        lower, upper = key_range(types, left[:size])
        encoded = encode_key(types, right, bucket)
        inside = lower <= encoded and (upper is None or encoded < upper)
        assert inside == ([*map(order, left[:size])] == [*map(order, right[:size])])


@pytest.mark.parametrize("more", ["a\0", "a\0b", "a\0\0", "aa", "", "a\x01"])
@pytest.mark.parametrize("bucket", [-(2**62), 0, 2**62])
def test_the_buckets_of_a_key_are_not_those_of_one_that_goes_on(more: str, bucket: int) -> None:
    for first in ([], ["x"]):
        types = [TYPES["string"]] * (len(first) + 1)
        lower, upper = key_range(types, [*first, "a"])
        assert upper is not None
        assert lower <= encode_key(types, [*first, "a"], bucket) < upper
        assert not lower <= encode_key(types, [*first, more], bucket) < upper
    types = [TYPES["string"]]
    lower, upper = key_range(types, ["x" * 478])
    assert upper is not None
    assert not lower <= encode_key(types, ["x" * 478 + "\0" + more], bucket) < upper


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-50, 50))
def test_a_time_range_of_one_key_is_half_open(start: int, stop: int, bucket: int) -> None:
    lower, upper = key_range([TYPES["string"]], ["k"], start, stop)
    assert upper is not None
    assert (lower <= encode_key([TYPES["string"]], ["k"], bucket) < upper) == (start <= bucket < stop)


states = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.integers(-(1 << 130), 1 << 130),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2) | st.integers(-9, 9), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.lists(st.none() | st.text(max_size=3) | st.integers(), max_size=3).map(tuple),
    st.none() | INTEGERS,
    st.lists(states, max_size=3),
)
def test_a_row_survives_its_bytes(key: tuple[Any, ...], bucket: int | None, row: list[Any]) -> None:
    assert unpack_row(pack_row(key, bucket, row)) == (key, bucket, row)


def test_a_large_number_leaves_nothing_in_the_next_row() -> None:
    pack_row(("a",), 1, [1 << 100])
    assert unpack_row(pack_row(("b",), 2, [3])) == (("b",), 2, [3])


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        encode_key([TYPES["string"]] * 2, ["a"], None)


@pytest.mark.parametrize("kind", ["decimal(38,10)", "decimal(38,0)", "decimal(38,38)", "decimal(29,2)"])
def test_the_largest_decimal_is_a_key_and_the_next_is_none(kind: str) -> None:
    type_ = parse_type(kind)
    largest = 10**type_.precision - 1
    for sign in (1, -1):
        assert parse_text(type_, str(from_wire(type_, sign * largest))) == sign * largest
        with pytest.raises(UsageError):
            parse_text(type_, str(from_wire(type_, sign * (largest + 1))))
