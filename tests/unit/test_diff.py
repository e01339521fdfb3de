"""Two definitions of one view, key by key at one cut, over the real store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from serving_case import (
    ALL,
    HOUR,
    HOURLY,
    SALES,
    START,
    TOTALS,
    Event,
    Installation,
    cut_of,
    make_events,
    naive,
    rows_of,
)

from serving_layer.reader import Reader
from tideline.cli.main import main
from tideline.definition import ViewDefinition
from tideline.ledger import Segment
from tideline.merge import segment_items
from tideline.stores.lmdb import LmdbStore

EVENTS = make_events(120)
FIRST, SECOND, THIRD = EVENTS[:50], EVENTS[50:90], EVENTS[90:]
NEW = replace(TOTALS, fingerprint="f" * 16)
NEW_HOURLY = replace(HOURLY, fingerprint="9" * 16)
Views = list[tuple[ViewDefinition, list[Sequence[Event]]]]
FLOOR = START + 24 * HOUR


def counted(events: Sequence[Event]) -> list[Event]:
    """What the new definitions' filter takes: no returns, and nothing of the empty country."""
    return [event for event in events if event.quantity > 0 and event.country != ""]


def publish(installation: Installation, views: Views, floors: dict[str, int]) -> None:
    """A run that builds a segment for each list of events, which join on to each other."""
    store, batch = installation.store, installation.batch
    with store.write() as txn:
        txn.put_ledger(txn.ledger.seal(batch))
    with store.write() as txn:
        ledger = txn.ledger.archive(batch, txn.ledger.sealed, txn.ledger.sources)
        ledger, ids = ledger.allot(batch, sum(len(parts) for _, parts in views))
        txn.put_ledger(ledger)
    fresh, lists, left = [], {}, iter(ids)
    with store.write() as txn:
        for view, parts in views:
            found = list(txn.ledger.version.views.get(view.fingerprint, ()))
            begin = txn.ledger.version.cut if found else txn.ledger.origin
            for part in parts:
                id, end = next(left), cut_of(EVENTS[: EVENTS.index(part[-1]) + 1])
                events = counted(part) if view in (NEW, NEW_HOURLY) else part
                items = segment_items(view, rows_of(view, events))
                txn.load(f"s{id}", items)
                fresh.append(Segment(id, view.fingerprint, begin, end, len(items), "full"))
                found.append(id)
                begin = end
            lists[view.fingerprint] = found
        ledger = txn.ledger
        txn.put_ledger(ledger.publish(batch, ledger.sealed, lists, fresh, ledger.log(), floors=floors))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Version 1 holds the old definitions at the first cut, version 2 the new ones, built in full; events follow."""
    path = tmp_path_factory.mktemp("home")
    with LmdbStore.open(path, create=True) as store:
        installation = Installation(store, [TOTALS, HOURLY, ALL])
        installation.commit(FIRST)
        publish(installation, [(view, [FIRST]) for view in (TOTALS, HOURLY, ALL)], {})
        wanted = (NEW, NEW_HOURLY, ALL)
        with store.write() as txn:
            definitions = {view.fingerprint: view.to_json() for view in wanted}
            names = {view.name: view.fingerprint for view in wanted}
            txn.put_ledger(txn.ledger.apply({"sales": SALES.to_json()}, definitions, names, {"sales": "topic-1"}))
        installation.views = wanted
        installation.commit(SECOND)
        parts: Views = [(NEW, [FIRST, SECOND]), (NEW_HOURLY, [FIRST, SECOND]), (ALL, [SECOND])]
        publish(installation, parts, {NEW_HOURLY.fingerprint: FLOOR})
        installation.commit(THIRD)
        yield path


def run(capsys: pytest.CaptureFixture[str], home: Path, *words: str) -> tuple[int, str, str]:
    code = main(["diff", "--home", str(home), *words])
    return code, *capsys.readouterr()


def test_the_old_and_the_new_definition_are_compared_at_the_last_cut_that_both_are_held_at(home: Path) -> None:
    with Reader(home) as reader:
        diff = reader.diff("totals@old", limit=10)
    assert diff.cut == cut_of(FIRST)
    assert (diff.left.version, diff.right.version) == (1, None)
    by_country = {country: [e for e in FIRST if e.country == country] for country in {e.country for e in FIRST}}
    rows = {row["key"]["country"]: row for row in diff.rows}
    assert rows.keys() == by_country.keys(), "the filter leaves something out of every country"
    for country, events in by_country.items():
        measures = rows[country]["measures"]
        assert measures["lines"]["left"] == len(events)
        assert Decimal(measures["revenue"]["left"]) == naive(events)["revenue"]
        kept = counted(events)
        assert rows[country]["in"] == ("both" if kept else "left")
        assert measures["lines"]["right"] == (len(kept) or None)
        if kept:
            assert Decimal(measures["revenue"]["right"]) == naive(kept)["revenue"]
    assert dict(diff.counts) == {"equal": 0, "both": 3, "left": 1, "right": 0}


def test_what_lies_before_the_higher_floor_is_not_compared(home: Path) -> None:
    with Reader(home) as reader:
        diff = reader.diff("hourly@old", "hourly", limit=1000)
        turned = reader.diff("hourly", "hourly@old", limit=1000)
    buckets = {event.at // HOUR * HOUR for event in FIRST if event.at // HOUR * HOUR >= FLOOR}
    assert sum(diff.counts.values()) == len(buckets)
    assert diff.to_json()["floor"] == "2011-12-02T00:00:00Z"
    assert (turned.counts["right"], turned.counts["left"]) == (diff.counts["left"], 0)
    assert diff.counts["left"] > 0, "hours in which nothing passes the filter"


def test_each_way_of_naming_a_definition(home: Path) -> None:
    with Reader(home) as reader:
        for old in ("totals@old", "totals@1", f"totals@{TOTALS.fingerprint}"):
            for new in ("totals", "totals@2", f"totals@{NEW.fingerprint}"):
                diff = reader.diff(old, new)
                assert (diff.equal, diff.cut) == (False, cut_of(FIRST))
        same = reader.diff("totals@2")
        assert (same.equal, same.cut, dict(same.counts)["equal"]) == (True, cut_of([*FIRST, *SECOND]), 3)
        assert reader.diff("everything@1", "everything@2").equal
        assert reader.diff("totals", "totals").cut == cut_of(EVENTS)


def test_it_prints_and_says_no_by_its_exit_code(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, err = run(capsys, home, "totals@old", "totals", "--limit", "1")
    lines = out.splitlines()
    assert (code, err) == (1, "")
    assert lines[0].split() == ["country", "in", "measure", "left", "right"]
    assert lines[-4:-2] == [
        f"left    totals@{TOTALS.fingerprint}, version 1",
        f"right   totals@{NEW.fingerprint}, live",
    ]
    assert lines[-1] == "keys    0 equal, 3 differ, 1 only left, 0 only right"
    code, out, _ = run(capsys, home, "totals@old", "totals", "-o", "json", "--limit", "2")
    found: dict[str, Any] = json.loads(out)
    assert (code, len(found["rows"]), found["counts"]["both"]) == (1, 2, 3)
    code, out, _ = run(capsys, home, "totals@old", "-o", "csv", "--limit", "100")
    listed = {(row["country"], row["measure"]): row for row in csv.DictReader(io.StringIO(out))}
    assert listed["France", "lines"]["left"] == str(sum(event.country == "France" for event in FIRST))
    code, out, _ = run(capsys, home, "everything@1", "everything")
    assert (code, out.splitlines()[-1]) == (0, "keys    1 equal, 0 differ, 0 only left, 0 only right")


@pytest.mark.parametrize(
    "words, condition",
    [
        (("nothing@old",), "NO_SUCH_DEFINITION"),
        (("everything@old",), "NO_SUCH_DEFINITION"),
        (("totals@9",), "UNKNOWN_VERSION"),
        (("totals@new",), "BAD_VALUE"),
        (("totals@" + "0" * 16,), "NO_SUCH_DEFINITION"),
        (("totals@old", "everything"), "NOT_COMPARABLE"),
        (("totals@old", "--limit", "-1"), "BAD_VALUE"),
        (("nothing", "totals"), "UNKNOWN_VIEW"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], home: Path, words: tuple[str, ...], condition: str) -> None:
    code, out, _ = run(capsys, home, *words, "-o", "json")
    assert (code, json.loads(out)["error"]["condition"]) == (2, condition)
