"""Schemas that change: what widens, and what takes something away."""

from __future__ import annotations

from typing import Any

import pytest

from tideline.decode_record import Dead, convert, parse_record
from tideline.narrowing import narrower, takes
from tideline.source import Source, SourceDefinition
from tideline.types import Column, parse_type

TYPES = [
    *("tinyint", "smallint", "int", "bigint", "float", "double", "string", "boolean", "date", "timestamp", "binary"),
    *("decimal(3,0)", "decimal(5,2)", "decimal(10,2)", "decimal(12,2)", "decimal(12,4)", "decimal(19,0)"),
    *("decimal(20,0)", "decimal(38,10)"),
]
VALUES = [
    *("0", "-128", "127", "128", "32767", "-32769", "2147483647", "9223372036854775807", "9007199254740993"),
    *("16777217", "1.5", "12.34", "-999.99", "99999999.99", "0.0001", "1e3", "3.5e38", '"12.34"', '"a"', "true"),
    *('"2011-12-09"', '"2011-12-09T00:00:00Z"', '"aGk="', "999"),
]


def source(schema: str) -> SourceDefinition:
    return Source("s", schema=schema + ", at timestamp", event_time="at").resolve()


def decoded(kind: str, value: str) -> Any:
    """What a column of this type makes of a JSON value; None where the record is a dead letter."""
    try:
        return convert(Column("x", parse_type(kind)), parse_record(f'{{"x":{value}}}'.encode())["x"])
    except Dead:
        return None


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_that_takes_another_decodes_whatever_the_other_does_to_an_equal_value(kind: str) -> None:
    for wide in TYPES:
        if not takes(parse_type(wide), parse_type(kind)):
            continue
        for value in VALUES:
            found, expected = (decoded(one, value) for one in (wide, kind))
            if expected is not None and (kind, wide) != ("float", "double"):
                assert found == expected, (wide, value)


@pytest.mark.parametrize(
    "kind, wide",
    [
        ("int", "bigint"),
        ("smallint", "float"),
        ("int", "double"),
        ("int", "decimal(12,2)"),
        ("bigint", "decimal(19,0)"),
        ("float", "double"),
        ("decimal(5,2)", "decimal(10,2)"),
        ("decimal(10,2)", "decimal(12,4)"),
    ],
)
def test_widening(kind: str, wide: str) -> None:
    assert takes(parse_type(wide), parse_type(kind))
    assert not takes(parse_type(kind), parse_type(wide))
    assert narrower(source(f"x {kind}"), source(f"x {wide}, y string")) == []


@pytest.mark.parametrize(
    "kind, other",
    [
        ("bigint", "double"),
        ("int", "float"),
        ("decimal(10,2)", "decimal(10,4)"),
        ("decimal(10,2)", "double"),
        ("int", "string"),
        ("date", "timestamp"),
        ("int", "decimal(10,2)"),
    ],
)
def test_a_type_that_some_value_does_not_fit_is_narrower(kind: str, other: str) -> None:
    (loss,) = narrower(source(f"x {kind}"), source(f"x {other}"))
    assert (loss.condition, loss.column, loss.before.sql) == ("COLUMN_NARROWER", "x", parse_type(kind).sql)


def test_a_dropped_column_is_named_with_what_may_be_its_new_name() -> None:
    (loss,) = narrower(source("x int, note string"), source("z bigint, x int, remark string"))
    assert (loss.condition, loss.column, loss.like) == ("COLUMN_DROPPED", "note", ("remark",))
    assert "renamed remark" in str(loss)
