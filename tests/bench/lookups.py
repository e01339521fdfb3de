"""Part 5, lookups over HTTP while 5,000 events a second flow in, in turn with a bare route of the same server and with
Feast's feature server."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contestants import HERE, Contestant, EngineFault, wait
from figures import Figure, Runs
from freshness import PARTITIONS
from peer_environments import PeerMissing, peer_python
from sales import SCHEMA, Sales

from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.cut import Cut
from tideline.eventfiles import Event
from tideline.produce import produce_raw
from tideline.runtime.home import Home
from tideline.runtime.ports import free_port, port_answers
from tideline.runtime.process import pause
from tideline.runtime.stack import Stack
from tideline.runtime.topics import log_end_offsets
from tideline.settings import Settings

PART = "lookups"
KEYS = (10_000, 5_000_000)
FLOW = 5_000  # events a second meanwhile
RATE, SLOW = 500, 50  # requests a second: of small answers, of those that one of a single key is held against
WARM = 60.0  # seconds that events flow before
CATALOG = f'''
from tideline import *
lines = Source("lines", schema="{SCHEMA}", event_time="sold_at", max_ahead=None)
sales = Source("sales", schema="{SCHEMA}", event_time="sold_at", max_ahead=None)
by_line = View("by_line", source=lines, key="line_id", measures={{"lines": Count(), "quantity": Sum("quantity")}})
by_minute = View("by_minute", source=lines, key="country", bucket=minutes(1),
                 measures={{"lines": Count(), "quantity": Sum("quantity")}})
by_product = View("by_product", source=sales, key="product", measures={{"lines": Count(), "largest": Max("price")}})
'''


@contextlib.contextmanager
def serving(home: Home, lock: Path | None = None) -> Iterator[tuple[str, int]]:
    """Where the API of a home answers, with a bare route more; and its process. `lock` has who may ask."""
    port = free_port("127.0.0.1")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)])}
    command = [sys.executable, str(HERE / "engine_serve.py"), str(home.path), str(port), *([str(lock)] if lock else [])]
    process = subprocess.Popen(command, env=environment, start_new_session=True)  # as `tideline up` starts it
    try:
        wait(lambda: port_answers("127.0.0.1", port), "the API answers", 60)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


Asked = list[tuple[str, str]]


def asked_of(keys: int) -> dict[str, Asked]:
    """Requests by kind, as paths and bodies; ids are those of `Sales(8)`."""
    dice = random.Random(1)
    drawn = [f"8-{dice.randrange(keys)}" for _ in range(2_000)]
    day = "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z"
    return {
        "bare": [("/bare", "")],
        "one key": (one := [(f"/v1/views/by_line/rows?line_id={id}", "") for id in drawn]),
        "feast": [("/get-online-features", _of_feast(id)) for id in drawn],
        "one key, slowly": one,
        "a hundred keys": [("/v1/query", _hundred(dice.sample(drawn, 100))) for _ in range(50)],
        "a day of minutes": [(f"/v1/views/by_minute/rows?country={c}&{day}", "") for c in ("France", "Spain")],
    }


def _of_feast(id: str) -> str:
    return json.dumps({"features": ["by_line:lines", "by_line:quantity"], "entities": {"line_id": [id]}})


def _hundred(ids: list[str]) -> str:
    return json.dumps({"queries": [{"view": "by_line", "key": {"line_id": ids}}]})


class _Sent:
    """The lines that were sent: `8-0`, `8-1` and so on."""

    def __init__(self) -> None:
        self._sales = Sales(8)
        self.quantities = bytearray()

    def more(self, bootstrap: str, count: int) -> None:
        """Sends lines until there are so many."""
        produce_raw(self._noted(count - len(self.quantities)), "lines", bootstrap)

    def _noted(self, count: int) -> Iterator[Event]:
        for event in self._sales.events(count):
            self.quantities.append(int(event.value.partition(b'"quantity":')[2].partition(b",")[0]))
            yield event

    def lines(self, country: str) -> int:
        """How many lines of a country."""
        return sum(values[0] for key, values in self._sales.answers["by_hour"].items() if key.startswith(country))


def run(runs: Runs, rounds: int, seconds: float, keys: tuple[int, ...] = KEYS) -> None:
    """Measures what is not yet in `runs`."""
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        home, catalog, sent = Home(Path(folder) / "home").prepare(), Path(folder) / "catalog.py", _Sent()
        catalog.write_text(CATALOG, "utf-8")
        settings = Settings().with_values({"kafka.port": "auto", "serve.port": "auto", "batch.every": "60s"})
        with (
            Stack(home, settings, catalog, lambda _: None) as stack,
            Contestant("load_http.py") as client,
            Contestant("load_sender.py") as sender,
        ):
            sender.ask(60, do="start", bootstrap=stack.bootstrap, topic="sales", partitions=PARTITIONS, rate=FLOW)
            pause(WARM)
            for count in keys:
                sent.more(stack.bootstrap, count)
                settled(home, stack.bootstrap)
                with serving(home) as (url, _), _feast(runs, count) as feast:
                    _measure(runs, client, home, {"": url, "feast": feast}, count, rounds, seconds, sent)
            sender.ask(60, do="stop")


@contextlib.contextmanager
def _feast(runs: Runs, count: int) -> Iterator[str | None]:
    """Where Feast answers, with as many keys; None where it cannot be had, or takes too long to fill."""
    if count != KEYS[0]:
        yield None
        return
    try:
        with Contestant("peers/engine_feast.py", peer_python("feast")) as feast:
            yield feast.ask(600, do="start", keys=count, port=free_port("127.0.0.1"), seed=8)["url"]
            feast.ask(60, do="stop")
    except PeerMissing as fault:
        runs.add(PART, "feast", fault=str(fault))
        yield None


def settled(home: Home, bootstrap: str) -> None:
    """Returns once all lines are in a version."""
    end = Cut(log_end_offsets(bootstrap, ["lines"]))
    with Reader(home) as reader:
        wait(
            lambda: Cut.from_json(reader.query(Query("by_line", limit=1)).proof["batch_cut"]).covers(end),
            "all lines are in a version",
            900,
        )


def _measure(
    runs: Runs,
    client: Contestant,
    home: Home,
    urls: dict[str, str | None],
    count: int,
    rounds: int,
    seconds: float,
    sent: _Sent,
) -> None:
    """`urls` by contestant, our own without a name; None for one that is not there."""
    asked = {kind: found for kind, found in asked_of(count).items() if urls["feast"] or kind != "feast"}
    if count != KEYS[0]:
        asked = {kind: asked[kind] for kind in ("bare", "one key")}
    where = {kind: urls["feast" if kind == "feast" else ""] for kind in asked}
    targets = {kind: (where[kind], requests) for kind, requests in asked.items()}
    for kind, (url, requests) in targets.items():
        _check(kind, url or "", requests, sent)
    client.ask(300, do="at_rate", asked=targets, rate=RATE / 5, seconds=5)
    fast = {kind: target for kind, target in targets.items() if kind in ("bare", "one key", "feast")}
    slow = {kind: target for kind, target in targets.items() if kind not in fast}
    for number in range(rounds):
        if len(runs.of(PART, f"one key, {count} keys")) <= number:
            found = client.ask(900, do="at_rate", asked=fast, rate=RATE, seconds=seconds)
            if slow:
                found |= client.ask(900, do="at_rate", asked=slow, rate=SLOW, seconds=seconds / 3)
            most = client.ask(900, do="at_once", asked=targets, seconds=seconds / 10)
            for kind in targets:
                runs.add(PART, f"{kind}, {count} keys", **found[kind], **most[kind])
        if len(runs.of(PART, f"in process, {count} keys")) <= number:
            runs.add(PART, f"in process, {count} keys", **_in_process(home, count))


def _check(kind: str, url: str, asked: Asked, sent: _Sent) -> None:
    """Raises EngineFault where the first answers are not those of the lines that were sent."""
    for path, body in asked[:20] if kind != "bare" else ():
        request = urllib.request.Request(url + path, body.encode() or None, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            reply = json.load(response)
        if kind == "feast":
            values = (result["values"] for result in reply["results"])
            found: Any = dict(zip(reply["metadata"]["feature_names"], values, strict=True))
            expected: Any = {**json.loads(body)["entities"], "lines": [1], "quantity": [7]}
        elif kind == "a day of minutes":
            country = path.partition("country=")[2].partition("&")[0]
            found, expected = sum(row["lines"] for row in reply["rows"]), sent.lines(country)
        else:
            rows = reply["rows"] if kind.startswith("one key") else reply["results"][0]["rows"]
            found = {row["line_id"]: (row["lines"], row["quantity"]) for row in rows}
            ids = (
                [path.partition("line_id=")[2]]
                if kind.startswith("one key")
                else json.loads(body)["queries"][0]["key"]["line_id"]
            )
            expected = {id: (1, sent.quantities[int(id.partition("-")[2])]) for id in ids}
        if found != expected:
            raise EngineFault(f"wrong answers: {kind}, {path}: {found} instead of {expected}")


def _in_process(home: Home, count: int) -> dict[str, Any]:
    """Microseconds of a lookup of one key by a reader in this process."""
    dice, times = random.Random(2), []
    with Reader(home) as reader:
        for number in range(6_000):
            query = Query("by_line", key={"line_id": f"8-{dice.randrange(count)}"})
            began = time.perf_counter()
            reader.query(query)
            if number >= 1_000:
                times.append(time.perf_counter() - began)
    return {"p50": round(statistics.median(times) * 1e6, 1)}


def figures(runs: Runs) -> list[Figure]:
    """Ratios of one run."""
    few, many = KEYS[0], KEYS[-1]

    def ratio(name: str, other: str, value: str) -> list[float]:
        return [a / b for a, b in zip(runs.values(PART, name, value), runs.values(PART, other, value), strict=False)]

    one, bare = f"one key, {few} keys", f"bare, {few} keys"
    slow = f"one key, slowly, {few} keys"
    hundred, day = (
        ratio(f"a hundred keys, {few} keys", slow, "p50"),
        ratio(f"a day of minutes, {few} keys", slow, "p50"),
    )
    rates = ratio(one, bare, "per_second")
    grown = ratio(f"one key, {many} keys", one, "p50")
    inside = runs.values(PART, f"in process, {few} keys", "p50")
    found = [
        Figure(PART, "requests a second, of the bare route's", "of", rates, 0.5, 0.7, more=True),
        Figure(PART, "p99 at 500/s against the bare route's", "times", ratio(one, bare, "p99"), 2, 1.5),
        Figure(PART, "p99 at 500/s against Feast's", "times", ratio(one, f"feast, {few} keys", "p99"), 1, 0.5),
        Figure(PART, "a hundred keys against one, p50", "times", hundred, 4),
        Figure(PART, "a day of minutes against one, p50", "times", day, 4),
        Figure(PART, "in process, p50", "us", inside, 30),
        Figure(PART, "five million keys against ten thousand, p50", "times", grown, 1.2),
    ]
    return [figure for figure in found if figure.runs]
