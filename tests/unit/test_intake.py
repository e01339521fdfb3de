"""Events over HTTP, as far as no Kafka is needed: what a body holds, and what of it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_case import Installation, installed

from serving_layer.intake import Intake, IntakeError, split_events
from tideline.errors import TidelineError, UsageError
from tideline.ledger import Ledger
from tideline.runtime.home import Home
from tideline.stores.memory import MemoryStore

EVENT = b'{"country":"France","product":"cup","quantity":1,"amount":1.50,"sold_at":"2011-12-09T12:00:00Z"}'
FIELDS = st.dictionaries(st.text(max_size=4), st.one_of(st.none(), st.integers(), st.text(max_size=4)), max_size=3)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made: Installation = installed(MemoryStore(Ledger.create("site")), 30)
    with made.store.snapshot() as snapshot:
        yield snapshot.ledger


@given(st.lists(FIELDS, min_size=1, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_lines_and_arrays_hold_the_same_events(events: list[dict[str, Any]], indent: int | None, ascii: bool) -> None:
    texts = [json.dumps(event, indent=indent, ensure_ascii=ascii) for event in events]
    expected = [text.encode() for text in texts]
    assert split_events("\n".join(texts).encode()) == expected
    assert split_events("\r\n\r\n".join([*texts, ""]).encode()) == expected
    assert split_events(f" [{' , '.join(texts)}] \n".encode()) == expected
    assert split_events(b"\xef\xbb\xbf" + "\n".join(texts).encode()) == expected


def test_events_are_kept_byte_for_byte() -> None:
    assert split_events(b'[{"a": 1.10, "b":"\\u00e9"} ]') == [b'{"a": 1.10, "b":"\\u00e9"}']


@pytest.mark.parametrize(
    ("body", "condition"),
    [
        (b"", "NO_EVENTS"),
        (b" \n\n", "NO_EVENTS"),
        (b"[]", "NO_EVENTS"),
        (b"{", "EVENTS_NOT_JSON"),
        (b"[{}", "EVENTS_NOT_JSON"),
        (b"[{},", "EVENTS_NOT_JSON"),
        (b"[{} {}]", "EVENTS_NOT_JSON"),
        (b"[{}] {}", "EVENTS_NOT_JSON"),
        (b"{}\n{\n", "EVENTS_NOT_JSON"),
        (b"\xff", "EVENTS_NOT_JSON"),
        (b"[" * 100_000, "EVENTS_NOT_JSON"),
        (b'{"a":' * 100_000, "EVENTS_NOT_JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_holds_none_is_refused(body: bytes, condition: str) -> None:
    with pytest.raises(IntakeError) as refused:
        split_events(body)
    assert refused.value.condition == condition


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b"bad", 1),
        (b"{}\n{}\nbad", 3),
        (b"{}\n{}\n{", 3),
        (b"[{}, {}, bad]", 3),
        (b"[{}, {} {}]", 2),
        (b"[{}, {}", 2),
        (b"[", 1),
    ],
)
def test_the_event_that_is_not_json_is_named_by_its_number(body: bytes, event: int) -> None:
    with pytest.raises(IntakeError) as refused:
        split_events(body)
    assert (refused.value.condition, refused.value.params["event"]) == ("EVENTS_NOT_JSON", event)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (EVENT.replace(b"1.50", b"1.505"), "amount"),
        (EVENT.replace(b"2011-12-09T12:00:00Z", b"yesterday"), "sold_at"),
        (EVENT.replace(b"2011", b"2911"), "too far ahead"),
        (b'{"country":"France"}', "missing event time"),
        (b"5", "object"),
    ],
)
def test_events_that_would_be_dead_letters_are_refused_all(
    ledger: Ledger, tmp_path: Path, event: bytes, reason: str
) -> None:
    with pytest.raises(IntakeError) as refused:
        Intake(Home(tmp_path).prepare()).take(ledger, "sales", EVENT + b"\n" + event)
    params = refused.value.params
    assert (refused.value.condition, params["count"], params["refused"][0]["event"]) == ("BAD_EVENTS", 1, 2)
    assert reason in params["refused"][0]["reason"]


def test_an_unknown_source_is_named_with_those_there_are(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        Intake(Home(tmp_path).prepare()).take(ledger, "sale", EVENT)
    assert refused.value.condition == "UNKNOWN_SOURCE"
    assert (refused.value.params["known"], refused.value.params["similar"]) == (["sales"], ["sales"])


def test_where_kafka_is_has_to_be_known(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(TidelineError) as refused:
        Intake(Home(tmp_path).prepare()).take(ledger, "sales", EVENT)
    assert refused.value.condition == "KAFKA_UNKNOWN"
