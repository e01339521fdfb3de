"""Erased ids: what their hashes match, in both decoders, and what of them a source's declaration keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_layer.erase import check_ids
from tideline.decode import decode_values
from tideline.erased import KEY_COLUMN, Erased, text_of
from tideline.errors import UsageError
from tideline.ledger import Ledger
from tideline.oracle.decode import Refused, read_event
from tideline.source import Source, SourceDefinition

ID = "9f86d081884c7d659a2feaa0c55ad015"
STAMP = 1_600_000_000_000_000


def source(*ids: tuple[str, str], kind: str = "string") -> SourceDefinition:
    plain = Source("s", schema=f"customer {kind}, amount int", event_time="_timestamp").resolve()
    return replace(plain, erased=Erased.none_yet().adding(ids)) if ids else plain


def reason(
    definition: SourceDefinition, value: bytes | None, key: bytes | None = None, headers: Any = None
) -> str | None:
    times = pa.array([STAMP], pa.timestamp("us", "UTC"))
    columns, reasons = decode_values(definition, pa.array([value], pa.binary()), times, [key], [headers])
    found: str | None = reasons[0].as_py()
    assert found is None or all(column.null_count == 1 for column in columns)
    return found


ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in ID).encode()


@pytest.mark.parametrize(
    ("value", "key", "headers", "expected"),
    [
        (b'{"customer": "%s", "amount": 1}' % ID.encode(), None, None, "erased"),
        (b'{"customer": "%s", "amount": 1}' % ESCAPED, None, None, "erased"),
        (b'{"customer": "%s", "amount": "no number"}' % ID.encode(), None, None, "erased"),
        (b'{"customer": "%s", "amount": 1' % ID.encode(), None, None, "erased"),
        (b'{"customer": "%s", "amount": 1' % ESCAPED, None, None, "erased"),
        (b'\xff{"customer": "%s"}' % ID.encode(), None, None, "erased"),
        (b"\xff%s\xfe" % ID.encode(), None, None, "erased"),
        (b'["order of %s, today"]' % ID.encode(), None, None, "erased"),
        (None, ID.encode(), None, "erased"),
        (b"junk", b"42", [{"key": "who", "value": ID.encode()}], "erased"),
        (b"junk", b"42", [{"key": "who", "value": None}], "not JSON"),
        (b'{"customer": "%sx", "amount": 1}' % ID.encode(), None, None, None),
        (b'{"customer": "c1", "amount": 1}', ID.encode(), None, None),
        (b'{"customer": "c1", "amount": "no number"}', None, None, "amount: not a value of type int"),
        (b'{"customer": null, "amount": 1}', None, None, None),
    ],
)
def test_an_erased_id_is_found_where_it_stands(
    value: bytes | None, key: bytes | None, headers: Any, expected: str | None
) -> None:
    assert reason(source(("customer", ID)), value, key, headers) == expected


def test_a_records_own_key_may_hold_the_id() -> None:
    definition = source((KEY_COLUMN, ID))
    event = b'{"customer": "c1", "amount": 1}'
    assert reason(definition, event, ID.encode()) == "erased"
    assert reason(definition, event, b"\xff") is None
    assert reason(definition, b'{"customer": "%s", "amount": 1}' % ID.encode(), b"c1") is None
    with pytest.raises(Refused, match="erased"):
        read_event(definition, event, STAMP, ID.encode())
    assert read_event(definition, event, STAMP, b"c1") == ["c1", 1]


@pytest.mark.parametrize("kind", ["int", "bigint", "string"])
def test_a_whole_number_is_known_by_its_digits_whatever_type_its_column_gets(kind: str) -> None:
    definition = source(("customer", "17850"), kind=kind)
    assert reason(definition, b'{"customer": 17850, "amount": 1}') == "erased"
    assert reason(definition, b'{"customer": "17850", "amount": 1}') == "erased"
    assert reason(definition, b'{"customer": 17850.0, "amount": 1}') != "erased"
    assert reason(definition, b'{"customer": true, "amount": 1}') != "erased"
    assert reason(definition, b'{"customer": 178500, "amount": 1}') != "erased"


IDS = st.sampled_from(["a", "1", "17850", "Ελλάδα", 'quo"ted', "back\\slash", ID])
VALUES = st.one_of(IDS, st.integers(-5, 20_000), st.none(), st.booleans(), st.floats(allow_nan=False), st.text())


@given(st.sets(IDS, min_size=1), VALUES, st.booleans(), st.one_of(st.none(), IDS))
def test_both_decoders_agree_on_what_is_erased(ids: set[str], value: Any, escape: bool, key: str | None) -> None:
    definition = source(*(("customer", id) for id in ids), (KEY_COLUMN, "a"))
    record = json.dumps({"customer": value, "amount": 1}, ensure_ascii=escape).encode("utf-8", "replace")
    raw = None if key is None else key.encode()
    try:
        read_event(definition, record, STAMP, raw)
        refused = None
    except Refused as why:
        refused = str(why)
    found = reason(definition, record, raw)
    assert (found is None) == (refused is None)
    named = text_of(value) in ids or key == "a"
    assert (refused == "erased") == named
    assert found == "erased" or not named
    assert found != "erased" or refused is not None


def test_a_declaration_keeps_hashes_and_never_ids() -> None:
    definition = source(("customer", ID), ("customer", "somebody"), (KEY_COLUMN, ID))
    text = json.dumps(definition.to_json())
    assert ID not in text
    assert "somebody" not in text
    assert SourceDefinition.from_json(json.loads(text)) == definition
    assert json.loads(text) == definition.to_json()


def test_a_declaration_with_other_erased_ids_is_another_one() -> None:
    plain = Source("s", schema="customer string, amount int", event_time="_timestamp").resolve()
    erased = Erased.none_yet()
    one, two = erased.adding([("customer", "a")]), erased.adding([("customer", "a"), ("customer", "b")])
    found = {replace(plain, erased=ids).fingerprint for ids in (None, one, two)}
    assert len(found) == 3
    assert two.adding([("customer", "a")]) is two
    assert one.adding([("customer", "b")]) == two
    assert "erased" not in plain.to_json()


def test_hashes_of_two_sources_cannot_be_compared() -> None:
    assert Erased.none_yet().hash(ID) != Erased.none_yet().hash(ID)


@pytest.mark.parametrize(
    ("name", "column", "text", "condition"),
    [
        ("nothing", "customer", ID, "UNKNOWN_SOURCE"),
        ("s", "nobody", ID, "UNKNOWN_COLUMN"),
        ("s", "score", ID, "UNKNOWN_COLUMN"),
        ("s", "number", ID, "BAD_ID"),
        ("s", "number", "007", "BAD_ID"),
        ("s", "customer", "", "BAD_ID"),
    ],
)
def test_an_id_that_nothing_could_hold_is_refused_without_being_repeated(
    name: str, column: str, text: str, condition: str
) -> None:
    schema = "customer string, number bigint, score double"
    plain = Source("s", schema=schema, event_time="_timestamp").resolve()
    ledger = replace(Ledger.create("x"), sources={"s": plain.to_json()})
    check_ids(ledger, "s", [("customer", ID), ("number", "17850"), ("number", "-3"), (KEY_COLUMN, ID)])
    with pytest.raises(UsageError) as refused:
        check_ids(ledger, name, [("customer", ID), (column, text)])
    assert refused.value.condition == condition
    assert ID not in json.dumps(refused.value.to_json())


def test_a_column_that_left_the_schema_can_still_be_named() -> None:
    plain = Source("s", schema="amount int", event_time="_timestamp").resolve()
    erased = replace(plain, erased=Erased.none_yet().adding([("customer", "a")]))
    check_ids(replace(Ledger.create("x"), sources={"s": erased.to_json()}), "s", [("customer", "b")])
