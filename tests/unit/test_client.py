"""The Python clients on a real server: the same calls and the same values as a reader of the home."""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from serving import running
from serving_case import Installation, installed, make_events
from starlette.types import ASGIApp, Receive, Scope, Send

import tideline
from serving_layer.app import create_app
from serving_layer.lock.tokens import TokenFile
from serving_layer.query import Query
from serving_layer.reader import GET_OPTIONS, Reader
from tideline.client import AsyncClient, Change, Client, requests
from tideline.errors import OutsideError, UsageError
from tideline.stores.lmdb import LmdbStore

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("revenue", {}),
    ("revenue", {"country": "France", "window": tideline.days(1), "group_by": ["country"]}),
    (
        "revenue",
        {"country": ["France", None], "start": "2011-12-02", "end": "2011-12-04", "order": "-lines", "limit": 7},
    ),
    ("revenue", {"window": "1d", "zone": "Europe/Berlin", "measures": ["lines", "best", "products", "spread"]}),
    ("totals", {"order": ["-country"], "limit_by": "country:1"}),
    ("totals", {"key": {"country": ""}}),
    ("typed", {"limit": 20}),
    ("everything", {"version": 1}),
    ("hourly", {"window": "3h", "slide": "1h"}),
]


@pytest.fixture(scope="module")
def reader(local: Reader) -> Reader:
    return local


def without_freshness(proof: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in proof.items() if name != "freshness"}


@pytest.mark.parametrize(("view", "options"), ASKED, ids=str)
def test_a_client_answers_as_a_reader(reader: Reader, url: str, view: str, options: dict[str, Any]) -> None:
    local = reader.view(view).get(**options)
    with tideline.connect(url) as client:
        remote = client.view(view).get(**options)
        assert remote.rows == local.rows
        assert remote.columns == local.columns
        assert remote.next == local.next
        assert without_freshness(remote.proof) == without_freshness(local.proof)
        assert remote.to_arrow().equals(local.to_arrow().replace_schema_metadata(None))
        assert len(remote) == len(local)
        assert remote.to_pandas().equals(local.to_pandas())

    async def ask() -> list[dict[str, Any]]:
        async with tideline.connect_async(url) as found:
            return (await found.view(view).get(**options)).rows

    assert asyncio.run(ask()) == local.rows


def test_polars_gets_the_same(reader: Reader, url: str) -> None:
    polars = pytest.importorskip("polars")
    with tideline.connect(url) as client:
        frame = client.view("totals").get(measures="lines,revenue").to_polars()
    assert isinstance(frame, polars.DataFrame)
    assert frame["lines"].to_list() == [row["lines"] for row in reader.view("totals").get().rows]


def test_the_rest_of_the_api(reader: Reader, url: str) -> None:
    with tideline.connect(url) as client:
        assert client.views() == reader.views()
        assert client.view("revenue").describe() == reader.describe("revenue")
        assert client.status()["batch_version"] == 2
        both = client.query_many([{"view": "totals", "key": {"country": None}}, {"view": "everything"}])
        assert [len(answer) for answer in both] == [1, 1]
        assert both[0].proof["cut"] == both[1].proof["cut"]
        answer = client.sql("SELECT country, lines FROM totals ORDER BY country NULLS FIRST")
        assert answer.rows == [{"country": r["country"], "lines": r["lines"]} for r in reader.view("totals").get().rows]
        assert answer.proofs["totals"]["version"] == 2
        parts = client.view("totals").get(parts=True, country="France")
        assert set(parts.rows[0]["parts"]) == {"batch", "speed"}
        pages = list(client.view("revenue").pages(7, order="-lines"))
        assert [row for page in pages for row in page.rows] == reader.view("revenue").get(order="-lines").rows
        assert {len(page) for page in pages[:-1]} == {7}


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}

    assert calls(Client) == calls(AsyncClient)


def test_a_client_knows_every_option_of_a_query() -> None:
    assert set(GET_OPTIONS) - {"key"} == requests.QUERY_OPTIONS


def test_errors_are_those_of_the_server(url: str) -> None:
    with tideline.connect(url) as client:
        with pytest.raises(UsageError) as unknown:
            client.view("nope").get()
        assert (unknown.value.condition, unknown.value.params["known"][0]) == ("UNKNOWN_VIEW", "everything")
        with pytest.raises(UsageError) as bad:
            client.view("revenue").get(window="90m")
        assert bad.value.condition == "BAD_WINDOW"
        with pytest.raises(OutsideError) as late:
            client.view("totals").get(at_least="sales:0=99999", timeout=0.05)
        assert late.value.condition == "AT_LEAST_TIMEOUT"
        with pytest.raises(UsageError):
            client.sql("DROP VIEW totals")


