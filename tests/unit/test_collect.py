"""Values of Arrow columns as Python has them, by the quick way and the slow one."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pytest

from tideline.collect import collect, python_values
from tideline.definition import ViewDefinition
from tideline.fold_plan import FoldPlan
from tideline.measures import CountBy
from tideline.source import Source
from tideline.types import STRING, parse_schema

COLUMNS = [
    pa.array([1, 2, 3]),
    pa.array([1, None, 3]),
    pa.array([2**63 - 1, -(2**63), 0]),
    pa.array([1, 2, 3], pa.int32()),
    pa.array([1.5, math.nan, -0.0]),
    pa.array([1.5, None, math.inf]),
    pa.array([1.5, 2.5, 3.5], pa.float32()),
    pa.array(["a", "", None, "\u00e9\0x"]),
    pa.array([None, None, None], pa.int64()),
    pa.array([None, None, None], pa.string()),
    pa.array([b"a", None, b""]),
    pa.array([True, False, True]),
    pa.array([Decimal("1.20"), None, Decimal("3.00")]),
    pa.array([{"a": 1}, None, {"a": 2}]),
    pa.array([dt.datetime(2020, 1, 1)] * 3, pa.timestamp("us", "UTC")),
    pa.array([], pa.int64()),
    pa.array([], pa.string()),
]


def test_decimals_without_a_fraction_are_equal_numbers() -> None:
    for values in ([5, -7, 0], [5, None], [10**30, 1], [2**63 - 1, -(2**63)], [2**63]):
        column = pa.array([None if value is None else Decimal(value) for value in values], pa.decimal128(38, 0))
        assert python_values(pa.chunked_array([column])) == values


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_values_are_those_of_to_pylist(column: pa.Array) -> None:
    chunks = pa.chunked_array([column.slice(1), column.slice(0, 2)])
    found, expected = python_values(chunks), chunks.to_pylist()
    assert repr(found) == repr(expected)
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_categories_of_a_key_that_is_no_number_are_kept() -> None:
    source = Source("s", schema="x double, kind string, at timestamp", event_time="at").resolve()
    made = ViewDefinition(
        "v",
        "s",
        "a" * 16,
        parse_schema("x double"),
        None,
        None,
        {"kinds": CountBy("kind").resolve(STRING)},
        {},
        {},
        None,
    )
    plan = FoldPlan(source, [made])
    (planned,) = plan.planned
    columns = {planned.key_slots[0]: ["NaN", "NaN", "1.5"], "bucket": [None] * 3, "entry": [0, 1, 0]}
    entries = {"entry_text": [None, "cup", None], "entry_number": [None] * 3, "weight": [0, 3, 0]}
    (row, other) = collect(plan, {planned.index: pa.table({**columns, **entries})}).rows[made.fingerprint]
    assert (math.isnan(row[0][0]), list(row[2])) == (True, [{"cup": 3}])
    assert (other[0], list(other[2])) == ((1.5,), [{}])


def test_text_that_is_not_utf8_is_a_fault_of_the_value() -> None:
    broken = pa.array([b"a", b"\xff\xfe"]).view(pa.string())
    with pytest.raises(UnicodeDecodeError):
        python_values(pa.chunked_array([broken]))
