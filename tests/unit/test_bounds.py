"""What one request may cost: how much a query may name, and how little of it an error repeats."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import error
from serving_case import Installation

from serving_layer import fold
from serving_layer.lock.roles import READ, WRITE, Role
from serving_layer.query import MOST_PARAMETERS, Query, cut, similar
from serving_layer.reader import Reader
from serving_layer.zones import Zone
from tideline.errors import TidelineError, UsageError

LONG = "x" * 100_000


@pytest.fixture(scope="module")
def asked(home: Path, served: Installation) -> Iterator[Reader]:
    with Reader(home) as reader:
        yield reader


def rows(reader: Reader, view: str, **options: Any) -> list[dict[str, Any]]:
    return reader.query(Query.from_json({"view": view, **options})).rows


def refused(reader: Reader, condition: str, view: str, **options: Any) -> dict[str, Any]:
    """The params of a refusal."""
    with pytest.raises(UsageError) as caught:
        rows(reader, view, **options)
    assert caught.value.condition == condition, caught.value
    return caught.value.params


def test_rows_are_limited_by_each_column_once(asked: Reader) -> None:
    refused(asked, "BAD_VALUE", "revenue", limit_by="country,country:1")
    refused(asked, "BAD_VALUE", "revenue", limit_by="country," * 100_000 + ":1")
    assert rows(asked, "revenue", limit_by="bucket, window:1") == rows(asked, "revenue", limit_by="bucket:1")


def test_an_order_has_sixteen_terms(asked: Reader) -> None:
    terms = ["-products.cup", *(f"products.{number}" for number in range(15))]
    assert rows(asked, "totals", order=",".join(terms)) == rows(asked, "totals", order="-products.cup")
    assert refused(asked, "BAD_ORDER", "totals", order=[*terms, "products.15"])["limit"] == 16


def test_a_cut_to_wait_for_has_ten_thousand_partitions(asked: Reader) -> None:
    most = {"sales": {str(partition): 0 for partition in range(10_000)}}
    found = cut(most)
    assert found is not None
    assert cut(str(found)) == found
    more = {"sales": most["sales"], "others": {"0": 1}}
    for given in (more, f"{found},others:0=1", {str(topic): {} for topic in range(10_001)}):
        assert refused(asked, "BAD_CUT", "totals", at_least=given)["limit"] == 10_000


def test_a_request_has_as_many_parameters_as_there_may_be_keys_and_options() -> None:
    values = [str(number) for number in range(MOST_PARAMETERS - 1)]
    params = [("country", value) for value in values]
    query = Query.from_params("totals", [*params, ("limit", "1")])
    assert (query.key, query.limit) == ({"country": values}, "1")
    with pytest.raises(UsageError) as caught:
        Query.from_params("totals", [*params, ("limit", "1"), ("a", "")])
    assert (caught.value.condition, caught.value.params["limit"]) == ("TOO_MANY_PARAMETERS", MOST_PARAMETERS)


def test_many_values_of_one_column_take_no_longer_than_those_of_many() -> None:
    def seconds(params: list[tuple[str, str]]) -> float:
        began = time.process_time()
        Query.from_params("totals", params)
        return time.process_time() - began

    one, many = ([(name % number, "") for number in range(10_000)] for name in ("country%.0s", "country%d"))
    assert min(seconds(one) for _ in range(5)) < 8 * max(seconds(many) for _ in range(5))


def test_keys_are_counted_before_they_are_read_and_though_one_list_is_empty(asked: Reader) -> None:
    for quantities in ([], ["1"]):
        key = {"quantity": quantities, "amount": ["no number"] * 10_001}
        assert refused(asked, "TOO_MANY_KEYS", "typed", key=key)["count"] == 10_001
    assert refused(asked, "TOO_MANY_KEYS", "typed", key={"quantity": ["?"] * 101, "amount": ["?"] * 100})
    assert rows(asked, "typed", key={"quantity": [], "amount": ["1.50"] * 10_000}) == []


@pytest.mark.parametrize(
    "options",
    [
        {"view": LONG},
        {LONG: 1},
        {"key": {LONG: "1"}},
        {"key": {"quantity": LONG}},
        {"key": {"sold_at": LONG}},
        {"key": {"amount": {"a": LONG}}},
        {"view": "totals", "key": {"country": LONG + "\ud800"}},
        {"group_by": LONG},
        {"group_by": f"{LONG},{LONG}"},
        {"measures": LONG},
        {"order": LONG},
        {"order": f"lines.{LONG}"},
        {"limit_by": LONG},
        {"limit_by": f"{LONG}:1"},
        {"limit_by": f"quantity:{LONG}"},
        {"view": "revenue", "from": LONG},
        {"view": "revenue", "from": [LONG]},
        {"view": "revenue", "window": LONG},
        {"view": "revenue", "window": "1d", "slide": LONG},
        {"view": "revenue", "zone": LONG},
        {"limit": LONG},
        {"version": LONG},
        {"parts": LONG},
        {"cursor": LONG},
        {"timeout": LONG, "at_least": "sales:0=1"},
        {"max_staleness": LONG},
        {"at_least": LONG},
        {"at_least": f"{LONG}:0=1"},
        {"at_least": {LONG: {"0": 1}}},
        {"at_least": {"sales": {LONG: 1}}},
    ],
    ids=lambda options: json.dumps(options).replace(LONG, "…"),
)
def test_an_error_repeats_the_beginning_of_what_was_wrong(asked: Reader, options: dict[str, Any]) -> None:
    with pytest.raises(TidelineError) as caught:
        asked.query(Query.from_json({"view": "typed", **options}))
    assert "x" * 150 in json.dumps(caught.value.to_json()), "so much of it is known again"
    assert len(json.dumps(caught.value.to_json())) < 2_500
    assert caught.value.params.get("similar", []) == []


def test_the_name_of_a_view_or_a_source_that_is_refused_is_repeated_in_part(asked: Reader) -> None:
    role = Role("narrow", frozenset({READ, WRITE}), frozenset({"totals"}), frozenset({"sales"}))
    for check in (lambda name: asked.query(Query(name)), role.check_view, role.check_source):
        with pytest.raises(UsageError) as caught:
            check(LONG)
        assert "x" * 150 in caught.value.message
        assert len(json.dumps(caught.value.to_json())) < 2_500


def test_a_name_is_guessed_up_to_a_hundred_letters() -> None:
    assert similar("a" * 100, ["a" * 101]) == ["a" * 101]
    assert similar("a" * 101, ["a" * 101]) == []


def test_a_bucket_lies_in_four_hundred_windows(asked: Reader) -> None:
    for zone in (None, "Europe/Berlin"):
        year = rows(asked, "revenue", window="366d", slide="1d", zone=zone, group_by=[], limit=1_000)
        days = {row["window"].date() for row in rows(asked, "revenue", window="1d", zone=zone, group_by=[])}
        assert len(year) == 366 + len(days) - 1
        refused(asked, "BAD_WINDOW", "revenue", window="401d", slide="1d", zone=zone)
    refused(asked, "BAD_WINDOW", "hourly", window="10000h", slide="1h")


def test_rows_in_many_windows_are_merged_up_to_a_number(asked: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = len(rows(asked, "hourly"))
    monkeypatch.setattr(fold, "MOST_MERGED", 9 * stored)
    whole = rows(asked, "hourly", window="9h", slide="1h")
    assert len(whole) >= stored
    monkeypatch.setattr(fold, "MOST_MERGED", 9 * stored - 1)
    assert refused(asked, "TOO_MUCH_WORK", "hourly", window="9h", slide="1h")["overlap"] == 9
    assert refused(asked, "TOO_MUCH_WORK", "hourly", window="9h", slide="1h", limit=1, parts=True)
    later = rows(asked, "hourly", window="9h", slide="1h", **{"from": "2011-12-02"})
    assert later == [row for row in whole if row["window"].month == 12 and row["window"].day > 1]
    monkeypatch.setattr(fold, "MOST_MERGED", 0)
    assert len(rows(asked, "hourly", window="8h", slide="1h")) >= stored
    assert len(rows(asked, "hourly", window="1d")) == 4


def test_a_day_of_a_zone_is_looked_for_once_in_a_query(asked: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    midnight = Zone.midnight
    monkeypatch.setattr(Zone, "midnight", lambda zone, day: looked.append(day) or midnight(zone, day))
    rows(asked, "revenue", window="366d", slide="1d", zone="Europe/Berlin", measures="lines")
    assert 366 < len(looked) == len(set(looked)) < 1_000
    looked.clear()
    assert len(rows(asked, "hourly", window="6h", zone="Europe/Berlin", measures="lines")) > 12
    assert len(looked) == len(set(looked)) < 8


def test_windows_that_are_remembered_are_those_of_each_bucket(asked: Reader) -> None:
    options: dict[str, Any] = {"zone": "Europe/Berlin", "measures": "lines"}
    found = rows(asked, "hourly", window="2d", slide="1d", **options)
    days = {row["window"].toordinal(): row["lines"] for row in rows(asked, "hourly", window="1d", **options)}
    assert found == [
        {**row, "lines": sum(days.get(row["window"].toordinal() + later, 0) for later in (0, 1))} for row in found
    ]
    assert len(found) == len(days) + 1


def test_a_path_with_a_slash_behind_it_leads_nowhere(client: httpx.Client) -> None:
    for path in ("/v1/views/", "/v1/views/totals/", "/v1/views/totals/rows/", "/metrics/", "/healthz/"):
        found = client.get(path, headers={"Host": "127.0.0.1"})
        assert "location" not in found.headers
        error(found, 404, "UNKNOWN_PATH")
