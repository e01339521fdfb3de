"""How long the Python clients wait: on servers that drip, are silent or busy, each on a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import running
from serving_case import installed
from starlette.types import ASGIApp, Receive, Scope, Send

import tideline
from serving_layer.app import create_app
from serving_layer.lock.tokens import TokenFile
from serving_layer.reader import Reader
from tideline.client import requests
from tideline.errors import OutsideError
from tideline.stores.lmdb import LmdbStore

Answer = Callable[[socket.socket, int, threading.Event], None]
VIEWS = b'{"views": []}'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
OPEN = STREAM + b"retry: 1000\n\n"


def event(kind: str, name: str) -> bytes:
    return f'event: {kind}\nid: {name}\ndata: {{"rows":[],"cut":{{}},"version":1}}\n\n'.encode()


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a server that answers the head of its n-th request by hand, and the heads so far."""
    asked: list[bytes] = []
    threads: list[threading.Thread] = []
    ended = threading.Event()

    def take(connection: socket.socket) -> None:
        with connection:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(1)
                asked.append(head)
                answer(connection, len(asked), ended)
            except OSError:  # whoever asked has gone
                pass

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=take, args=(connection,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=listen)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join()


def dripping(before: bytes, after: bytes) -> Answer:
    """Sends a blank every 50 ms for five seconds between the one and the other: never silent, but late."""

    def answer(connection: socket.socket, number: int, ended: threading.Event) -> None:
        connection.sendall(before)
        for _ in range(100):
            ended.wait(0.05)
            connection.sendall(b" ")
        connection.sendall(after)

    return answer


DRIPS = {
    "head": dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nx:", b"x\r\n\r\n" + VIEWS),
    "body": dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 113\r\n\r\n", VIEWS),
}


def ask(url: str, kind: str, call: Callable[[Any], Any], **options: Any) -> Any:
    """What a call of the one client or the other answers."""
    if kind == "sync":
        with tideline.connect(url, **options) as client:
            return call(client)

    async def answered() -> Any:
        async with tideline.connect_async(url, **options) as client:
            return await call(client)

    return asyncio.run(answered())


def first_changes(url: str, kind: str, count: int, **options: Any) -> list[tuple[str, str]]:
    """Kind and id of the first changes that the one client or the other is told."""
    found: list[tuple[str, str]] = []
    if kind == "sync":
        with tideline.connect(url, **options) as client:
            for change in client.view("totals").changes():
                found.append((change.kind, change.id))
                if len(found) == count:
                    break
        return found

    async def follow() -> None:
        async with tideline.connect_async(url, **options) as client:
            async for change in client.view("totals").changes():
                found.append((change.kind, change.id))
                if len(found) == count:
                    break

    asyncio.run(follow())
    return found


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
@pytest.mark.parametrize("part", DRIPS)
def test_a_reply_that_drips_is_waited_for_until_the_deadline(kind: str, part: str) -> None:
    with answering(DRIPS[part]) as (url, _), pytest.raises(OutsideError) as late:
        ask(url, kind, lambda client: client.views(), timeout=0.5)
    assert late.value.condition == "SERVER_UNREACHABLE"


@both
def test_a_kept_connection_keeps_the_deadline_of_each_request(kind: str) -> None:
    """The first request is answered at once, the second one drips on the same connection."""
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n" + VIEWS

    def answer(connection: socket.socket, number: int, ended: threading.Event) -> None:
        connection.sendall(reply)
        connection.recv(1 << 16)
        DRIPS["head"](connection, number, ended)

    with answering(answer) as (url, asked):
        if kind == "sync":
            with tideline.connect(url, timeout=0.5) as client:
                assert client.views() == []
                with pytest.raises(OutsideError) as late:
                    client.views()
        else:

            async def twice() -> None:
                async with tideline.connect_async(url, timeout=0.5) as client:
                    assert await client.views() == []
                    await client.views()

            with pytest.raises(OutsideError) as late:
                asyncio.run(twice())
    assert (late.value.condition, len(asked)) == ("SERVER_UNREACHABLE", 1)


@both
def test_a_stream_that_drips_before_it_begins_ends_at_the_deadline(kind: str) -> None:
    late_stream = dripping(STREAM, b"\n" + event("snapshot", "one"))
    with answering(late_stream) as (url, _), pytest.raises(OutsideError) as late:
        first_changes(url, kind, 1, timeout=0.5)
    assert late.value.condition == "SERVER_UNREACHABLE"


