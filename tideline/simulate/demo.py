"""The demo: a whole installation on this machine, traffic for it, and a check that shows what it promises."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tideline.cut import Cut
from tideline.errors import OutsideError, TidelineError
from tideline.ledger import Ledger
from tideline.runtime.home import Home
from tideline.runtime.stack import Stack
from tideline.runtime.topics import log_end_offsets
from tideline.settings import Settings
from tideline.simulate.shop import Shop, run_shop
from tideline.source import SourceDefinition
from tideline.starter.infer import catalog_text, infer

_STEP = 120.0  # seconds that each thing that is waited for may take
_FILE_SOURCE = "events"


class Demo:
    """A shop, or a file, and the installation that serves its views."""

    def __init__(
        self, home: Home, settings: Settings, rate: float, file: Path | None, say: Callable[[str], None]
    ) -> None:
        self.home = home.prepare()
        self.settings = settings
        self.rate = rate
        self.file = file
        self.say = say
        self.catalog = Path(__file__).with_name("shop_catalog.py")
        if file is not None:
            self.catalog = home.path / "catalog.py"
            # By their rows and their arrival: it is shown live, and a column of the file may mean anything.
            found = replace(infer(file), event_id=None, event_time=None)
            self.catalog.write_text(catalog_text(found, _FILE_SOURCE, numbered=True), "utf-8")
        self.source = "shop" if file is None else _FILE_SOURCE
        self.views = ("sales", "products", "funnel") if file is None else ("rate", "totals")

    def show(self) -> int:
        """Runs until Ctrl-C."""
        with self._stack() as stack, self._traffic(stack) as failed:
            print(f"open {stack.api}/ to watch the views change; Ctrl-C stops everything", flush=True)
            stack.supervisor.watch(failed.is_set)
        return 0

    def check(self) -> int:
        """Hand-offs, queries and a killed speed layer under traffic, then `verify` and a table; 0 if all held."""
        done: list[tuple[str, str, float]] = []
        with self._stack() as stack:
            began = time.monotonic()

            def tell(what: str, found: str) -> None:
                done.append((what, found, time.monotonic() - began))
                self.say(f"{what}: {found}")

            with self._traffic(stack):
                self._check_live(stack, tell)
            end = Cut(log_end_offsets(stack.bootstrap, [self._topic()]))
            self._wait(stack, "the last event", lambda ledger: ledger.committed.covers(end))
            tell("events", f"all {_offsets(end)} records of the log are in the answers")
            equal = self._verify(stack, tell)
        _print_table(done)
        return 0 if equal else 1

    def _check_live(self, stack: Stack, tell: Callable[[str, str], None]) -> None:
        first = self._wait(stack, "events", lambda ledger: _offsets(ledger.committed) > 0)
        tell("events in", f"{_offsets(first.committed)} offsets committed by the speed layer")
        tell("query", self._query(stack))
        one = self._wait(stack, "the first hand-off", lambda ledger: ledger.version.id >= first.version.id + 1)
        tell("hand-off", f"version {one.version.id} covers {_offsets(one.version.cut)} offsets")
        tell("query", self._query(stack))
        pid = stack.supervisor.pid("speed")
        if pid is None:
            raise OutsideError("NO_SPEED_LAYER", "the speed layer is not running")
        os.kill(pid, signal.SIGKILL)
        tell("kill", f"SIGKILL to the speed layer, process {pid}")
        fence = one.fences["speed"]
        back = self._wait(stack, "the speed layer", lambda ledger: ledger.fences["speed"] > fence)
        again = self._wait(stack, "its commits", lambda ledger: _offsets(ledger.committed) > _offsets(back.committed))
        tell("restart", f"it reads on at its cut: {_offsets(back.committed)}, then {_offsets(again.committed)} offsets")
        two = self._wait(stack, "another hand-off", lambda ledger: ledger.version.id > again.version.id)
        tell("hand-off", f"version {two.version.id} covers {_offsets(two.version.cut)} offsets")
        tell("query", self._query(stack))

    def _verify(self, stack: Stack, tell: Callable[[str, str], None]) -> bool:
        from tideline.oracle import verify

        report = verify(self.home.path, bootstrap=stack.bootstrap)
        for view in report.views:
            outcome = "equal" if view.ok else "DIFFERENT"
            tell("verify", f"{view.view} {outcome}: {view.keys} keys, {view.values} values, by {view.oracle}")
        if not report.ok:
            self.say(report.to_text())
        return report.ok

    def _query(self, stack: Stack) -> str:
        import json
        import urllib.request

        with urllib.request.urlopen(
            f"{stack.api}/v1/views/{self.views[0]}/rows?group_by=&limit=1", timeout=10
        ) as response:
            answer = json.load(response)
        events = answer["proof"]["events"]
        return f"{self.views[0]} answers from {events['batch']} batch and {events['speed']} speed events"

    def _topic(self) -> str:
        from tideline.catalog import load_catalog

        return load_catalog(self.catalog).sources[self.source].resolve().topic

    def _stack(self) -> Stack:
        return Stack(self.home, self.settings, self.catalog, self.say)

    def _wait(self, stack: Stack, what: str, until: Callable[[Ledger], bool]) -> Ledger:
        import tideline

        with tideline.open(str(self.home.path)) as reader:
            if stack.supervisor.watch(lambda: until(reader.ledger()), _STEP):
                return reader.ledger()
        raise OutsideError("DEMO_STALLED", f"waited {_STEP:.0f} s for {what}", f"see {self.home.logs}")

    @contextlib.contextmanager
    def _traffic(self, stack: Stack) -> Iterator[threading.Event]:
        """Produces in the background; the event is set when that failed."""
        stop, failed = threading.Event(), threading.Event()

        def run() -> None:
            try:
                self._produce(stack.bootstrap, stop)
            except TidelineError as error:
                self.say(str(error))
                failed.set()

        thread = threading.Thread(target=run, name="traffic")
        thread.start()
        try:
            yield failed
        finally:
            stop.set()
            thread.join()

    def _produce(self, bootstrap: str, stop: threading.Event) -> None:
        if self.file is None:
            shop = Shop(dt.datetime.now(dt.timezone.utc), rate=self.rate)
            run_shop(shop, self._topic(), bootstrap, stop=stop)
            return
        from tideline.catalog import load_catalog
        from tideline.produce import produce

        source: SourceDefinition = load_catalog(self.catalog).sources[self.source].resolve()
        produce(
            self.file,
            source.topic,
            bootstrap,
            source.schema,
            source.event_id,
            rate=self.rate,
            row_id=source.event_id,
            stop=stop,
        )


def _offsets(cut: Cut) -> int:
    return sum(offset for _, _, offset in cut.partitions())


def _print_table(done: list[tuple[str, str, float]]) -> None:
    width = max(len(what) for what, _, _ in done)
    for what, found, seconds in done:
        print(f"{seconds:6.1f} s  {what:<{width}}  {found}", flush=True)
