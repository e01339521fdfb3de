"""What the Python clients take and give: the same values as a reader of the home, and the same refusals."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import tideline
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.client import requests
from tideline.client.values import check_key
from tideline.errors import TidelineError, UsageError

DAY = dt.date(2011, 12, 2)
WRONG_KEYS: list[tuple[str, dict[str, Any]]] = [
    ("revenue", {"country": {"France"}}),
    ("revenue", {"country": b"France"}),
    ("revenue", {"country": 5}),
    ("revenue", {"country": True}),
    ("revenue", {"country": Decimal("1.5")}),
    ("revenue", {"country": DAY}),
    ("revenue", {"country": ["France", b"France"]}),
    ("revenue", {"country": [["France"]]}),
    ("revenue", {"product": "cup", "country": ("France", 1.0)}),
    ("typed", {"quantity": b"\xd7m\xf8"}),  # 1234 in base64
    ("typed", {"quantity": True}),
    ("typed", {"amount": dt.datetime(2011, 12, 2)}),
    ("typed", {"sold_at": DAY}),
    ("typed", {"sold_at": 20111202}),
]
SPELLED: list[tuple[str, dict[str, Any]]] = [
    ("revenue", {"window": 86400}),
    ("revenue", {"window": dt.timedelta(days=1), "start": DAY}),
    ("hourly", {"window": 7200, "slide": 3600}),
    ("hourly", {"window": dt.timedelta(hours=2), "slide": dt.timedelta(hours=1)}),
    ("revenue", {"start": 1322784000000000, "end": 1322870400000000}),
    ("revenue", {"start": 1322784000000000, "zone": "Asia/Tokyo"}),
    ("revenue", {"at_least": {"sales": {"0": 3, "1": 1}}}),
    ("revenue", {"at_least": {}}),
    ("revenue", {"country": []}),
    ("revenue", {"country": [], "product": "cup", "limit": 5}),
    ("totals", {"key": {"country": ()}}),
    ("typed", {"quantity": []}),
    ("typed", {"quantity": [1, 2], "sold_at": None}),
]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("revenue", {"window": 10**30}),
    ("revenue", {"start": 10**20}),
    ("revenue", {"start": True}),
    ("revenue", {"at_least": {"sales": {"0": "3"}}}),
    ("revenue", {"at_least": {"sales": {"0": -1}}}),
    ("revenue", {"at_least": {"sales": 3}}),
    ("revenue", {"at_least": {"visits": {"0": 3}}}),
    ("revenue", {"max_staleness": 30}),
    ("typed", {"quantity": {3}}),
    ("typed", {"quantity": 3.5}),
]


@pytest.fixture(scope="module")
def reader(local: Reader) -> Reader:
    return local


def refusal(call: Callable[[], object]) -> TidelineError:
    with pytest.raises(TidelineError) as error:
        call()
    return error.value


@pytest.mark.parametrize(("view", "options"), SPELLED, ids=str)
def test_an_option_is_spelled_as_the_server_reads_it(
    reader: Reader, url: str, view: str, options: dict[str, Any]
) -> None:
    local = reader.view(view).get(**options)
    with tideline.connect(url) as client:
        remote = client.view(view).get(**options)
    assert (remote.rows, remote.columns, remote.next) == (local.rows, local.columns, local.next)
    assert remote.to_arrow().equals(local.to_arrow().replace_schema_metadata(None))


@pytest.mark.parametrize(("view", "options"), REFUSED, ids=str)
def test_what_a_reader_refuses_a_client_refuses_by_the_same_name(
    reader: Reader, url: str, view: str, options: dict[str, Any]
) -> None:
    local = refusal(lambda: reader.view(view).get(**options))
    with tideline.connect(url, timeout=5) as client:
        remote = refusal(lambda: client.view(view).get(**options))
    assert (remote.condition, remote.exit_code) == (local.condition, local.exit_code)


@pytest.mark.parametrize(("view", "key"), WRONG_KEYS, ids=str)
def test_a_key_value_of_a_wrong_type_is_refused_and_no_empty_answer(
    reader: Reader, url: str, view: str, key: dict[str, Any]
) -> None:
    local = refusal(lambda: reader.view(view).get(**key))
    assert local.condition == "BAD_VALUE"
    with tideline.connect(url) as client:
        found = [
            refusal(lambda: client.view(view).get(**key)),
            refusal(lambda: next(client.view(view).changes(**key))),
            refusal(lambda: client.query_many([{"view": view, "key": key}])),
        ]

    async def ask(which: str) -> None:
        async with tideline.connect_async(url) as client:
            if which == "get":
                await client.view(view).get(**key)
            elif which == "changes":
                async for _ in client.view(view).changes(**key):
                    break
            else:
                await client.query_many([{"view": view, "key": key}])

    for which in ("get", "changes", "query_many"):
        found.append(refusal(lambda which=which: asyncio.run(ask(which))))
    for remote in found:
        assert (type(remote), str(remote), remote.params) == (UsageError, str(local), local.params)


def test_types_that_are_not_right_any_more_are_asked_anew(reader: Reader, url: str) -> None:
    with tideline.connect(url) as client:
        client._types["typed"] = {"quantity": "string"}
        assert client.view("typed").get(quantity=3).rows == reader.view("typed").get(quantity=3).rows
        assert client._types["typed"]["quantity"] == "int"


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("binary", b"x", 1234),
        ("boolean", True, 1),
        ("date", DAY, dt.datetime(2011, 12, 2)),
        ("decimal(10,2)", Decimal("1.5"), b"1.5"),
        ("double", 1, True),
    ],
)
def test_every_type_takes_its_own_values(kind: str, right: Any, wrong: Any) -> None:
    check_key({"column": kind}, {"column": [right, "text", None]})
    with pytest.raises(UsageError):
        check_key({"column": kind}, {"column": wrong})


def test_answers_that_come_as_json_have_the_columns_of_a_reader(reader: Reader, url: str) -> None:
    nowhere = {"country": "nowhere"}
    with tideline.connect(url) as client:
        for key in (nowhere, {"country": "France"}):
            local = reader.view("revenue").get(parts=True, **key)
            parts = client.view("revenue").get(parts=True, **key)
            (many,) = client.query_many([{"view": "revenue", "key": key}])
            assert parts.columns == many.columns == local.columns
            assert parts.to_arrow().column_names == many.to_arrow().column_names == local.to_arrow().column_names
            assert len(parts) == len(many) == len(local.rows)
        local = reader.query_many([Query("revenue", limit=3, parts=True)])[0]
        assert client.view("revenue").get(parts=True, limit=3).rows == local.to_json()["rows"]


def test_what_json_has_no_value_for_is_text_or_refused(url: str) -> None:
    with tideline.connect(url) as client:
        for call in (
            lambda: client.query_many([{"view": "revenue", "group_by": {"country"}}]),
            lambda: client.send("sales", [{"country": {"France"}}]),
        ):
            assert refusal(call).condition == "BAD_VALUE"
    body = requests.send_call("sales", [{"raw": b"\x00\xff", "day": DAY, "amount": Decimal("1.50")}], True).body
    assert body == b'{"raw": "AP8=", "day": "2011-12-02", "amount": "1.50"}'
