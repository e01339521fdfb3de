"""Connections that do not ask: they end, however many they are, and nobody who asks waits for them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from serving import running
from serving_case import Event, Installation, installed

from serving_layer.app import create_app
from serving_layer.connections import Bounds
from serving_layer.page import FILES, FOLDER
from serving_layer.reader import Reader
from tideline.stores.lmdb import LmdbStore

PATIENCE = 20.0
SOON = Bounds(head=0.3, body=0.3, reading=0.3)
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = b"POST /v1/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n{"


class Site:
    """An installation and the app over it."""

    def __init__(self, made: Installation, reader: Reader) -> None:
        self.made, self.app = made, create_app(reader)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with LmdbStore.open(tmp_path, create=True) as store:
        made = installed(store, 60)
        with Reader(tmp_path) as reader:
            yield Site(made, reader)


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def is_over(connection: socket.socket) -> bool:
    """Waits until the server ends it; what it said before is lost."""
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /heal", HEAD + b"A: ", BODY, HEAD + b"\r\nGET /heal", BODY.replace(b"/query", b"/nothing")],
    ids=["nothing", "half a line", "half a header", "half a body", "a request and a half", "half of what is refused"],
)
def test_who_does_not_ask_in_time_is_not_waited_for(site: Site, said: bytes) -> None:
    with running(site.app, bounds=SOON) as url, connected(url) as connection:
        connection.sendall(said)
        assert is_over(connection)
        assert httpx.get(f"{url}/healthz").status_code == 200


@pytest.mark.parametrize(("begin", "more"), [(HEAD, b"A: b\r\n"), (BODY, b" ")], ids=["head", "body"])
def test_who_asks_a_little_at_a_time_has_as_long_and_no_longer(site: Site, begin: bytes, more: bytes) -> None:
    with running(site.app, bounds=SOON) as url, connected(url) as connection:
        connection.sendall(begin)
        connection.settimeout(0.02)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                connection.sendall(more)
                if not connection.recv(100):
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
        pytest.fail("it is still there")


def test_a_stream_is_not_cut(site: Site) -> None:
    """It outlives others that began after it and were cut."""
    with (
        running(site.app, bounds=SOON) as url,
        httpx.stream("GET", f"{url}/v1/views/totals/changes?every=50ms", timeout=PATIENCE) as stream,
    ):
        data = (line for line in stream.iter_lines() if line.startswith("data: "))
        next(data)
        for _ in range(3):
            with connected(url) as silent:
                assert is_over(silent)
        site.made.commit([Event(0, 10_000, site.made.events[0].at, "Norway", "cup", 1, 100)])
        assert '"Norway"' in next(data)
        site.app.state.live.end()


def test_a_request_that_takes_its_time_to_be_answered_is_answered(site: Site) -> None:
    with running(site.app, bounds=SOON) as url:
        late = httpx.get(f"{url}/v1/views/totals/rows?at_least=sales:0=999999&timeout=1", timeout=PATIENCE)
    assert (late.status_code, late.json()["error"]["condition"]) == (504, "AT_LEAST_TIMEOUT")


def test_there_is_always_a_place_for_who_asks(site: Site) -> None:
    with running(site.app, bounds=Bounds(connections=5)) as url, ExitStack() as stack:
        idle = [stack.enter_context(connected(url)) for _ in range(20)]
        assert httpx.get(f"{url}/healthz", timeout=PATIENCE).status_code == 200
        assert all(map(is_over, idle[:15]))
        for connection in idle[17:]:  # the last are there still
            connection.sendall(HEAD + b"\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_who_takes_nothing_of_an_answer_is_not_waited_for(site: Site) -> None:
    """Who takes a little at a time, for much longer, gets all of it."""
    name = max(FILES, key=lambda name: (FOLDER / name).stat().st_size)
    asked = 8  # answers, more than the system holds between both
    wanted = asked * (FOLDER / name).stat().st_size
    with running(site.app, bounds=SOON) as url, connected(url) as quick, connected(url) as slow:
        for connection in (quick, slow):
            connection.sendall(f"GET /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * asked)
        for taken in iter(lambda: len(quick.recv(65_536)), 0):
            wanted -= taken
            if wanted < 0:
                break  # what is left are heads
            time.sleep(0.01)
        assert wanted < 0
        assert _take(slow) < asked * (FOLDER / name).stat().st_size


def _take(connection: socket.socket) -> int:
    """How many bytes there are until the server ends it."""
    taken = 0
    try:
        while block := connection.recv(65_536):
            taken += len(block)
    except ConnectionError:
        pass
    return taken


_SERVE = """
import resource, sys
from pathlib import Path
from serving_layer.server import serve
from tideline.runtime.home import Home
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 600))
serve(Home(Path(sys.argv[1])).prepare(), "127.0.0.1", 0, lambda line: print(line, flush=True))
"""


def test_more_silent_connections_than_files_keep_nobody_from_asking(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        installed(store, 60)
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([sys.executable, "-c", _SERVE, str(tmp_path)], stdout=subprocess.PIPE, stderr=log)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().split()[-1]
            with ExitStack() as stack, ThreadPoolExecutor(100) as pool:
                for connection in pool.map(connected, [url] * 700):
                    stack.enter_context(connection)
                assert httpx.get(f"{url}/healthz", timeout=PATIENCE).json()["ok"]
                statement = httpx.post(f"{url}/v1/sql", json={"sql": "SELECT 1"}, timeout=PATIENCE)
                assert json.loads(statement.text)["rows"] == [[1]]
        finally:
            process.kill()
            process.wait()
    assert (tmp_path / "log").stat().st_size < 10_000
