"""Queries of one shape are prepared once at a ledger: what is prepared answers no other query, and no other ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import serving_case
from serving_case import COUNTRIES, MEASURES, PRODUCTS, TOTALS, Event, Installation, make_events, naive, view

from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.errors import MissingSegmentError, UsageError
from tideline.ledger import Ledger
from tideline.stores.memory import MemoryStore


def by_country(reader: Reader, events: Sequence[Event]) -> None:
    """Each country's answer by lookup is that of its events."""
    for country in COUNTRIES:
        found = [event for event in events if event.country == country]
        (row,) = reader.query(Query("totals", {"country": country}, measures="lines,revenue,last"))
        expected = naive(found)
        assert row == {"country": country, **{name: expected[name] for name in ("lines", "revenue", "last")}}


def test_lookups_follow_every_commit_and_every_publish(reader: Reader, installation: Installation) -> None:
    more = make_events(900)[600:]
    by_country(reader, installation.events)
    installation.commit(more[:150])
    by_country(reader, installation.events)
    installation.publish()
    by_country(reader, installation.events)
    installation.commit(more[150:])
    by_country(reader, installation.events)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"limit": 1}, {"limit": True}),
        ({"version": 1}, {"version": True}),
        ({"parts": True}, {"parts": 1}),
        ({"measures": ("lines",)}, {"measures": ("nothing",)}),
        ({"key": {"country": "France"}}, {"key": {"country": "France", "land": 1}}),
        ({"key": {"country": "France"}}, {"key": {"country": 1.5}}),
    ],
)
def test_a_query_that_is_refused_is_refused_after_one_that_looks_like_it(
    reader: Reader, first: dict[str, Any], second: dict[str, Any]
) -> None:
    for _ in range(2):
        reader.query(Query("totals", **first))
        with pytest.raises(UsageError):
            reader.query(Query("totals", **second))


def test_queries_that_differ_in_one_option_answer_differently(reader: Reader) -> None:
    queries = [
        Query("revenue", window="1d"),
        Query("revenue", window="2d"),
        Query("revenue", window="2d", slide="1d"),
        Query("revenue", {"country": "France"}, window="1d"),
        Query("revenue", {"product": "cup"}, window="1d"),
        Query("revenue", {"product": "lamp"}, window="1d"),
        Query("revenue", window="1d", start="2011-12-02"),
        Query("revenue", window="1d", end="2011-12-04"),
        Query("revenue", window="1d", group_by="country"),
        Query("revenue", window="1d", measures="lines"),
        Query("revenue", window="1d", order="-lines"),
        Query("revenue", window="1d", limit=3),
        Query("revenue", window="1d", limit_by="country:1"),
        Query("revenue", window="1d", version=1),
        Query("revenue", window="1d", version=2),
        Query("revenue", window="1d", parts=True),
    ]
    alone = [[Reader(reader.home, store=reader._store).query(query).rows] for query in queries]
    together = [[reader.query(query).rows] for _ in range(2) for query in queries]
    assert together == alone * 2
    assert len({repr(rows) for rows in alone}) == len(queries)


def test_who_changes_an_answer_changes_no_other(reader: Reader) -> None:
    first = reader.query(Query("totals", {"country": "France"}))
    expected = reader.query(Query("totals", {"country": "France"})).to_json()
    first.proof["events"]["batch"] = -1
    first.proof["cut"].clear()
    first.rows[0]["products"].clear()
    for found in (
        reader.query(Query("totals", {"country": "France"})),
        *reader.query_many([Query("totals", {"country": "France"})]),
    ):
        assert found.to_json() == expected