@both
def test_a_request_that_is_taken_slowly_ends_at_the_deadline(kind: str) -> None:
    events, taken = ["x" * (1 << 20)] * 32, 0

    def answer(connection: socket.socket, number: int, ended: threading.Event) -> None:
        nonlocal taken
        while found := connection.recv(1 << 18):
            taken += len(found)
            ended.wait(0.05)

    with answering(answer) as (url, asked), pytest.raises(OutsideError) as late:
        ask(url, kind, lambda client: client.send("sales", events), timeout=0.5)
    assert (late.value.condition, len(asked)) == ("SERVER_UNREACHABLE", 1)
    assert taken < 24 << 20  # the rest was never written


@both
def test_an_open_stream_may_be_silent_for_longer_than_the_timeout(kind: str) -> None:
    def answer(connection: socket.socket, number: int, ended: threading.Event) -> None:
        connection.sendall(OPEN + event("snapshot", "one"))
        ended.wait(1.5)
        connection.sendall(event("change", "two"))
        ended.wait()

    with answering(answer) as (url, asked):
        assert first_changes(url, kind, 2, timeout=0.3) == [("snapshot", "one"), ("change", "two")]
        assert len(asked) == 1


@both
def test_a_stream_that_is_silent_for_too_long_is_opened_anew_where_it_was(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_SILENCE", 0.3)
    told = {1: event("snapshot", "one"), 4: event("change", "two")}

    def answer(connection: socket.socket, number: int, ended: threading.Event) -> None:
        connection.sendall(OPEN + told.get(number, b""))
        ended.wait()

    with answering(answer) as (url, asked):
        assert first_changes(url, kind, 2, timeout=0.3) == [("snapshot", "one"), ("change", "two")]
        assert ["last-event-id: one" in head.decode().lower() for head in asked] == [False, True, True, True]


def test_a_stream_that_looks_seldom_may_be_silent_for_longer() -> None:
    silences = [
        requests.changes_call("totals", options, None).silence for options in ({}, {"every": "1m"}, {"every": 60})
    ]
    assert silences == [45.0, 105.0, 105.0]


@both
def test_an_event_may_hold_any_separator_of_unicode(kind: str) -> None:
    name = "a\u2028b\u0085c"

    def answer(connection: socket.socket, number: int, ended: threading.Event) -> None:
        connection.sendall(OPEN + event("snapshot", name))
        ended.wait()

    with answering(answer) as (url, _):
        assert first_changes(url, kind, 1, timeout=5) == [("snapshot", name)]


class Counting:
    """An app that counts its requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.asked = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += scope["type"] == "http"
        await self.app(scope, receive, send)


@contextmanager
def limited(home: Path, limits: str) -> Iterator[tuple[str, str, Counting]]:
    """The URL of a server with limits, a token for it, and its counter."""
    with LmdbStore.open(home, create=True) as store:
        installed(store, 30)
        (home / "access.toml").write_text(f"[limits]\n{limits}\n", "utf-8")
        token, _ = TokenFile(home / "tokens.json").create("mine", "reader")
        with Reader(home) as reader:
            app = Counting(create_app(reader))
            with running(app) as url:
                yield url, token, app


@both
def test_a_limit_is_waited_for_as_long_as_the_server_says(kind: str, tmp_path: Path) -> None:
    with limited(tmp_path, "requests_per_second = 1\nburst = 1") as (url, token, app):
        for _ in range(2):
            ask(url, kind, lambda client: client.views(), token=token, timeout=20)
        assert app.asked == 3  # of which the second was refused


@both
def test_a_limit_beyond_the_deadline_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    with limited(tmp_path, "requests_per_second = 0.01\nburst = 1") as (url, token, app):
        ask(url, kind, lambda client: client.views(), token=token)
        with pytest.raises(OutsideError) as refused:
            ask(url, kind, lambda client: client.views(), token=token, timeout=20)
        with pytest.raises(OutsideError):
            first_changes(url, kind, 1, token=token, timeout=20)
        assert (refused.value.condition, refused.value.params["status"]) == ("TOO_MANY_REQUESTS", 429)
        assert app.asked == 3


@both
def test_a_call_may_take_the_time_that_it_was_given(kind: str, tmp_path: Path) -> None:
    asked = {"at_least": "sales:0=99999", "timeout": 1}
    calls: list[Callable[[Any], Any]] = [
        lambda client: client.view("totals").get(**asked),
        lambda client: client.query_many([{"view": "totals", **asked}]),
    ]
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 30)
        with Reader(tmp_path) as reader:
            app = create_app(reader)
            with running(app) as url:
                for call in calls:
                    with pytest.raises(OutsideError) as late:
                        ask(url, kind, call, timeout=0.1)
                    assert late.value.condition == "AT_LEAST_TIMEOUT"
                rows = ask(url, kind, lambda client: client.sql("SELECT 1 AS one", timeout=60), timeout=0.1).rows
                assert rows == [{"one": 1}]
            app.state.sql.close()
