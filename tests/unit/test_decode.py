"""Decoding: the layers' decoder agrees with the oracle's, and a block decodes as its values do."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideline.decode import decode_values
from tideline.decode_record import MAX_VALUE_BYTES, Dead, convert, parse_record
from tideline.oracle.decode import PartitionDecoder, Refused, read_event
from tideline.source import Source, SourceDefinition
from tideline.types import Column, ColumnType, parse_type, to_wire

TYPES = [
    "string",
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "bigint",
    "float",
    "double",
    "decimal(10,2)",
    "decimal(38,0)",
    "decimal(38,38)",
    "decimal(5,5)",
    "decimal(20,18)",
    "decimal(36,2)",
    "timestamp",
    "date",
    "binary",
]
STAMP = 1_600_000_000_000_000
MANY = 8  # so many times a record over, and it is decoded as a block

_TEXTS = r"""
null true false 0 -0 1 -1 127 128 -128 -129 255 32767 32768 -32768 -32769 2147483647 2147483648
-2147483648 -2147483649 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809
1e0 1E+2 -1.5e-3 0.0 -0.0 1.0 1.10 12.345 12.340 0.1 99999999.99 99999999.995 100000000.00 99999999.991
1e7 1e8 1e-2 1e-3 123e-5 1e38 1e37 0e400 0e-400 1e0005 1e999 1e-999 1.7976931348623157e308
1.7976931348623159e308 4.9e-324 1e-400 3.4028235e38 3.4028236e38 16777217 9007199254740993 0.5e-45 00 01
+1 .5 1. 1.e2 0x10 1_000 NaN Infinity -Infinity nan "" " " "a" "é" "\u00e9" "\ud83d\ude00" "\ud800"
"\udc00\ud800" "\u0000" "true" "1" "-1" "1.5" " 1" "1 " "+1" "007" "1e3" "1,5" "NaN" "Infinity" "-0.00"
"0.001" "1.230" "१" "１" "1e1000" "." [] {} [1] {"a":1} [[[]]] "2020-01-01" "2020-02-30" "2020-1-1"
"0000-01-01" "0001-01-01" "9999-12-31" "10000-01-01" "-2020-01-01" "2020-01-01T00:00"
"2020-01-01T00:00:00" "2020-01-01T00:00:00Z" "2020-01-01T00:00:00z" "2020-01-01t00:00:00"
"2020-01-01#00:00:00" "2020-01-01T00:00:00.1" "2020-01-01T00:00:00.123456Z"
"2020-01-01T00:00:00.1234567Z" "2020-01-01T00:00:00." "2020-01-01T24:00:00" "2020-01-01T23:59:60"
"2020-01-01T23:60:00" "2020-01-01T00:00:00+00:00" "2020-01-01T00:00:00+05:30" "2020-01-01T00:00:00-23:59"
"2020-01-01T00:00:00+24:00" "2020-01-01T00:00:00+05:60" "2020-01-01T00:00:00+0530"
"2020-01-01T00:00:00+05" "2020-01-01T00Z" "0001-01-01T00:00:00+00:01" "0001-01-01T00:00:00Z"
"9999-12-31T23:59:59.999999Z" "9999-12-31T23:59:59-00:01" "0000-12-31T23:59:59-01:00"
"2020-02-29T12:00:00" "2019-02-29T12:00:00" "1969-12-31T23:59:59.999999Z" "1582-10-10T00:00:00"
"२०२०-01-01" "2020-01-01T00:00:00ZZ" "YQ==" "YWI=" "YWJj" "YQ" "YQ=" "YQ===" "=" "====" "YWJj="
"YQ==YQ==" "Y-_=" "YR==" "YW\nJj" "é"
"""
HOSTILE = _TEXTS.split()
HOSTILE += [
    '"2020-01-01 00:00:00"',
    '" 2020-01-01 00:00:00"',
    '"2020-01-01 00:00:00 "',
    '"2020-01-01 00:00:00\\n"',
    '"1\\n"',
    '"2020-01-01\\n"',
    "1" * 39,
    "1" * 309,
    "1" * 401,
    "1" * 5000,
    f"1.{'0' * 400}",
    f"1.{'0' * 401}",
    f'"{"0" * 400}1"',
    f'"{"0" * 399}1"',
    f"0.{'0' * 38}1",
    f"0.{'1' * 38}",
    f'"{"9" * 38}"',
    f'"{"9" * 39}"',
    "9" * 36,
    f"{'9' * 34}.01",
    "100",
    f"3.{2**128 - 3 * 10**38}",
    f'"3.{2**128 - 3 * 10**38}"',
    f'"00003.{2**128 - 3 * 10**38}"',
    f"3.4{5 * 10**36 + 2**128 - 34 * 10**37}",
]

RECORDS: list[bytes | None] = [
    None,
    b"",
    b" ",
    b"{}",
    b"null",
    b"[]",
    b"1",
    b'"x"',
    b"{",
    b'{"v":}',
    b'{"v":1',
    b'{"v":1}}',
    b'{"v":1} x',
    b' {"v":1}\n',
    b'{"v":1,}',
    b'{"v":1,"v":1}',
    b'{"a":{"x":1,"x":2},"v":1}',
    b'{"a":NaN,"v":1}',
    b'{"a":[Infinity]}',
    b"{'v':1}",
    b"{v:1}",
    b'\xef\xbb\xbf{"v":1}',
    b'{"v":"\xff"}',
    b'{"v":"\xed\xa0\x80"}',
    b'{"v":"\xc0\x80"}',
    b'{"a":"\x01"}',
    b'{"a":"\t"}',
    b'{"v":1}\x00',
    '{"v":1}'.encode("utf-16"),
    b'{"\\ud800":1,"v":1}',
    b'{"a":"\\ud800","v":1}',
    b'{"a":' + b"1" * 4301 + b"}",
    b'{"a":' + b"[" * 99 + b"]" * 99 + b"}",
    b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
    b"[" * 100_000,
    b'{"a":"' + b"[" * 500 + b'"}',
    b'{"a":"\\"' + b"[" * 500 + b'"}',
    b'{"a":[' + b"[]," * 500 + b"[]]}",
    b'{"a":' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
    b'{"a":"' + b"x" * (MAX_VALUE_BYTES - 8) + b'"}',
    b'{"a":"' + b"x" * (MAX_VALUE_BYTES - 7) + b'"}',
    b'{"V":1}',
    b'{"v":1,"V":2}',
    b'{"":1}',
    b'{"v":null}',
]


def source(kind: str, **options: Any) -> SourceDefinition:
    return Source("s", schema=f"v {kind}", event_time="_timestamp", **options).resolve()


def decoded(
    definition: SourceDefinition, values: list[bytes | None], stamp: int = STAMP
) -> tuple[list[pa.Array], pa.Array]:
    """Columns and reasons."""
    times = pa.array([stamp] * len(values), pa.timestamp("us", "UTC"))
    return decode_values(definition, pa.array(values, pa.binary()), times)


def layers(definition: SourceDefinition, values: list[bytes | None], stamp: int = STAMP) -> list[list[Any] | None]:
    """What the layers make of the records, alike in a few and in many: wire values, None for a dead letter."""
    few, many = wires(definition, values, stamp), wires(definition, values * MANY, stamp)
    assert list(map(repr, many)) == list(map(repr, few * MANY))
    return few


def wires(definition: SourceDefinition, values: list[bytes | None], stamp: int) -> list[list[Any] | None]:
    """What the layers make of one block."""
    columns, reasons = decoded(definition, values, stamp)
    found = [
        [to_wire(column.type, item) for item in array.to_pylist()]
        for column, array in zip(definition.schema, columns, strict=True)
    ]
    return [
        None if reason else list(row)
        for reason, row in zip(reasons.to_pylist(), zip(*found, strict=True), strict=False)
    ]


def oracle(definition: SourceDefinition, values: list[bytes | None], stamp: int = STAMP) -> list[list[Any] | None]:
    """What the oracle makes of them, in the same form."""
    found: list[list[Any] | None] = []
    for value in values:
        try:
            row = read_event(definition, value, stamp)
            found.append([to_wire(column.type, item) for column, item in zip(definition.schema, row, strict=True)])
        except Refused:
            found.append(None)
    return found


def record(text: str) -> bytes:
    return ('{"v":' + text + "}").encode()


@pytest.mark.parametrize("kind", TYPES)
def test_both_decoders_agree_on_hostile_values(kind: str) -> None:
    definition, values = source(kind), [record(text) for text in HOSTILE]
    expected = oracle(definition, values)
    one_by_one = [layers(definition, [value])[0] for value in values]
    assert dict(zip(HOSTILE, map(repr, one_by_one), strict=True)) == dict(
        zip(HOSTILE, map(repr, expected), strict=False)
    )
    assert layers(definition, values) == one_by_one, "a block must decode as its records do"


@pytest.mark.parametrize("kind", ["int", "string"])
def test_both_decoders_agree_on_hostile_records(kind: str) -> None:
    definition = source(kind)
    for value in RECORDS:
        assert layers(definition, [value]) == oracle(definition, [value]), (value or b"")[:60]


def test_a_float_that_underflows_has_no_sign() -> None:
    for values in ([b'{"v":-1e-50}'], [b'{"v":-1e-50}'] * 20):
        columns, _ = decoded(source("float"), values)
        assert repr(columns[0].to_pylist()) == repr([0.0] * len(values))


def test_a_broken_record_is_judged_in_linear_time() -> None:
    begin = time.perf_counter()
    assert wires(source("int"), [b"[" * 200 + b'"' + b'\\"' * 500_000], STAMP) == [None]
    assert time.perf_counter() - begin < 2


DIGITS = st.text("0123456789", min_size=1, max_size=42)
NUMBERS = st.builds(
    lambda sign, whole, part, exponent: sign + whole + part + exponent,
    st.sampled_from(["", "-"]),
    DIGITS.map(lambda text: text.lstrip("0") or "0"),
    st.one_of(st.just(""), DIGITS.map(".{}".format)),
    st.one_of(st.just(""), st.integers(-45, 45).map("e{}".format)),
)
TIMES = st.builds(
    lambda day, gap, clock, part, zone: day + gap + clock + part + zone,
    st.dates().map(str),
    st.sampled_from(["T", " "]),
    st.times().map(lambda t: f"{t:%H:%M:%S}"),
    st.one_of(st.just(""), st.integers(0, 9_999_999).map(".{}".format)),
    st.sampled_from(["", "Z", "+00:00", "-05:30", "+14:00", "+23:59", "-23:59", "+24:00"]),
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.binary(max_size=9).map(lambda b: __import__("base64").b64encode(b).decode()),
    st.dates().map(str),
    TIMES,
)
JSON_TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    NUMBERS,
    NUMBERS.map(json.dumps),
    TIMES.map(json.dumps),
    PLAIN.map(json.dumps),
    st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3)).map(json.dumps),
)


@settings(max_examples=600, deadline=None)
@given(kind=st.sampled_from(TYPES), texts=st.lists(JSON_TEXTS, min_size=1, max_size=6))
def test_both_decoders_agree_on_any_json(kind: str, texts: list[str]) -> None:
    definition, values = source(kind), [record(text) for text in texts]
    assert list(map(repr, layers(definition, values))) == list(map(repr, oracle(definition, values)))


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(["decimal(10,2)", "decimal(38,10)", "timestamp", "int", "string"]), data=st.data())
def test_a_whole_column_converts_as_its_values_do(kind: str, data: st.DataObject) -> None:
    texts = {"timestamp": TIMES.map(json.dumps), "int": st.integers(-(2**32), 2**32).map(str)}.get(
        kind,
        st.text(max_size=5).map(json.dumps) if kind == "string" else st.one_of(NUMBERS, NUMBERS.map(json.dumps)),
    )
    values = [record(text) for text in data.draw(st.lists(st.one_of(st.just("null"), texts), min_size=1, max_size=8))]
    column = Column("v", parse_type(kind))
    expected = []
    for value in values:
        try:
            expected.append([to_wire(column.type, convert(column, parse_record(value)["v"]))])
        except Dead:
            expected.append(None)
    assert layers(source(kind), values) == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_are_an_event_or_a_dead_letter(value: bytes) -> None:
    definition = source("string")
    assert layers(definition, [value]) == oracle(definition, [value])


def test_a_dead_letter_says_which_column_and_why() -> None:
    definition = Source(
        "s", schema="id int, at timestamp, price decimal(5,2)", event_id="id", event_time="at"
    ).resolve()
    cases = {
        b"": "empty value",
        b"{": "not JSON",
        b"[1]": "not a JSON object",
        b'{"id":1,"id":1}': "repeated field",
        b'{"id":"1"}': "id: not a value of type int",
        b'{"id":3000000000}': "id: outside the range of int",
        b'{"at":"2020-01-01T00:00:00Z"}': "missing event id",
        b'{"id":1}': "missing event time",
        b'{"id":1,"at":"2020-09-16T00:00:00Z"}': "event time too far ahead of the record's",
        b'{"id":1,"at":"2020-01-01T00:00:00Z","price":1.234}': "price: more decimals than decimal(5,2)",
        b'{"id":1,"at":"2020-01-01T00:00:00Z","price":NaN}': "not JSON: NaN is not a number",
        b'{"id":"\xff"}': "not UTF-8",
    }
    columns, reasons = decoded(definition, list(cases))
    assert dict(zip(cases, reasons.to_pylist(), strict=True)) == cases
    assert all(column.null_count == len(cases) for column in columns)


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_event_times_are_bounded_by_the_record_s_own(shift: int) -> None:
    definition = Source(
        "s", schema="at timestamp", event_time="at", max_behind=Source("x", "a int", "a").max_ahead
    ).resolve()
    day = 86_400_000_000
    for stamp in (STAMP + day + shift, STAMP - day + shift):
        value: list[bytes | None] = [b'{"at":"2020-09-13T12:26:40Z"}']
        assert layers(definition, value, stamp) == oracle(definition, value, stamp)


def test_the_oracle_counts_repeats_within_the_horizon() -> None:
    decoder = PartitionDecoder(source("int", event_id="v", horizon=2))
    for index, (offset, text) in enumerate([(0, "1"), (2, "1"), (3, "2"), (4, "1"), (7, "1"), (8, '"x"'), (9, "null")]):
        decoder.add(index, offset, STAMP, record(text))
    assert decoder.found.positions == [0, 2, 4]
    assert (decoder.found.events, decoder.found.duplicates, decoder.found.dead) == (3, 2, 2)


CORRECTED = Source(
    "s", schema="id int, op string, at timestamp", event_id="id", event_time="at", operation="op"
).resolve()


@pytest.mark.parametrize(
    "said", ['"insert"', '"retract"', "null", '"INSERT"', '""', '" retract"', '"delete"', "1", "{}"]
)
def test_an_operation_is_insert_retract_or_null_for_both_decoders(said: str) -> None:
    values: list[bytes | None] = [
        b'{"id":1,"at":"2020-09-13T12:26:40Z"}',
        f'{{"id":1,"at":"2020-09-13T12:26:40Z","op":{said}}}'.encode(),
    ]
    assert layers(CORRECTED, values) == oracle(CORRECTED, values)
    _, [first, reason] = decoded(CORRECTED, values)
    assert not first.is_valid
    if said in ('"insert"', '"retract"', "null"):
        assert not reason.is_valid
    else:
        expected = "op: neither insert nor retract" if said.startswith('"') else "op: not a value of type string"
        assert reason.as_py() == expected


def test_a_retraction_repeats_no_insertion_and_each_repeats_itself() -> None:
    decoder = PartitionDecoder(CORRECTED)
    log = [(1, "insert"), (1, "retract"), (1, None), (2, "retract"), (1, "retract"), (2, None)]
    for index, (id, said) in enumerate(log):
        decoder.add(index, index, STAMP, json.dumps({"id": id, "op": said, "at": "2020-09-13T12:26:40Z"}).encode())
    assert (decoder.found.positions, decoder.found.duplicates) == ([0, 1, 3, 5], 2)


def test_a_source_without_an_operation_is_what_it_was_before_there_were_any() -> None:
    plain = Source("s", schema="id string, n int, at timestamp", event_time="at", event_id="id").resolve()
    assert "operation" not in plain.to_json()
    assert plain.fingerprint == "4140f9bc73abf8c2"
    assert SourceDefinition.from_json(CORRECTED.to_json()) == CORRECTED
    assert CORRECTED.fingerprint != replace(CORRECTED, operation=None).fingerprint


def test_arrow_types_hold_what_is_decoded() -> None:
    for kind in TYPES:
        columns, _ = decoded(source(kind), [b"{}"])
        assert columns[0].null_count == 1, ColumnType(kind)
