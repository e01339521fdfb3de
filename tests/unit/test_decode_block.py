"""Decoding a block: plain records are taken, and what could mislead Arrow's reader is not, beside any neighbour."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from test_decode import TYPES, source

from tideline.decode_block import MOST_BYTES, decode_block
from tideline.source import Source
from tideline.types import parse_schema

SCHEMA = parse_schema("id string, n int, price decimal(10,2), at timestamp")
PLAIN = b'{"id":"a","n":1,"price":2.50,"at":"2020-01-01T00:00:00Z"}'
OTHERS = [
    b'{"id": "b", "n": -3, "price": 0.1, "at": "2020-01-01 00:00:00.5"}',
    b'{"at":"2020-01-01T00:00:00Z","price":7,"n":2,"id":"\xc3\xa9"}',
    b'{"id":"c"}',
    b'{"id":"c","n":null,"at":null}',
    b"{}",
    b'{"id":"","n":0,"price":0,"at":"2020-01-01T00:00:00Z","more":"x","and":1.5,"yes":true}',
    b'{"id":"d","n":null,"more":null,"yes":false}',
]


def taken(*values: bytes | None) -> list[bool]:
    block = decode_block(SCHEMA, pa.array(values, pa.binary()))
    assert all(len(column) == block.taken.sum() for column in block.columns)
    found: list[bool] = block.taken.tolist()
    return found


def test_plain_records_are_taken_with_their_values() -> None:
    block = decode_block(SCHEMA, pa.array([PLAIN, *OTHERS, PLAIN], pa.binary()))
    assert block.taken.all()
    assert block.columns[0].to_pylist() == ["a", "b", "é", "c", "c", None, "", "d", "a"]
    assert block.columns[1].to_pylist() == [1, -3, 2, None, None, None, 0, None, 1]
    assert [None if v is None else str(v) for v in block.columns[2].to_pylist()] == [
        *("2.50", "0.10", "7.00", None, None, None, "0.00", None, "2.50")
    ]


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "decimal(38,38)"])
def test_each_type_is_taken(kind: str) -> None:
    text = {"string": "x", "boolean": True, "timestamp": "2020-01-01T00:00:00Z", "date": "2020-01-01", "binary": "YQ=="}
    value: Any = text.get(kind, 0 if kind == "decimal(5,5)" else 1)
    records = pa.array([json.dumps({"v": value}).encode()] * 9, pa.binary())
    assert decode_block(source(kind).schema, records).taken.all()


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b" ",
        b"null",
        b"1",
        b" " + PLAIN,
        PLAIN + b"\n",
        PLAIN + b" ",
        b'{"id":"a","surplus":1,"surplus":2}',
        b'{"id":"a","n" :null}',
        b'{"id":"a\\n"}',
        b'{"\\u0069d":"a"}',
        b'{"id":"a","x":{"n":2}}',
        b'{"id":"a","x":[1]}',
        b'{"id":[1],"n":1}',
        b'{"id":"{","n":1}',
        b'{"id":"}","n":1}',
        b'{"id":"a"}{"id":"b"}',
        b'{"id":"a"',
        b'"id":"a"}',
        b'{"id":"\xff"}',
        b'{"id":"\xed\xa0\x80"}',
        b'{"id":"a\tb"}',
        b'{"n":2147483648}',
        b'{"price":100000000}',
        b'{"price":"1"}',
        b'{"price" :1e-999}',
        b'{"price":  1e0}',
        b'{"at":"0000-01-01T00:00:00Z"}',
        b'{"at":"2020-01-01T00:00:00+01:00"}',
        b'{"at":"2020-01-01"}',
        b'{"id":"%s"}' % (b"x" * MOST_BYTES),
    ],
)
def test_what_may_be_more_than_it_seems_is_left_out_alone(value: bytes | None) -> None:
    assert taken(*[PLAIN] * 8, value, *[PLAIN] * 8) == [True] * 8 + [False] + [True] * 8
    assert taken(value, *[PLAIN] * 8, value) == [False] + [True] * 8 + [False]
    assert not any(taken(*[value] * 9))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b'{"id":"a"', b',"n":1}'),
        (b'{"id":"a","n":1}{"id":"b"}', b" "),
        (b'{"id":"a', b'b"}'),
        (b"{", b"}"),
        (b'{"id":"a"}{"id":"b"', b',"n":1}'),
    ],
)
def test_two_records_are_never_read_as_one(first: bytes, second: bytes) -> None:
    assert taken(*[PLAIN] * 8, first, second, *[PLAIN] * 8) == [True] * 8 + [False] * 2 + [True] * 8


@pytest.mark.parametrize(
    "value",
    [
        b'{"n":1.0}',
        b'{"n":"1"}',
        b'{"id":1}',
        b'{"n":1,}',
        b'{"n":01}',
        b'{"n":NaN}',
        b'{"price":1.234}',
        b'{"id":"a","id":"b"}',
        b'{"id":"a","id":null}',
        b'{"n":1,"n":1}',
        b'{"n":null,"n":null}',
        b'{"n":null,"n":1}',
        b'{"n":1,"n":null}',
        b'{"id":"null","n":1,"n":1}',
        b'{"id":"n","n":1,"n":1}',
    ],
)
def test_where_arrow_gives_up_records_far_away_are_taken_nevertheless(value: bytes) -> None:
    found = taken(*[PLAIN] * 200, value, *[PLAIN] * 120)
    assert sum(found) >= 290
    assert not found[200]


@pytest.mark.parametrize("more", [b',"x":1,"x":2', b',"x":"y"', b',"x":null', b',"price":1', b',"id":"b"'])
def test_a_field_more_is_seen_where_no_other_record_has_it(more: bytes) -> None:
    value = PLAIN[:-1] + more + b"}"
    assert taken(*[PLAIN] * 40, value, *[PLAIN] * 40)[40] is False
    assert taken(*[PLAIN] * 40, PLAIN.replace(b"2.50", b'"2.50"'), *[PLAIN] * 40)[40] is False


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"Inf", b"-NaN"])
def test_what_is_no_number_is_none_in_a_field_that_nobody_asked_for(number: bytes) -> None:
    plain = PLAIN[:-1] + b',"x":1}'
    assert (
        taken(*[plain] * 9, plain.replace(b'"x":1', b'"x":' + number), *[plain] * 9)
        == [True] * 9 + [False] + [True] * 9
    )


@pytest.mark.parametrize(
    ("plain", "odd"),
    [
        (b'{"id":"a",",":1}', b'{"id":"b",":x":NaN}'),
        (b'{"id":"a",",":1,", ":2,"k":"b"}', b'{"id":"a",":x":1,"k":"b", ":x":2}'),
        (b'{"id":"a",":1,":2,"k":"b"}', b'{"id":"a","k":1,":y":1,"k":"b"}'),
    ],
)
def test_names_that_look_like_what_lies_between_texts_hide_nothing(plain: bytes, odd: bytes) -> None:
    assert not taken(*[plain] * 9, odd)[9]


def test_fields_with_dots_and_spaces_in_their_names_are_counted_too() -> None:
    assert all(taken(*[PLAIN[:-1] + b',"a.b":1,"c d":"x","e-f":true}'] * 9))


def test_a_slice_of_plain_records_alone_is_taken() -> None:
    block = decode_block(SCHEMA, pa.array([b'"}', *[PLAIN] * 20, b'{"'], pa.binary()).slice(1, 20))
    assert block.taken.all()
    assert block.columns[0].to_pylist() == ["a"] * 20


def test_columns_of_a_slice_are_those_of_its_records() -> None:
    records = pa.array([b"", b"{", *OTHERS, *[PLAIN] * 4, b"x"], pa.binary())
    block = decode_block(SCHEMA, records.slice(2, len(OTHERS) + 4))
    assert block.taken.all()
    assert block.columns[0].to_pylist() == ["b", "é", "c", "c", None, "", "d", *["a"] * 4]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_however_arrow_lays_out_the_bytes(kind: pa.DataType) -> None:
    block = decode_block(SCHEMA, pa.array([b"", *OTHERS, *[PLAIN] * 4], kind).slice(1))
    assert block.taken.all()
    assert block.columns[0].to_pylist() == ["b", "é", "c", "c", None, "", "d", *["a"] * 4]


def test_fields_that_the_first_records_lack_are_left_to_the_reference_decoder() -> None:
    assert taken(*[PLAIN] * 20, b'{"id":"a","unheard of":1}', PLAIN) == [True] * 20 + [False, True]


def test_a_thousand_unheard_of_fields_make_no_thousand_columns() -> None:
    found = taken(*(b'{"id":"a","f%d":1}' % number for number in range(1000)))
    assert sum(found) <= 16
    wide = json.dumps({f"f{number}": 1 for number in range(300)}).encode()
    assert not any(taken(*[wide] * 9))


def test_a_source_without_columns_of_its_own_takes_its_records() -> None:
    schema = Source("s", schema="v int", event_time="_timestamp").resolve().schema
    assert decode_block(schema, pa.array([b'{"other":"x"}'] * 9, pa.binary())).taken.all()
