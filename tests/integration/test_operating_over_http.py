"""What operators ask over HTTP: dead letters with their bytes, and a verification with its verdict."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cases import make_events
from installed import Installed, wait_for
from serving import running

from serving_layer.app import create_app
from serving_layer.lock.gate import Lock
from serving_layer.lock.tokens import TokenFile
from serving_layer.reader import Reader

BAD = b'{"id": "x", \xff\x00'
ROLES = """
[roles.night]
actions = ["read", "operate"]
[roles.narrow]
actions = ["read", "operate"]
views = ["totals"]
"""


@pytest.fixture
def client(installed: Installed) -> Iterator[httpx.Client]:
    installed.apply_few()
    installed.send([*make_events(50, seed=2), BAD, b"[]"], partition=1)
    installed.batch()
    installed.send([b"{"], partition=0)
    installed.home.write_status("speed", {"ready": True, "bootstrap": installed.bootstrap})
    with Reader(installed.home, store=installed.store) as reader:
        app = create_app(reader)
        with running(app) as url, httpx.Client(base_url=url, timeout=120) as client:
            yield client
        app.state.verifier.close()


def letters(client: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    response = client.get("/v1/dead-letters", params=params)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["dead_letters"]
    return found


def test_dead_letters_are_told_with_their_bytes(installed: Installed, client: httpx.Client) -> None:
    with installed.speed():
        installed.wait_committed()
    found = letters(client)
    assert [(letter["partition"], base64.b64decode(letter["base64"])) for letter in found] == [
        (1, BAD),  # the master's first, then what Kafka alone holds
        (1, b"[]"),
        (0, b"{"),
    ]
    assert [letter["reason"] for letter in found] == ["not UTF-8", "not a JSON object", "not JSON"]
    place = f"events:1:{found[0]['offset']}"
    assert letters(client, place=place) == found[:1]
    assert letters(client, limit=2, source="events") == found[:2]
    assert letters(client, reason="no such reason") == []


@pytest.mark.parametrize(
    ("params", "status", "condition"),
    [
        ({"source": "nope"}, 404, "UNKNOWN_SOURCE"),
        ({"place": "events:1"}, 400, "BAD_PLACE"),
        ({"limit": "many"}, 400, "BAD_VALUE"),
        ({"sauce": "events"}, 400, "UNKNOWN_OPTION"),
    ],
)
def test_what_names_no_dead_letter_is_refused(
    client: httpx.Client, params: dict[str, str], status: int, condition: str
) -> None:
    response = client.get("/v1/dead-letters", params=params)
    assert (response.status_code, response.json()["error"]["condition"]) == (status, condition)


def test_a_verification_ends_with_its_verdict(installed: Installed, client: httpx.Client) -> None:
    assert client.get("/v1/verify").json()["report"] is None
    assert client.post("/v1/verify", json={"views": ["nope"]}).status_code == 404
    assert client.post("/v1/verify", json=["totals"]).status_code == 422
    begun = client.post("/v1/verify", json={"views": ["totals"]})
    assert (begun.status_code, begun.json()["running"], begun.json()["views"]) == (202, True, ["totals"])
    assert client.post("/v1/verify").json()["views"] == ["totals"]  # one at a time
    state = wait_for(lambda: (found := client.get("/v1/verify").json())["running"] is False and found, "it ends")
    assert state["error"] is None
    assert state["report"]["equal"] is True
    assert [view["view"] for view in state["report"]["views"]] == ["totals"]
    assert state["seconds"] > 0


def test_a_verification_that_cannot_be_had_says_why(installed: Installed, client: httpx.Client) -> None:
    installed.home.write_status("speed", {"ready": True, "bootstrap": "127.0.0.1:1"})
    with installed.speed():
        installed.wait_committed()  # something that only Kafka has
    client.post("/v1/verify")
    state = wait_for(lambda: (found := client.get("/v1/verify").json())["running"] is False and found, "it ends")
    assert state["report"] is None
    assert "127.0.0.1:1" in state["error"]


def test_who_sees_a_part_sees_no_records(installed: Installed, client: httpx.Client) -> None:
    home = installed.home
    (home.path / "access.toml").write_text(ROLES, "utf-8")
    tokens = TokenFile(home.path / "tokens.json")
    told = {role: tokens.create(role, role)[0] for role in ("night", "narrow", "reader")}
    with Reader(home, store=installed.store) as reader, running(create_app(reader, Lock(home))) as url:
        for role, status in (("night", 200), ("narrow", 403), ("reader", 403)):
            headers = {"Authorization": f"Bearer {told[role]}"}
            for path in ("/v1/dead-letters", "/v1/verify"):
                assert httpx.get(url + path, headers=headers, timeout=60).status_code == status, (role, path)
