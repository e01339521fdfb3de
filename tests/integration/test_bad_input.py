"""Bad records become dead letters: their bytes and reason kept, counted once, and nothing stops."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import Any

import pytest
from cases import SCHEMA, few_views, make_events, make_source
from exposition import Family, parse
from faults import Crash, crash_at, do_at
from installed import Installed

from serving_layer.reader import Reader
from tideline import days
from tideline.cli.main import main
from tideline.dead_letters import DeadLetter, find, replay
from tideline.eventfiles import Event
from tideline.produce import Sender
from tideline.runtime.reading import read_records

NOW = dt.datetime.now(dt.timezone.utc)
GOOD = {
    "id": "good",
    "kind": "buy",
    "country": "FR",
    "amount": 1.5,
    "quantity": 2,
    "score": 1.0,
    "at": NOW.isoformat(),
}


def but(**changes: Any) -> bytes:
    """The good event with other fields."""
    return json.dumps({**GOOD, **changes}).encode()


BAD: dict[str, list[bytes | None]] = {
    "not JSON": [b'{"id": "b1", "kind"', b"{} trailing"],
    "not a JSON object": [b"[1, 2]"],
    "repeated field": [b'{"id": "a", "id": "b"}'],
    "quantity: not a value of type int": [but(quantity="three"), but(quantity=2.5), but(quantity=True)],
    "kind: not a value of type string": [but(kind=7)],
    "missing event id": [but(id=None), json.dumps({"at": GOOD["at"]}).encode()],
    "missing event time": [but(at=None), b'{"id": "b2"}'],
    "at: not a value of type timestamp": [but(at="yesterday"), but(at=1323435600)],
    "empty value": [b"", None],
    "larger than 1048576 bytes": [but(kind="x" * 5_000_000)],
    "quantity: outside the range of int": [but(quantity=2**31), but(quantity=-(2**80))],
    "amount: outside the range of decimal(10,2)": [but(amount=10**8)],
    "amount: more decimals than decimal(10,2)": [but(amount=1.005)],
    "not JSON: NaN is not a number": [but(score=float("nan"))],
    "not JSON: Infinity is not a number": [but(score=float("inf"))],
    "score: outside the range of double": [but(score=1).replace(b'"score": 1', b'"score": 1e999')],
    "not UTF-8": [b'{"id": "\xff\xfe"}'],
    "event time too far ahead of the record's": [but(at="2099-01-01T00:00:00Z")],
    "event time too far behind the record's": [but(at="1999-01-01T00:00:00Z")],
}
RECORDS = [value for values in BAD.values() for value in values]
REASONS = {reason: len(values) for reason, values in BAD.items()}


@pytest.fixture
def applied(installed: Installed) -> Installed:
    source = make_source(installed.topic, max_ahead=days(1), max_behind=days(1000))
    installed.apply(*few_views(source))
    installed.home.write_status("kafka", {"bootstrap": installed.bootstrap})
    return installed


def good_events(count: int, seed: int) -> list[dict[str, Any]]:
    return [{**event, "at": NOW.isoformat()} for event in make_events(count, seed, seed * 1000)]


def letters(installed: Installed, **options: Any) -> list[DeadLetter]:
    chosen = {"source": None, "reason": None, "places": [], "limit": 1000, **options}
    return find(installed.home, installed.ledger, installed.bootstrap, **chosen)


def dead(installed: Installed) -> dict[str, int]:
    """By reason; Prometheus gets them by what stands before the colon."""
    with Reader(installed.home, store=installed.store) as reader:
        found: dict[str, int] = reader.status()["dead_letters"]["events"]
        told = parse(reader.metrics()).get("tideline_dead_letters_total", Family("counter", ""))
    classes: Counter[str] = Counter()
    for reason, count in found.items():
        classes[reason.partition(":")[0]] += count
    assert {reason: told.value(source="events", reason=reason) for reason in classes} == classes
    assert len(told.samples) == len(classes)
    return found


def test_every_bad_record_is_a_dead_letter_with_its_reason_before_and_after_it_is_archived(
    applied: Installed,
) -> None:
    with applied.speed() as speed:
        applied.send(good_events(20, 1))
        applied.send(RECORDS)
        applied.send(good_events(20, 2))
        applied.wait_committed()
        assert not speed.ended
        assert dead(applied) == REASONS
        assert applied.answers("totals")[(), None]["lines"] == 40
        fresh = letters(applied)
        applied.batch()
        assert dead(applied) == REASONS
        assert applied.answers("totals")[(), None]["lines"] == 40
        archived = letters(applied)
        applied.send(RECORDS)
        applied.wait_committed()
        assert dead(applied) == {reason: 2 * count for reason, count in REASONS.items()}
        both = letters(applied)
    assert Counter((letter.reason, letter.value or b"") for letter in fresh) == Counter(
        (reason, value or b"") for reason, values in BAD.items() for value in values
    )
    assert archived == fresh, "the same bytes, place, time and reason"
    assert len(both) == 2 * len(fresh) == len({(letter.partition, letter.offset) for letter in both})
    assert applied.batch(full=True) is not None
    assert dead(applied) == {reason: 2 * count for reason, count in REASONS.items()}
    assert applied.answers("totals")[(), None]["lines"] == 40


def test_dead_letters_are_listed_shown_and_sent_again(applied: Installed, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(applied.home.path)

    def run(*words: str) -> Any:
        capsys.readouterr()
        assert main(["dead-letters", *words, "--home", home, "-o", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    applied.send([*good_events(5, 3), but(quantity="three"), b"\xff", b"junk"])
    applied.batch()
    applied.send([b"more junk"])
    applied.batch_layer._archive = lambda *_: pytest.fail("nothing is archived here")  # type: ignore[method-assign]
    with applied.speed():
        applied.wait_committed()
        listed = run("list")
        assert Counter(letter["reason"] for letter in listed) == Counter(
            {"not JSON": 2, "not UTF-8": 1, "quantity: not a value of type int": 1}
        )
        (wrong,) = run("list", "--reason", "quantity")
        assert json.loads(wrong["value"])["quantity"] == "three"
        assert wrong["bytes"] == len(wrong["value"])
        place = f"{wrong['source']}:{wrong['partition']}:{wrong['offset']}"
        assert run("show", place) == [wrong]
        assert run("list", "--limit", "2") == listed[:2]
        assert run("replay", "--reason", "not JSON") == [{"source": "events", "replayed": 2}]
        applied.wait_committed()
        assert dead(applied) == {"not JSON": 4, "not UTF-8": 1, "quantity: not a value of type int": 1}
        assert applied.answers("totals")[(), None]["lines"] == 5


def test_a_replay_sends_all_that_is_named_whole(applied: Installed) -> None:
    """Before and after it is archived: key, value and headers, and of what was replayed before one place."""
    with applied.speed():
        with Sender(applied.topic, applied.bootstrap) as sender:
            for number in range(120):
                headers = [("trace", b"%d" % number), ("tideline-replay-of", b"9:9")]
                sender.send(Event(b"k%d" % number, b"junk %d" % number), headers)
            sender.send(Event(b"tombstone", None))  # type: ignore[arg-type]
        applied.wait_committed()
        for archived in (False, True):
            begin = applied.log_end
            found = letters(applied)
            assert len(found) == 121 + 120 * archived
            first = [letter for letter in found if ("tideline-replay-of", b"9:9") in letter.headers]
            assert replay(applied.ledger, applied.bootstrap, first) == {"events": 120}
            sent = [
                r for batch in read_records(applied.bootstrap, applied.topic, begin, applied.log_end) for r in batch
            ]
            number_of = {letter.value: f"{letter.partition}:{letter.offset}".encode() for letter in first}
            assert len(sent) == 120
            for record in sent:
                number = record.value[5:]
                said = dict(record.headers)
                assert record.key == b"k" + number
                assert said["trace"] == number
                assert [v for name, v in record.headers if name == "tideline-replay-of"] == [number_of[record.value]]
            applied.wait_committed()
            applied.batch()
    assert replay(applied.ledger, applied.bootstrap, letters(applied, reason="nothing such")) == {}


def test_a_dead_letter_is_listed_once_while_the_master_is_ahead_of_the_ledger(
    applied: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with applied.speed():
        applied.send([*good_events(3, 5), b"junk", b"\xff"])
        applied.wait_committed()
        before = letters(applied)
        with monkeypatch.context() as patch:
            crash_at(patch, "archive.written")
            with pytest.raises(Crash):
                applied.batch()
        assert letters(applied) == before
        assert len(before) == 2


def test_a_replayed_dead_letter_becomes_an_event_once_the_schema_takes_it(
    applied: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [but(id=f"n{number}", quantity=3_000_000_000) for number in range(3)]
    with applied.speed():
        applied.send(good_events(4, 4))
        applied.send(bad, partition=0)  # where a replay without a key goes too
        applied.wait_committed()
        applied.batch()
        assert applied.answers("totals")[(), None]["lines"] == 4
        schema = SCHEMA.replace("quantity int", "quantity bigint")
        applied.apply(*few_views(make_source(applied.topic, max_ahead=days(1), schema=schema)))

        def replay_first() -> None:
            found = letters(applied, reason="quantity")
            assert replay(applied.ledger, applied.bootstrap, found) == {"events": 3}
            applied.send(good_events(1, 6))
            applied.wait_committed()

        with monkeypatch.context() as patch:
            do_at(patch, "batch.sealed", replay_first)
            assert applied.batch()["mode"] == "redecode"
        for _ in range(2):  # beside the generation, then without it
            log = applied.ledger.log()[applied.topic].values()
            counted = sum(stats.events for stats in log), sum(stats.duplicates for stats in log)
            assert counted == (8, 3), "decoded where they lie; what was sent again repeats their ids"
            assert applied.answers("totals")[(), None]["lines"] == 8
            applied.batch()
        assert dead(applied) == {}