def test_what_is_quick_is_known_by_whole_keys_and_few_buckets(reader: Reader) -> None:
    whole = {"country": "France", "product": PRODUCTS[0]}
    hour = {"start": "2011-12-01T05:00:00Z", "end": "2011-12-01T06:00:00Z"}
    years = {"start": "2001-12-01T05:00:00Z", "end": "2011-12-01T06:00:00Z"}
    cases = [
        (Query("totals", {"country": "France"}), True),
        (Query("totals"), False),
        (Query("everything"), True),
        (Query("revenue", whole), False),
        (Query("revenue", whole, **hour), True),
        (Query("revenue", whole, **years), False),
        (Query("revenue", {"product": "cup"}, **hour), False),
        (Query("hourly", **hour), True),
    ]
    for query, expected in cases:
        assert not reader.is_quick([query]), "nothing is known of it yet"
        reader.query(query)
        assert reader.is_quick([query]) is expected, query
        waiting = Query(query.view, query.key, query.start, query.end, at_least="sales:0=1")
        assert not reader.is_quick([waiting])
    assert not reader.is_quick([query for query, _ in cases]), "some of them are not"


def test_many_keys_and_many_queries_add_up(reader: Reader) -> None:
    large = "each has a map, and counts as 500 rows"
    for count in (1, 2, 4, 5):
        query = Query("totals", {"country": ["France"] * count})
        assert not reader.is_quick([query]) or count > 1
        reader.query(query)
        assert reader.is_quick([query]) is (count < 5), large
    one = Query("totals", {"country": "France"})
    reader.query(one)
    assert reader.is_quick([one] * 4)
    assert not reader.is_quick([one] * 5), large


def test_many_keys_and_many_queries_of_small_rows_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {name: MEASURES[name] for name in ("lines", "revenue", "mean", "last")}
    monkeypatch.setattr(serving_case, "MEASURES", small)
    by_country = replace(view("by_country", "country string", None, "9"), answers={})
    store = MemoryStore(Ledger.create("test"))
    Installation(store, [by_country]).commit(make_events(50))
    reader = Reader(tmp_path, store=store)
    few, many = (Query("by_country", {"country": ["France"] * count}) for count in (20, 2_001))
    assert not reader.is_quick([few])
    assert len(reader.query(few)) == 1
    assert reader.is_quick([few])
    assert reader.is_quick([few] * 100)
    assert not reader.is_quick([few] * 101)
    assert not reader.is_quick([many])


def test_an_empty_list_of_keys_does_not_make_the_others_quick(reader: Reader) -> None:
    queries = [
        Query("typed", {"quantity": [], "amount": ["1.50"] * count, "sold_at": ["2011-12-01"]}) for count in (1, 5)
    ]
    assert [reader.query(query).rows for query in queries] == [[], []]
    assert [reader.is_quick([query]) for query in queries] == [True, False]


def test_the_last_of_many_shapes_is_kept_and_none_of_a_long_text(reader: Reader) -> None:
    for limit in range(1, 700):
        query = Query("totals", {"country": "France"}, limit=limit)
        reader.query(query)
        assert reader.is_quick([query])
        assert reader._prepared is not None
        assert len(reader._prepared._found) <= 500
        assert len(reader._prepared._rows) <= 500
    kept = len(reader._prepared._found)
    long = Query("totals", {"country": "France"}, measures="lines" + " " * 4_000)
    assert reader.query(long).columns == ["country", "lines"]
    assert not reader.is_quick([long])
    assert len(reader._prepared._found) == kept


def test_a_quick_answer_stays_known_over_commits(reader: Reader, installation: Installation) -> None:
    query = Query("totals", {"country": "France"})
    reader.query(query)
    installation.commit(make_events(900)[600:])
    reader.query(Query("everything", measures="lines"))
    assert reader.is_quick([query]), "before it is asked at the new ledger"
    assert not reader.is_quick([Query("totals")])


def test_what_is_missing_is_missed_by_a_lookup_too(reader: Reader, installation: Installation) -> None:
    reader.query(Query("totals", {"country": "France"}))
    with installation.store.write() as txn:
        txn.drop(txn.ledger.open.space(TOTALS.fingerprint))
    with pytest.raises(MissingSegmentError):
        reader.query(Query("totals", {"country": "France"}))
