"""Pages of an answer: together they are the whole answer, each row once, whatever it is ordered by."""

from __future__ import annotations

import base64
import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_case import Installation, installed, make_events

from serving_layer.paging import CursorError
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.errors import UsageError
from tideline.stores.lmdb import LmdbStore

QUERIES: list[dict[str, Any]] = [
    {"view": "revenue"},
    {"view": "revenue", "key": {"country": "France"}},
    {"view": "revenue", "key": {"product": "lamp"}, "window": "1d"},
    {"view": "revenue", "key": {"country": ["France", "\\N"]}, "from": "2011-12-02"},
    {"view": "revenue", "key": {"country": "France", "product": "cup"}},
    {"view": "revenue", "order": "-revenue"},
    {"view": "revenue", "order": "country,-lines", "group_by": "country,product", "window": "all"},
    {"view": "revenue", "order": ["-country", "product"], "window": "6h"},
    {"view": "revenue", "order": "-spread.p50", "limit_by": "country:7"},
    {"view": "revenue", "order": "return_rate", "limit_by": "country,bucket:1"},
    {"view": "revenue", "limit_by": "product:5", "zone": "Europe/Berlin", "window": "1d"},
    {"view": "revenue", "version": 1, "order": "-bucket"},
    {"view": "typed"},
    {"view": "typed", "order": "-sold_at,amount"},
    {"view": "totals", "order": "-country"},
    {"view": "hourly", "window": "3h", "slide": "1h"},
    {"view": "everything"},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def reader(home: Path) -> Iterator[Reader]:
    with LmdbStore.open(home, create=True) as store:
        installed(store, 150)
        with Reader(home) as found:
            yield found


def pages(reader: Reader, query: dict[str, Any], size: int) -> list[list[dict[str, Any]]]:
    """The pages of a query, until there is no next one."""
    found: list[list[dict[str, Any]]] = []
    cursor = None
    while True:
        page = reader.query(Query.from_json({**query, "limit": size, "cursor": cursor}))
        found.append(page.to_json()["rows"])
        cursor = page.to_json()["next"]
        if cursor is None:
            return found
        assert len(found[-1]) == size


@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_pages_are_the_whole_answer(reader: Reader, query: dict[str, Any], size: int) -> None:
    whole = reader.query(Query.from_json(query)).to_json()
    assert whole["next"] is None
    assert [row for page in pages(reader, query, size) for row in page] == whole["rows"]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_an_answer_of_more_rows_than_may_be_had_is_refused_and_its_pages_are_not(
    home: Path, reader: Reader, query: dict[str, Any]
) -> None:
    whole = reader.query(Query.from_json(query)).to_json()["rows"]
    with Reader(home, most_rows=len(whole)) as enough, Reader(home, most_rows=len(whole) - 1) as fewer:
        assert enough.query(Query.from_json(query)).to_json()["rows"] == whole
        for limit in (None, len(whole)):
            with pytest.raises(UsageError) as refused:
                fewer.query(Query.from_json({**query, "limit": limit}))
            assert (refused.value.condition, refused.value.params) == ("TOO_MANY_ROWS", {"limit": len(whole) - 1})
        page = fewer.query(Query.from_json({**query, "limit": len(whole) - 1})).to_json()
        assert page["rows"] == whole[:-1]
        assert (page["next"] is None) == (len(whole) == 1)


def test_queries_that_are_asked_together_share_the_rows_that_may_be_had(home: Path, reader: Reader) -> None:
    queries = [Query("totals"), Query("hourly"), Query("everything")]
    counts = [len(result) for result in reader.query_many(queries)]
    with Reader(home, most_rows=sum(counts)) as enough, Reader(home, most_rows=sum(counts) - 1) as fewer:
        assert [len(result) for result in enough.query_many(queries)] == counts
        assert [len(result) for result in fewer.query_many(queries[:2])] == counts[:2]
        with pytest.raises(UsageError, match=f"more than {sum(counts) - 1} rows"):
            fewer.query_many(queries)


def test_a_last_page_that_is_full_has_no_next(reader: Reader) -> None:
    rows = reader.query(Query("totals")).rows
    assert reader.query(Query("totals", limit=len(rows))).next is None
    assert reader.query(Query("totals", limit=0)).next is None


def test_a_page_goes_on_where_its_row_was_though_rows_come_and_move(tmp_path: Path) -> None:
    events = make_events(200)
    with LmdbStore.open(tmp_path, create=True) as store:
        made = Installation(store)
        made.commit(events[:120])
        made.publish()
        with Reader(tmp_path) as reader:
            by_key = reader.query(Query("revenue", limit=20))
            by_lines = reader.query(Query("revenue", order="-lines", limit=20))
            before = places(reader.query(Query("revenue")).rows)
            made.commit(events[120:])
            after = reader.query(Query("revenue")).rows
            rest = reader.query(Query("revenue", cursor=by_key.next)).rows
            lower = reader.query(Query("revenue", order="-lines", cursor=by_lines.next)).rows
    assert rest == after[places(after).index(places(by_key.rows)[-1]) + 1 :]
    assert set(before) <= {*places(by_key.rows), *places(rest)}
    last = by_lines.rows[-1]["lines"]
    assert [row["lines"] for row in lower] == sorted((row["lines"] for row in lower), reverse=True)
    assert {place for place, row in zip(places(after), after, strict=True) if row["lines"] < last} <= set(places(lower))
    assert all(row["lines"] <= last for row in lower)


def places(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Which rows they are."""
    return [(row["country"], row["product"], row["bucket"]) for row in rows]


@pytest.mark.parametrize(
    "cursor", ["", "x", "%%", "W10", "bnVsbA", "WyJhIl0", "é", 5, "eyJhIjoxfQ", "W251bGwsbnVsbCxudWxsLG51bGxd"]
)
def test_what_is_no_cursor_is_refused(reader: Reader, cursor: Any) -> None:
    with pytest.raises(CursorError):
        reader.query(Query("revenue", limit=1, cursor=cursor))


def test_a_cursor_of_another_query_is_refused(reader: Reader) -> None:
    cursor = reader.query(Query("revenue", limit=1)).next
    for other in ({"order": "-revenue"}, {"window": "1d"}, {"group_by": "country"}, {"zone": "Europe/Berlin"}):
        with pytest.raises(CursorError):
            reader.query(Query("revenue", limit=1, cursor=cursor, **other))
    with pytest.raises(CursorError):
        reader.query(Query("totals", limit=1, cursor=cursor))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([query for query in QUERIES if query["view"] == "revenue"]))
def test_a_spoilt_cursor_is_refused_or_answered(reader: Reader, seed: int, query: dict[str, Any]) -> None:
    dice = random.Random(seed)
    cursor = list(reader.query(Query.from_json({**query, "limit": 1})).next or "W10")
    for _ in range(dice.randint(1, 3)):
        cursor[dice.randrange(len(cursor))] = dice.choice("ABCDabcd0123_-")
    with contextlib.suppress(CursorError):
        reader.query(Query.from_json({**query, "limit": 1, "cursor": "".join(cursor)})).to_text()


FORGED: list[Any] = [
    *(None, True, 0, -1, 2**63, -(2**63) - 1, 10**400, 1.5, float("nan"), float("inf"), "", "x", "\ud800"),
    *("2011-12-01", [], [1], {}, {"decimal": "1e999999999"}, {"decimal": "-Infinity"}, {"decimal": "NaN"}),
    *({"decimal": "-sNaN"}, {"time": "0001-01-01"}, {"time": "2011-12-01T00:00:00+00:00"}, {"date": "2011-12-01"}),
    {"bytes": "AAAA"},
]
ORDERS = ["revenue", "-mean", "last,-largest", "return_rate", "double", "products.cup", "spread.p50"]
ORDERED = [{"view": view, "order": order} for view in ("revenue", "totals", "typed", "hourly") for order in ORDERS]


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_forged_cursor_is_refused_or_answered(reader: Reader, data: st.DataObject) -> None:
    query = data.draw(st.sampled_from([*QUERIES, *ORDERED]))
    cursor = reader.query(Query.from_json({**query, "limit": 1})).next
    if cursor is None:
        return
    mark, key, window, ranks = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    values = [*key, window, *ranks]
    for place in data.draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=2)):
        values[place] = data.draw(st.sampled_from(FORGED))
    forged = json.dumps([mark, values[: len(key)], values[len(key)], values[len(key) + 1 :]]).encode()
    with contextlib.suppress(CursorError):
        text = base64.urlsafe_b64encode(forged).decode().rstrip("=")
        reader.query(Query.from_json({**query, "limit": 1, "cursor": text})).to_text()


@pytest.mark.parametrize(
    ("query", "place", "value"),
    [
        ({"view": "typed"}, (1, 0), 2**63),
        ({"view": "typed"}, (1, 0), 1.5),
        ({"view": "typed"}, (1, 2), -(2**63) - 1),
        ({"view": "hourly"}, (2,), 2**63),
        ({"view": "totals", "order": "revenue"}, (3, 0), {"decimal": "NaN"}),
        ({"view": "totals", "order": "revenue"}, (3, 0), {"decimal": "sNaN"}),
    ],
)
def test_a_cursor_with_a_value_that_no_row_has_is_refused(
    reader: Reader, query: dict[str, Any], place: tuple[int, ...], value: Any
) -> None:
    cursor = str(reader.query(Query.from_json({**query, "limit": 1})).next)
    found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    *outer, last = place
    (found[outer[0]] if outer else found)[last] = value
    forged = base64.urlsafe_b64encode(json.dumps(found).encode()).decode().rstrip("=")
    with pytest.raises(CursorError) as refused:
        reader.query(Query.from_json({**query, "limit": 1, "cursor": forged}))
    assert refused.value.condition == "BAD_CURSOR"
