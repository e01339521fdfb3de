"""Answers that are followed: whoever applies the events of a stream has what a query answers."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import error, running
from serving_case import Event, Installation, make_events

import serving_layer.live
from serving_layer.app import create_app
from serving_layer.reader import Reader
from tideline.stores.lmdb import LmdbStore

PATIENCE = 30.0


class Site:
    """An installation that is served; `events` are not committed yet."""

    def __init__(self, home: Path, store: LmdbStore, reader: Reader) -> None:
        self.events: list[Event] = make_events(400)
        self.made = Installation(store)
        self.reader = reader
        self.app = create_app(reader)
        self.url = ""
        self.commit(100)
        self.made.publish()

    def commit(self, count: int) -> None:
        taken, self.events = self.events[:count], self.events[count:]
        self.made.commit(taken)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with LmdbStore.open(tmp_path, create=True) as store, Reader(tmp_path) as reader:
        made = Site(tmp_path, store, reader)
        with running(made.app) as made.url:
            yield made
            made.app.state.live.end()


class Follower:
    """What a reader of a stream knows: the rows by their identity, and each event as it came."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.rows: dict[str, Any] = {}
        self.order: list[str] | None = None
        self.kinds: list[str] = []
        self.last = ""
        self.data: dict[str, Any] = {}
        self.key: list[str] = []

    def next(self) -> str:
        """Takes the next event; its kind."""
        fields: dict[str, str] = {}
        until = time.monotonic() + PATIENCE
        for line in self._lines:
            assert time.monotonic() < until, "nothing new came"
            if line.startswith((":", "retry:")):
                continue
            if not line and fields:
                break
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        assert fields, "the stream has ended"
        self.data, kind = json.loads(fields["data"]), fields["event"]
        self.kinds.append(kind)
        if kind == "error":
            return kind
        self.last = fields["id"]
        if kind == "snapshot":
            self.rows, self.key = {}, self.data["key"]
        for row in self.data["rows"]:
            self.rows[self.identity(row)] = row
        for gone in self.data.get("removed", ()):
            del self.rows[self.identity(gone)]
        if "order" in self.data:
            self.order = list(map(self.identity, self.data["order"]))
        return kind

    def identity(self, row: dict[str, Any]) -> str:
        return json.dumps([row[name] for name in self.key])

    def reach(self, cut: dict[str, Any]) -> None:
        """Takes events until the one at this cut."""
        until = time.monotonic() + PATIENCE
        while self.data.get("cut") != cut:
            assert time.monotonic() < until
            self.next()


@contextmanager
def followed(site: Site, view: str, last: str | None = None, **params: Any) -> Iterator[Follower]:
    headers = {} if last is None else {"Last-Event-ID": last}
    params = {"every": "50ms", **params}
    url = f"{site.url}/v1/views/{view}/changes"
    with httpx.stream("GET", url, params=params, headers=headers, timeout=PATIENCE) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Follower(response.iter_lines())


