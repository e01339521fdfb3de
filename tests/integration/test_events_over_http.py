"""Events posted over HTTP into a real Kafka, folded, and read back at the cut that the post told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cases import Event, make_events
from installed import Installed
from serving import running

import tideline
from serving_layer.app import create_app
from serving_layer.reader import Reader
from tideline.cut import Cut
from tideline.errors import UsageError


@pytest.fixture
def client(installed: Installed) -> Iterator[httpx.Client]:
    installed.apply_few()
    installed.home.write_status("speed", {"ready": True, "bootstrap": installed.bootstrap})
    with Reader(installed.home, store=installed.store) as reader:
        app = create_app(reader)
        with running(app) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client
        app.state.intake.close()


def lines(client: httpx.Client, **options: Any) -> int:
    """How many events the view of all counts."""
    response = client.get("/v1/views/totals/rows", params={"timeout": 60, **options})
    assert response.status_code == 200, response.text
    rows = response.json()["rows"]
    return rows[0]["lines"] if rows else 0


def post(client: httpx.Client, events: list[Event]) -> dict[str, Any]:
    response = client.post("/v1/sources/events/events", json=events)
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.json()
    assert found["events"] == len(events)
    return found


def test_what_was_posted_is_read_at_its_cut(installed: Installed, client: httpx.Client) -> None:
    events = make_events(60, seed=3)
    with installed.speed():
        told = post(client, events[:20])
        assert lines(client, at_least=told["at_least"]) == 20
        again = post(client, events[10:30])  # ten of them are repeats
        assert lines(client, at_least=again["at_least"]) == 30
        with ThreadPoolExecutor(4) as pool:
            cuts = list(
                pool.map(lambda some: post(client, some)["at_least"], [events[at : at + 10] for at in (30, 40, 50)])
            )
        wanted = Cut()
        for cut in cuts:
            wanted = wanted.advance(Cut.parse(cut))
        assert lines(client, at_least=str(wanted)) == 60
    assert wanted.advance(Cut.parse(told["at_least"])).topics() == (installed.topic,)


def test_an_answer_may_be_no_staler_than_asked(installed: Installed, client: httpx.Client) -> None:
    with installed.speed():
        lines_and_more = "\n".join(json.dumps(event) for event in make_events(15, seed=4))
        response = client.post("/v1/sources/events/events", content=lines_and_more)
        assert response.json()["events"] == 15
        assert lines(client, max_staleness="0s") == 15
    post(client, make_events(5, seed=5, first=100))
    stale = client.get("/v1/views/totals/rows", params={"max_staleness": "0s", "timeout": "0.3"})
    assert (stale.status_code, stale.json()["error"]["condition"]) == (504, "AT_LEAST_TIMEOUT")
    assert lines(client, max_staleness="1h") == 15


def test_a_broker_that_is_not_there_is_named(installed: Installed, client: httpx.Client, tmp_path: Path) -> None:
    installed.home.write_status("speed", {"ready": True, "bootstrap": "127.0.0.1:1"})
    response = client.post("/v1/sources/events/events", json=make_events(1, seed=1))
    assert (response.status_code, response.json()["error"]["condition"]) == (503, "KAFKA_UNREACHABLE")
    installed.home.write_status("speed", {"ready": True, "bootstrap": installed.bootstrap})
    assert post(client, make_events(1, seed=1))["cut"]


def test_a_client_reads_what_it_wrote(installed: Installed, client: httpx.Client) -> None:
    events = make_events(12, seed=6)
    with installed.speed(), tideline.connect(str(client.base_url), timeout=60) as remote:
        cut = remote.send("events", [*events[:4], *(json.dumps(event) for event in events[4:])])
        rows = remote.view("totals").get(at_least=str(cut), timeout=50).rows
        assert [row["lines"] for row in rows] == [12]
        with pytest.raises(UsageError) as refused:
            remote.send("events", [{"id": "x"}])
        assert refused.value.condition == "BAD_EVENTS"