class Flaky:
    """Says 503 to some requests, and closes the line of others, before it lets one through."""

    def __init__(self, app: ASGIApp, refuse: int) -> None:
        self.app, self.refuse, self.asked = app, refuse, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.asked += 1
            if self.refuse:
                self.refuse -= 1
                length = [(b"content-length", b"7")]
                await send({"type": "http.response.start", "status": 503, "headers": length})
                if self.refuse % 2:
                    raise RuntimeError("the line is closed")
                await send({"type": "http.response.body", "body": b"not now"})
                return
        await self.app(scope, receive, send)


def test_what_passes_is_asked_again(reader: Reader) -> None:
    flaky = Flaky(create_app(reader), 3)
    with running(flaky) as url, tideline.connect(url, timeout=20) as client:
        assert len(client.view("totals").get()) == 4
        assert flaky.asked >= 3
        flaky.refuse = 1

        async def ask() -> int:
            async with tideline.connect_async(url, timeout=20) as found:
                return len(await found.view("totals").get())

        assert asyncio.run(ask()) == 4
        flaky.refuse, flaky.asked = 10**6, 0
        began = time.monotonic()
        with tideline.connect(url, timeout=1) as hasty, pytest.raises(OutsideError):
            hasty.view("totals").get()
        assert time.monotonic() - began < 10
        assert flaky.asked > 1


def test_what_may_have_been_taken_is_not_sent_twice(reader: Reader) -> None:
    flaky = Flaky(create_app(reader), 10**6)
    with running(flaky) as url, tideline.connect(url, timeout=3) as client:
        with pytest.raises(OutsideError):
            client.send("sales", [{"country": "France"}], has_ids=False)
        assert flaky.asked == 1


def test_a_server_that_is_not_there_or_silent_is_named() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (1, silent.getsockname()[1]):
            url = f"http://127.0.0.1:{port}"
            began = time.monotonic()
            with tideline.connect(url, timeout=0.5) as client, pytest.raises(OutsideError) as refused:
                client.views()
            assert refused.value.condition == "SERVER_UNREACHABLE"
            assert refused.value.params["url"] == url
            assert time.monotonic() - began < 10


def test_a_token_is_sent_with_every_request(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        token, _ = TokenFile(tmp_path / "tokens.json").create("mine", "reader")
        with Reader(tmp_path) as reader, running(create_app(reader)) as url:
            with tideline.connect(url, token=token) as client:
                assert len(client.view("totals").get()) > 0
                with pytest.raises(UsageError) as forbidden:
                    client.status()
            with tideline.connect(url, token="wrong") as other, pytest.raises(UsageError) as refused:
                other.views()
    assert (forbidden.value.condition, refused.value.condition) == ("FORBIDDEN", "UNAUTHORIZED")


def test_changes_are_followed_over_a_server_that_ends(tmp_path: Path) -> None:
    events = make_events(200)
    with LmdbStore.open(tmp_path, create=True) as store:
        made = Installation(store)
        made.commit(events[:50])
        made.publish()
        with Reader(tmp_path) as reader:
            app = create_app(reader)
            with running(app) as url, tideline.connect(url) as client:
                changes = client.view("totals").changes(every="50ms")
                first = next(changes)
                assert isinstance(first, Change)
                assert (first.kind, first.version) == ("snapshot", 1)
                known = {row["country"]: row for row in first.rows}
                for at in (50, 100, 150):
                    made.commit(events[at : at + 50])
                    change = next(changes)
                    known |= {row["country"]: row for row in change.rows}
                    if at == 100:
                        app.state.live.end()
                        app.state.live.__init__(reader, app.state.answers.turns)  # as a server that comes back
                assert sum(row["lines"] for row in known.values()) == 200
                changes.close()

            async def follow() -> int:
                async with tideline.connect_async(url) as found:
                    async for change in found.view("totals").changes():
                        return len(change.rows)
                return 0

            with running(create_app(reader)) as url:
                assert asyncio.run(follow()) == 4


def test_a_query_value_of_every_kind_is_spelled(reader: Reader, url: str) -> None:
    row = reader.query(Query("typed", limit=1)).rows[0]
    key = {name: row[name] for name in ("quantity", "amount", "sold_at")}
    with tideline.connect(url) as client:
        assert client.view("typed").get(**key).rows == reader.view("typed").get(**key).rows
        assert len(client.view("typed").get(**key)) == 1