def answered(site: Site, view: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{site.url}/v1/views/{view}/rows", params=params).json()
    return found


@pytest.mark.parametrize(
    ("view", "params"),
    [
        ("totals", {}),
        ("revenue", {"country": "France"}),
        ("revenue", {"window": "1d", "group_by": "country", "measures": "lines,spread,best"}),
        ("revenue", {"country": ["France", "Norway"], "product": "cup", "window": "all"}),
        ("everything", {}),
        ("totals", {"country": "Atlantis"}),
    ],
    ids=str,
)
def test_a_snapshot_and_its_changes_are_the_answer(site: Site, view: str, params: dict[str, Any]) -> None:
    with followed(site, view, **params) as reader:
        assert reader.next() == "snapshot"
        dice = random.Random(1)
        while site.events:
            site.commit(dice.randint(1, 60))
            if dice.random() < 0.3:
                site.made.publish()
        answer = answered(site, view, **params)
        if answer["rows"]:
            reader.reach(answer["proof"]["cut"])
    assert list(reader.rows.values()) == answer["rows"] or sorted(map(str, reader.rows.values())) == sorted(
        map(str, answer["rows"])
    )


def test_a_top_list_says_who_left_and_in_which_order_the_others_are(site: Site) -> None:
    params = {"order": "-lines", "limit": "5", "window": "all", "group_by": "product,country"}
    with followed(site, "revenue", **params) as reader:
        reader.next()
        for _ in range(6):
            site.commit(50)
        answer = answered(site, "revenue", **params)
        reader.reach(answer["proof"]["cut"])
    assert reader.order is not None
    assert [reader.rows[name] for name in reader.order] == answer["rows"]


def test_another_order_is_sent_though_no_row_has_changed(site: Site) -> None:
    params = {"order": "-revenue", "measures": "largest"}
    with followed(site, "totals", **params) as reader:
        reader.next()
        before = answered(site, "totals", **params)["rows"]
        last = before[-1]["country"]
        least = min(one.amount for one in site.made.events if one.country == last)
        for number in range(40):
            site.made.commit([Event(0, 10_000 + number, site.made.events[0].at, last, "cup", 1, max(least, 80_000))])
        rows = answered(site, "totals", **params)["rows"]
        assert [row["country"] for row in rows] != [row["country"] for row in before]
        while reader.order is None or [reader.rows[name] for name in reader.order] != rows:
            reader.next()


def test_changed_answers_are_sent_though_no_event_came(site: Site) -> None:
    with followed(site, "totals", measures="double") as reader:
        reader.next()
        etag = httpx.get(f"{site.url}/v1/views/totals/rows?measures=double").headers["etag"]
        totals = next(one for one in site.made.views if one.name == "totals")
        changed = replace(totals, answers={**totals.answers, "double": "revenue * 3"})
        site.made.redefine(changed)
        assert reader.next() == "change"
        again = httpx.get(f"{site.url}/v1/views/totals/rows?measures=double", headers={"If-None-Match": etag})
        assert again.status_code == 200
        assert sorted(map(str, reader.rows.values())) == sorted(map(str, again.json()["rows"]))
    with followed(site, "totals", measures="double") as other:
        other.next()
        assert sorted(map(str, other.rows.values())) == sorted(map(str, again.json()["rows"]))


def test_only_what_changed_is_sent(site: Site) -> None:
    with followed(site, "totals") as reader:
        reader.next()
        [one] = [event for event in site.events if event.country == "Norway"][:1]
        before = dict(reader.rows)
        site.events.remove(one)
        site.made.commit([Event(one.partition, 10_000, one.at, "Norway", "cup", 1, 100)])
        assert reader.next() == "change"
        assert [row["country"] for row in reader.data["rows"]] == ["Norway"]
        assert reader.data["removed"] == []
    assert {name: row for name, row in reader.rows.items() if row["country"] != "Norway"} == {
        name: row for name, row in before.items() if row["country"] != "Norway"
    }


def test_a_reader_that_is_slow_gets_the_last_state_and_not_every_one_between(site: Site) -> None:
    with followed(site, "revenue", every="1s") as reader:
        reader.next()
        while site.events:
            site.commit(10)
        answer = answered(site, "revenue")
        reader.reach(answer["proof"]["cut"])
    assert len(reader.kinds) < 20
    assert {reader.identity(row): row for row in answer["rows"]} == reader.rows


def test_a_stream_goes_on_after_the_last_event(site: Site) -> None:
    with followed(site, "totals") as reader:
        reader.next()
        known, last = dict(reader.rows), reader.last
    site.commit(50)
    with followed(site, "totals", last=last) as again:
        again.key, again.rows = reader.key, known
        assert again.next() == "change"
        answer = answered(site, "totals")
        again.reach(answer["proof"]["cut"])
        assert {again.identity(row): row for row in answer["rows"]} == again.rows
        later = again.last
    with followed(site, "totals", last=later) as quiet:
        quiet.key, quiet.rows = reader.key, dict(again.rows)
        site.commit(10)
        assert quiet.next() == "change"
    with followed(site, "totals", last="nobody knows") as other:
        assert other.next() == "snapshot"


@pytest.mark.parametrize(
    ("view", "params", "status", "condition"),
    [
        ("nope", {}, 404, "UNKNOWN_VIEW"),
        ("totals", {"version": "1"}, 400, "NOT_LIVE"),
        ("totals", {"at_least": "sales:0=1"}, 400, "NOT_LIVE"),
        ("totals", {"every": "often"}, 400, "BAD_DURATION"),
        ("totals", {"city": "x"}, 400, "UNKNOWN_KEY"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    site: Site, view: str, params: dict[str, str], status: int, condition: str
) -> None:
    response = httpx.get(f"{site.url}/v1/views/{view}/changes", params=params)
    assert (response.status_code, response.json()["error"]["condition"]) == (status, condition)


def test_streams_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_layer.live, "MOST_STREAMS", 1)
    with followed(site, "totals") as reader:
        reader.next()
        refused = httpx.get(f"{site.url}/v1/views/revenue/changes")
        assert (refused.status_code, refused.json()["error"]["condition"]) == (503, "TOO_MANY_STREAMS")


def test_the_rows_of_a_stream_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_layer.live, "MOST_ROWS", 3)
    for params in ({}, {"limit": 4}, {"order": "-lines"}, {"window": "all"}):
        refused = httpx.get(f"{site.url}/v1/views/revenue/changes", params=params)
        assert error(refused, 400, "TOO_MANY_ROWS") == {"limit": 3}
    with followed(site, "revenue", limit="3") as reader:
        reader.next()
        assert len(reader.rows) == 3


def test_a_stream_says_why_it_ends(site: Site) -> None:
    with followed(site, "totals") as reader:
        reader.next()
        with site.made.store.write() as txn:
            totals = {txn.ledger.live["totals"]: "ValueError: broken"}
            txn.put_ledger(txn.ledger.quarantine("speed", site.made.speed, totals, 1.5))
        while reader.next() != "error":
            pass
        assert reader.data["error"]["condition"] == "VIEW_QUARANTINED"


def test_a_stream_looks_where_the_ledger_has_changed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from the server: it has looked at the ledger many times, and at the answer no more."""
    looks: Counter[str] = Counter()
    proof, ledger = Reader.proof, Reader.ledger
    monkeypatch.setattr(Reader, "proof", lambda *how: (looks.update(["proof"]), proof(*how))[1])
    monkeypatch.setattr(Reader, "ledger", lambda *how: (looks.update(["ledger"]), ledger(*how))[1])
    with followed(site, "totals") as reader:
        reader.next()
        until = time.monotonic() + PATIENCE
        while looks["ledger"] < 10:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert looks["proof"] == 0
        site.commit(50)
        assert reader.next() == "change"
        assert looks["proof"] > 0


def test_what_a_stream_is_resumed_from_has_an_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    live = site.app.state.live
    monkeypatch.setattr(serving_layer.live, "_KEPT", 5)
    for number in range(12):  # answers without rows, and long questions
        with followed(site, "totals", country="A" * 5_000 + str(number)) as reader:
            reader.next()
    assert len(live._kept) == 5
    assert max(len(name) for name, _ in live._kept) < 100
    monkeypatch.setattr(serving_layer.live, "_KEPT_BYTES", 3_000)
    with followed(site, "revenue") as reader:
        reader.next()
    assert len(live._kept) == 1
    assert live._kept_bytes == sum(page.size for page in live._kept.values()) > 3_000


@pytest.mark.parametrize("every", ["50ms", "365d"])
def test_streams_end_with_the_server(site: Site, every: str) -> None:
    with followed(site, "totals", every=every) as reader:
        reader.next()
        threading.Timer(0.2, site.app.state.live.end).start()
        with pytest.raises(AssertionError, match="the stream has ended"):
            while True:
                reader.next()
