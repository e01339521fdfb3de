"""What takes long is shared out by caller, and ends for those who have left."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import condition, running
from serving_case import Event, Installation, installed

from serving_layer.app import create_app
from serving_layer.find import NotReadyError
from serving_layer.lock.tokens import TokenFile
from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.turns import Turns
from serving_layer.waiting import ANSWERS_OF_ONE, MOST_ANSWERS
from tideline.cut import Cut
from tideline.stores.lmdb import LmdbStore

PATIENCE = 20.0
LATE = "/v1/views/totals/rows?at_least=sales:0=9999999&timeout=60"
ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"


class Site:
    """A server of an installation, and two who ask it."""

    def __init__(self, home: Path, made: Installation, reader: Reader) -> None:
        tokens = TokenFile(home / "tokens.json")
        self.one, self.other = ({"Authorization": f"Bearer {tokens.create(n, 'reader')[0]}"} for n in ("one", "other"))
        self.made, self.reader, self.app = made, reader, create_app(reader)
        self.url = ""

    def asks(self, many: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        """What comes of many requests of the one at a time."""

        async def asked() -> Any:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(
                base_url=self.url, headers=self.one, timeout=PATIENCE, limits=limits
            ) as client:
                return await many(client)

        return asyncio.run(asked())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with LmdbStore.open(tmp_path, create=True) as store:
        made = installed(store, 150)
        with Reader(tmp_path) as reader:
            found = Site(tmp_path, made, reader)
            with running(found.app) as found.url:
                yield found
            found.app.state.sql.close()


async def until(holds: Callable[[], bool]) -> None:
    """Waits for a condition."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_who_waits_holds_no_thread(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []
    query_many = Reader.query_many
    monkeypatch.setattr(Reader, "query_many", lambda *how: looks.append(None) or query_many(*how))  # type: ignore[func-returns-value]

    async def many(client: httpx.AsyncClient) -> list[int]:
        waiting = [asyncio.ensure_future(client.get(LATE, timeout=300)) for _ in range(192)]
        await until(lambda: len(looks) >= 192)  # all have found that they must wait
        asks = [
            client.get("/v1/views/totals/rows?at_least=sales:0=1&timeout=1"),
            client.get("/v1/views/totals/rows?at_least=sales:0=1&timeout=1", headers=site.other),
            client.get("/v1/views/revenue/rows"),
        ]
        found = [response.status_code for response in await asyncio.gather(*asks)]
        for one in waiting:
            one.cancel()
        return found

    assert site.asks(many) == [200] * 3


def test_who_waits_is_answered_when_it_comes(site: Site) -> None:
    cut = site.reader.ledger().committed
    wanted = cut.advance(Cut({"sales": {0: cut.offset("sales", 0) + 1}}))
    body = {"queries": [{"view": "totals", "at_least": wanted.to_json(), "timeout": PATIENCE}]}

    async def many(client: httpx.AsyncClient) -> Any:
        asked = asyncio.ensure_future(client.post("/v1/query", json=body))
        early = await client.get(f"/v1/views/totals/rows?at_least={wanted}&timeout=0.1")
        assert condition(early) == (504, "AT_LEAST_TIMEOUT")
        assert early.json()["error"]["params"]["seconds"] >= 0.1
        assert not asked.done()
        site.made.commit([Event(0, cut.offset("sales", 0), site.made.events[0].at, "Norway", "cup", 1, 100)])
        return (await asked).json()["results"][0]["proof"]["cut"]

    assert Cut.from_json(site.asks(many)).covers(wanted)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/views/totals/rows?at_least=nowhere:0=1&timeout=300", 400, "UNKNOWN_TOPIC"),
        ("/v1/views/nope/rows?at_least=sales:0=9999999&timeout=60", 404, "UNKNOWN_VIEW"),
        ("/v1/views/totals/rows?at_least=sales:0=9999999&timeout=300&version=1", 504, "AT_LEAST_TIMEOUT"),
        ("/v1/views/totals/rows?at_least=sales:0=9999999&timeout=301", 400, "BAD_VALUE"),
        ("/v1/views/totals/rows?max_staleness=1s", 503, "KAFKA_UNKNOWN"),
    ],
)
def test_what_never_comes_is_not_waited_for(site: Site, path: str, status: int, says: str) -> None:
    refused = httpx.get(site.url + path, headers=site.one, timeout=PATIENCE)
    assert condition(refused) == (status, says)


