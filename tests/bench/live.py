"""Live streams and the lock: 200 subscribers while 5,000 events a second flow in, and lookups with a token beside ones
without."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from contestants import Contestant, EngineFault
from figures import Figure, Runs
from freshness import PARTITIONS
from lookups import CATALOG, FLOW, RATE, WARM, serving

from serving_layer.lock.tokens import TokenFile
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.cut import Cut
from tideline.runtime.home import Home
from tideline.runtime.process import pause
from tideline.runtime.stack import Stack
from tideline.runtime.topics import log_end_offsets
from tideline.settings import Settings

PART = "live"
STREAMS = 200
WITHIN = 2.0  # seconds after the last commit, in which every subscriber has to know its last state
VIEW, KEY = "by_product", "product"


def run(runs: Runs, rounds: int, seconds: float) -> None:
    """Measures what is not yet in `runs`."""
    while len(runs.of(PART, "streams")) < rounds:
        _round(runs, seconds)


def _round(runs: Runs, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        home, catalog, locked = (
            Home(Path(folder) / "home").prepare(),
            Path(folder) / "catalog.py",
            Path(folder) / "locked",
        )
        catalog.write_text(CATALOG, "utf-8")
        locked.mkdir()
        token, _ = TokenFile(locked / "tokens.json").create("reader", "reader")
        settings = Settings().with_values({"kafka.port": "auto", "serve.port": "auto", "batch.every": "60s"})
        with (
            Stack(home, settings, catalog, lambda _: None) as stack,
            Contestant("load_sender.py") as sender,
            Contestant("load_live.py") as subscribers,
            Contestant("load_http.py") as client,
        ):
            sender.ask(60, do="start", bootstrap=stack.bootstrap, topic="sales", partitions=PARTITIONS, rate=FLOW)
            pause(WARM)
            with Reader(home) as reader:
                products = sorted(row[KEY] for row in reader.query(Query(VIEW)).rows)
            with serving(home) as (url, _), serving(home, locked) as (locked_url, _):
                _lookups(runs, client, {"open": url, "locked": locked_url}, token, products, seconds)
                keys = [products[number % len(products)] for number in range(STREAMS)]
                path = f"/v1/views/{VIEW}/changes?{KEY}="
                subscribers.ask(60, do="start", url=url, path=path, keys=keys)
                commits = Commits(home)
                with commits:
                    found = subscribers.ask(600, do="listen", seconds=seconds)
                lags = commits.lags(found["events"])
                sender.ask(60, do="stop")
                end = Cut(log_end_offsets(stack.bootstrap, ["sales"]))
                _committed(home, end)
                last = subscribers.ask(60, do="listen", seconds=WITHIN)["rows"]
                wrong = _wrong(home, keys, last)
                if wrong:
                    raise EngineFault(f"{wrong} of {STREAMS} subscribers do not know the last state of their keys")
                runs.add(
                    PART,
                    "streams",
                    streams=STREAMS,
                    events=len(lags),
                    p50=round(statistics.median(lags), 1),
                    p99=round(sorted(lags)[len(lags) * 99 // 100], 1),
                    most=round(max(lags), 1),
                )


class Commits:
    """When each cut was committed, by a look at the ledger every few milliseconds."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._found: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        with Reader(self._home) as reader:
            while not self._stopping.is_set():
                cut = reader.ledger().committed.restrict(["sales"])
                self._found.setdefault(json.dumps(cut.to_json(), sort_keys=True), time.time())
                self._stopping.wait(0.004)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def lags(self, events: list[tuple[float, str]]) -> list[float]:
        """Milliseconds from the commit of a cut to an event that tells it, of the cuts that were seen."""
        return [max(at - self._found[cut], 0.0) * 1000 for at, cut in events if cut in self._found]


def _committed(home: Home, end: Cut) -> None:
    with Reader(home) as reader:
        until = time.monotonic() + 120
        while not reader.ledger().committed.covers(end):
            if time.monotonic() > until:
                raise EngineFault("the last events were not committed within two minutes")
            pause(0.01)


def _wrong(home: Home, keys: list[str], told: list[dict[str, Any] | None]) -> int:
    """How many subscribers were told something else last than a query answers."""
    with Reader(home) as reader:
        rows = {row[KEY]: row for row in json.loads(reader.query(Query(VIEW)).to_text())["rows"]}
    return sum(row != rows[key] for key, row in zip(keys, told, strict=True))


def _lookups(
    runs: Runs, client: Contestant, urls: dict[str, str], token: str, products: list[str], seconds: float
) -> None:
    """Lookups of one key by a token of a locked server, in turn with ones of an open server over the same home."""
    asked = [(f"/v1/views/{VIEW}/rows?{KEY}={product}", "") for product in products]
    shown = urls["locked"].replace("http://", f"http://{token}@")
    targets = {"without a token": (urls["open"], asked), "with a token": (shown, asked)}
    client.ask(300, do="at_rate", asked=targets, rate=RATE / 5, seconds=3)
    found = client.ask(900, do="at_rate", asked=targets, rate=RATE, seconds=seconds)
    for name in targets:
        runs.add(PART, name, **found[name])


def figures(runs: Runs) -> list[Figure]:
    """Of one run."""
    without, shown = (runs.values(PART, name, "p50") for name in ("without a token", "with a token"))
    told = f"{STREAMS} subscribers, from a commit to its event"
    found = [
        Figure(PART, "lookup with a token against one without, p50", "times", _ratios(shown, without), 1.1),
        Figure(PART, f"{told}, p50", "ms", runs.values(PART, "streams", "p50")),
        Figure(PART, f"{told}, p99", "ms", runs.values(PART, "streams", "p99")),
        Figure(PART, f"{told}, longest", "ms", runs.values(PART, "streams", "most"), WITHIN * 1000),
    ]
    return [figure for figure in found if figure.runs]


def _ratios(these: list[float], those: list[float]) -> list[float]:
    return [a / b for a, b in zip(these, those, strict=False)]
