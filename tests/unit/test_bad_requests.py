"""Bad requests: the one error shape, or a closed connection; the server goes on answering the same after each."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from bad_requests import BROKEN_OFF, GARBAGE, HARMLESS, REQUESTS, BadRequest
from serving import running
from serving_case import installed

from serving_layer.app import create_app
from serving_layer.reader import Reader
from tideline.stores.lmdb import LmdbStore


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a server."""
    home = tmp_path_factory.mktemp("home")
    with LmdbStore.open(home, create=True) as store:
        installed(store, 60)
        with Reader(home) as reader, running(create_app(reader)) as url:
            yield url.removeprefix("http://")


def ask(server: str, bad: BadRequest) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection(server, timeout=30)) as connection:
        connection.putrequest(bad.method, bad.target)
        if bad.body is not None:
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(bad.body)))
        connection.endheaders(bad.body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def answer(server: str) -> Any:
    """What a good query is answered."""
    status, found = ask(server, BadRequest("", "/v1/views/totals/rows", 200, ""))
    assert status == 200
    return found


def exchange(server: str, request: bytes, leave: bool = False) -> bytes:
    """All that a server says to raw bytes until it closes; with `leave` nothing can follow them."""
    host, port = server.split(":")
    said = b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(request)
            if leave:
                connection.shutdown(socket.SHUT_WR)
            while block := connection.recv(65_536):
                said += block
        except ConnectionError:
            return said or b"HTTP/1.1 400 closed before all was sent"
    return said


@pytest.mark.parametrize("bad", REQUESTS, ids=lambda bad: bad.kind)
def test_a_bad_request_gets_its_condition_and_changes_nothing(server: str, bad: BadRequest) -> None:
    before = answer(server)
    status, found = ask(server, bad)
    assert (status, found["error"]["condition"]) == (bad.status, bad.gets), found
    assert sorted(found["error"]) == ["condition", "hint", "message", "params"]
    assert list(found) == ["error"]
    assert answer(server) == before


@pytest.mark.parametrize("kind", HARMLESS)
def test_an_odd_request_is_answered(server: str, kind: str) -> None:
    said = exchange(server, HARMLESS[kind])
    assert said.split(b"\r\n")[0].endswith(b" 200 OK"), said[:200]
    assert json.loads(said.partition(b"\r\n\r\n")[2])["rows"] == [
        {"country": row["country"], "lines": row["lines"]} for row in answer(server)["rows"]
    ]


@pytest.mark.parametrize("kind", [*GARBAGE, *BROKEN_OFF])
def test_garbage_is_refused_and_the_next_is_answered(server: str, kind: str) -> None:
    before = answer(server)
    if kind in GARBAGE:
        said = exchange(server, GARBAGE[kind])
        assert 400 <= int(said.split()[1]) < 500, said[:200]
    else:
        exchange(server, BROKEN_OFF[kind], leave=True)
    assert answer(server) == before