def test_a_wait_ends_with_whoever_waits(site: Site) -> None:
    async def many(client: httpx.AsyncClient) -> None:
        for path in (LATE, LATE.replace("totals", "revenue")):
            with pytest.raises(httpx.ReadTimeout):
                await client.get(path, timeout=0.5)

    site.asks(many)
    tasks = site.app.state.answers.waiting
    end = time.monotonic() + PATIENCE
    while tasks():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_caller_does_not_take_all_threads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of the one that do not end leave a place for another's, and no more of them begin."""
    go, begun, query_many = threading.Event(), [], Reader.query_many

    def held(reader: Reader, queries: list[Query], *how: Any) -> Any:
        if queries[0].limit == "7":
            begun.append(None)
            go.wait(PATIENCE)
        return query_many(reader, queries, *how)

    monkeypatch.setattr(Reader, "query_many", held)
    slow = "/v1/views/revenue/rows?order=-lines&limit=7"

    async def many(client: httpx.AsyncClient) -> list[int]:
        left = [asyncio.ensure_future(client.get(slow, timeout=300)) for _ in range(60)]
        await until(lambda: len(begun) >= ANSWERS_OF_ONE)
        quick = await client.get("/v1/views/revenue/rows?order=-lines&limit=8", headers=site.other)
        for one in left:
            one.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await until(lambda: not site.app.state.answers.turns.waiting)  # those that had not begun are given up
        go.set()
        again = await client.get("/v1/views/revenue/rows?order=-lines&limit=9")
        return [quick.status_code, again.status_code]

    assert site.asks(many) == [200, 200]
    assert len(begun) == ANSWERS_OF_ONE < MOST_ANSWERS


def test_statements_of_one_keep_another_waiting_for_one_alone(site: Site) -> None:
    async def many(client: httpx.AsyncClient) -> tuple[int, str]:
        asks = [{"sql": ENDLESS, "timeout": 2}, *({"sql": ENDLESS, "timeout": 6} for _ in range(63))]
        first = await client.post("/v1/sql", json={"sql": "SELECT 1"})  # the process is there
        assert first.status_code == 200
        long = [asyncio.ensure_future(client.post("/v1/sql", json=asks[0]))]
        await until(lambda: site.app.state.sql.is_busy)
        long += [asyncio.ensure_future(client.post("/v1/sql", json=ask)) for ask in asks[1:]]
        await until(lambda: site.app.state.asking.waiting >= 48)
        found = await client.post("/v1/sql", json={"sql": "SELECT 1", "timeout": 4}, headers=site.other)
        for one in long:
            one.cancel()
        return found.status_code, json.dumps(found.json().get("rows"))

    assert site.asks(many) == (200, "[[1]]")


def test_turns_go_to_who_has_the_fewest_and_to_all_in_the_end() -> None:
    order: list[str] = []

    async def work() -> None:
        turns, go, held = Turns(2, 2), threading.Event(), Turns(1, 1)
        first = [asyncio.ensure_future(turns.run_for("a", lambda: go.wait(PATIENCE))) for _ in range(2)]
        await asyncio.sleep(0)
        later = [
            asyncio.ensure_future(turns.run_for(who, lambda who=who: order.append(who)))  # type: ignore[misc]
            for who in ("a", "a", "a", "b")
        ]
        await asyncio.sleep(0)
        cancelled = asyncio.ensure_future(turns.run_for("b", lambda: order.append("never")))
        await asyncio.sleep(0)
        cancelled.cancel()
        go.set()
        await asyncio.gather(*first, *later)
        assert [await held.run_for(who, lambda: 1) for who in ("", "", "a")] == [1, 1, 1]
        assert not turns.waiting

    asyncio.run(work())
    assert sorted(order) == ["a", "a", "a", "b"]
    assert "b" in order[:2]


def test_a_long_cut_is_compared_when_the_ledger_has_changed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, covers = [], Cut.covers
    monkeypatch.setattr(Cut, "covers", lambda *cuts: compared.append(None) or covers(*cuts))  # type: ignore[func-returns-value]
    with pytest.raises(NotReadyError):
        site.reader.query(Query("totals", at_least="sales:0=9999999", timeout=0.5))
    assert len(compared) < 5
