"""A real installation under traffic: a broker, the three layers as processes, a shop that sends events, an asker."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asking import Asker
from kafka import KafkaAdminClient, TopicPartition

import tideline
from serving_layer.reader import Reader
from tideline.cut import Cut
from tideline.errors import TidelineError
from tideline.ledger import Ledger
from tideline.oracle import Report, verify
from tideline.produce import send_all
from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.process import ChildProcess, Command, pause
from tideline.runtime.topics import create_topic, delete_topic, log_end_offsets
from tideline.simulate.shop import Shop

TOPIC = "shop"
LAYERS = ("serve", "speed", "batch")
CATALOG = Path(__file__).with_name("catalog.py")
RECOVERY = 240.0  # seconds within which what was killed must be back
QUICK = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"  # for JVMs that live for less than a minute


class Site:
    """An installation in `folder`, with `rate` events a second and a batch run `every` so often.

    `java` is for its JVMs; `settings` are given to its processes by their names in the environment.
    """

    def __init__(
        self, folder: Path, rate: float, every: str, java: str = QUICK, settings: Mapping[str, str] | None = None
    ) -> None:
        self.home = Home(folder / "home").prepare()
        self._kill_at = folder / "kill-at"
        self.broker = Broker(self.home)
        self.bootstrap = self.broker.bootstrap
        self.rate, self.every = rate, every
        self._environment = {"JAVA_TOOL_OPTIONS": java, **(settings or {})}
        self.children: dict[str, ChildProcess] = {}
        self.asker = Asker(lambda: (self.home.read_status("serve") or {}).get("url"))
        self._reader: Reader | None = None
        self._sending = threading.Lock()
        self._silence, self._over = threading.Event(), threading.Event()
        self._traffic = threading.Thread(target=self._send, name="traffic")
        self.views: frozenset[str] = frozenset()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything up, the first version published; nothing is left at the end."""
        try:
            self.broker.start()
            self.finish("apply", "--catalog", str(CATALOG))
            self._traffic.start()
            for name in LAYERS:
                self.start(name)
            self.wait(lambda: self.ledger.version.id > 0, "the first version", 2 * RECOVERY)
            self.views = frozenset(self.ledger.live)
            with self.asker:
                yield
        finally:
            self._over.set()
            self._silence.set()
            self.stop(*self.children)
            self.close_reader()
            if self._traffic.is_alive():
                self._traffic.join(60)
            self.broker.stop()

    def _send(self) -> None:
        shop = Shop(dt.datetime.now(dt.timezone.utc), rate=self.rate, repeated=0.05, broken=0.01)
        events = shop.events()
        while not self._over.is_set():
            # The broker may be away; what it did not take is not missing.
            with self._sending, contextlib.suppress(TidelineError):
                send_all(events, TOPIC, self.bootstrap, rate=self.rate, stop=self._silence)
            self._over.wait(0.5)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """No events are sent."""
        self._silence.set()
        with self._sending:
            try:
                yield
            finally:
                self._silence.clear()

    @contextlib.contextmanager
    def armed(self, point: str) -> Iterator[None]:
        """Whoever reaches a point meanwhile kills itself there."""
        self._kill_at.write_text(point, "utf-8")
        try:
            yield
        finally:
            self._kill_at.unlink(missing_ok=True)

    @property
    def fired(self) -> bool:
        """Whether somebody killed itself at the point that is armed."""
        return not self._kill_at.exists()

    def command(self, name: str, *options: str) -> ChildProcess:
        """A command of the installation."""
        argv = (sys.executable, "-m", "tideline.cli.main", name, "--home", str(self.home.path), *options)
        where = () if name == "serve" else ("--bootstrap-server", self.bootstrap)
        env = {**self._environment, "TIDELINE_KILL_AT": f"@{self._kill_at}"}
        return ChildProcess(Command(name, (*argv, *where), env, self.home.logs / f"{name}.log"))

    def finish(self, name: str, *options: str) -> None:
        """Runs a command to its end. Raises RuntimeError where it fails."""
        child = self.command(name, *options).start()
        self.wait(lambda: not child.alive, f"{name} is at its end")
        if child.poll():
            raise RuntimeError(f"{name} ended with exit code {child.poll()}, see {self.home.logs / name}.log")

    def start(self, name: str, *options: str) -> ChildProcess:
        """Starts a layer, as a supervisor would."""
        fixed = {"batch": ("--every", self.every), "serve": ("--port", "auto")}.get(name, ())
        self.children[name] = self.command(name, *fixed, *options).start()
        return self.children[name]

    def stop(self, *names: str) -> None:
        """Kills layers, with all that belongs to them."""
        for name in names:
            self.children[name].stop(0)

    def stop_everything(self) -> None:
        """Kills all layers and the broker at once."""
        for pid in (*(child.pid for child in self.children.values() if child.alive), self.broker.pid):
            if pid:
                os.killpg(pid, signal.SIGKILL)
        self.stop(*self.children)

    def supervise(self) -> dict[str, int | None]:
        """Starts again the layers that ended by themselves, as a supervisor would; their exit codes."""
        ended = {name: self.children[name].poll() for name in LAYERS if not self.children[name].alive}
        for name in ended:
            self.start(name)
        return ended

    def faults(self) -> list[str]:
        """What is not as it should be while everything runs, whatever the answers are."""
        found = [f"the {name} thread has ended" for name, lives in self._threads().items() if not lives]
        if missing := self.views - set(self.ledger.live):
            found.append(f"views that are not answered: {sorted(missing)}")
        if self.ledger.quarantined:
            found.append(f"in quarantine: {self.ledger.quarantined}")
        failed = (self.home.read_status("batch") or {}).get("condition")
        if failed and not failed.startswith("KAFKA"):
            found.append(f"the last batch run failed: {failed}")
        return found

    def _threads(self) -> dict[str, bool]:
        return {"traffic": self._traffic.is_alive(), "asker": self.asker.alive}

    def restart_broker(self, outage: float = 0) -> None:
        """Kills the broker, and starts another in its place, so many seconds later."""
        self.broker.stop(0)
        pause(outage)
        self.broker = Broker(self.home, int(self.bootstrap.rpartition(":")[2])).start()

    @property
    def ledger(self) -> Ledger:
        if self._reader is None:
            self._reader = tideline.open(str(self.home.path))
        return self._reader.ledger()

    def close_reader(self) -> None:
        """Lets go of the store, which some commands want for themselves."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def verify(self) -> Report:
        """Every answer of this moment, recomputed, those of retained versions too."""
        return verify(self.home.path, bootstrap=self.bootstrap, versions=True)

    def log_end(self) -> Cut:
        return Cut(log_end_offsets(self.bootstrap, [TOPIC]))

    def renew_topic(self) -> None:
        """The topic is deleted, and made anew under the same name."""
        partitions = len(self.log_end().offsets(TOPIC))
        delete_topic(self.bootstrap, TOPIC)
        create_topic(self.bootstrap, TOPIC, partitions)

    def delete_records(self, before: dict[int, int]) -> None:
        """Kafka deletes what lies before these offsets, as its retention would."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.delete_records({TopicPartition(TOPIC, partition): offset for partition, offset in before.items()})
        finally:
            admin.close()

    def answers(self) -> bool:
        """Whether the HTTP API answers a query."""
        url = (self.home.read_status("serve") or {}).get("url")
        try:
            with urllib.request.urlopen(f"{url}/v1/views/sales/rows", timeout=5) as response:
                return bool(json.load(response)["rows"])
        except OSError:
            return False

    @staticmethod
    def wait(condition: Callable[[], Any], what: str, seconds: float = RECOVERY) -> float:
        """Seconds until it holds. Raises TimeoutError."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            pause(0.05)
        return time.monotonic() - began
