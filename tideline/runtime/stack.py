"""Everything on this machine: Kafka, the catalog, the layers and serving, kept alive until told to stop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tideline.errors import OutsideError, UsageError
from tideline.runtime.broker import plan_broker
from tideline.runtime.home import Home, HomeLock, process_alive
from tideline.runtime.kafka_access import note_of
from tideline.runtime.ports import free_port, port_is_free
from tideline.runtime.process import ChildProcess, Command
from tideline.runtime.supervisor import Service, Supervisor
from tideline.runtime.topics import cluster_id
from tideline.settings import Settings


class Stack:
    """An installation's processes: entering starts them and waits until they answer, leaving stops them all."""

    def __init__(self, home: Home, settings: Settings, catalog: Path, say: Callable[[str], None]) -> None:
        self.home = home
        self.settings = settings
        self.catalog = catalog
        self.say = say
        self.supervisor = Supervisor(say)
        self.bootstrap = ""
        self._lock: HomeLock | None = None

    @property
    def api(self) -> str:
        """The base URL of the HTTP API."""
        return str((self.home.read_status("serve") or {}).get("url", ""))

    def __enter__(self) -> Stack:
        self.home.prepare()
        self._lock = self.home.lock("up")
        try:
            self.supervisor.__enter__()
            self._start()
        except BaseException as error:
            if self.__exit__(type(error), error, error.__traceback__):
                raise SystemExit(0) from None
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        try:
            return bool(self.supervisor.__exit__(kind, error, at))
        finally:
            self.home.clear_status("kafka")
            if self._lock is not None:
                self._lock.release()

    def _start(self) -> None:
        port = self.settings["serve.port"] or free_port(self.settings["serve.host"])
        if not port_is_free(self.settings["serve.host"], port):
            raise OutsideError(
                "PORT_TAKEN",
                f"port {port} for the HTTP API is taken",
                "free it, set serve.port, or use --ports auto",
                port=port,
            )
        if not self.catalog.is_file():
            raise UsageError(
                "NO_CATALOG",
                f"there is no catalog file {self.catalog}",
                "give a Python file that declares sources and views",
                path=str(self.catalog),
            )
        self._start_kafka()
        self.settings = self.settings.with_values({"kafka.bootstrap": self.bootstrap, "serve.port": port})
        (self.home.run / "settings.toml").write_text(self.settings.to_toml(), "utf-8")
        self.say(f"applying {self.catalog}")
        self._apply()
        self._add("serve", ready=lambda: self._ready("serve"))
        self._add("batch", "--every", self.settings["batch.every"])
        self._add("speed", ready=lambda: self._ready("speed"))

    def _start_kafka(self) -> None:
        self.bootstrap = self.settings.kafka or ""
        if self.bootstrap:
            cluster_id(self.bootstrap)
        else:
            plan = plan_broker(self.home, self.settings["kafka.port"] or None, self.settings["kafka.retention_hours"])
            self.bootstrap = plan.bootstrap
            self.say(f"starting Kafka at {self.bootstrap}")
            self.supervisor.add(Service(plan.command, plan.ready, 60.0))
        self.home.write_status("kafka", note_of(self.bootstrap))

    def _argv(self, name: str, *options: str) -> tuple[str, ...]:
        config = str(self.home.run / "settings.toml")
        return (
            sys.executable,
            "-m",
            "tideline.cli.main",
            name,
            "--home",
            str(self.home.path),
            "--config",
            config,
            *options,
        )

    def _apply(self) -> None:
        log = self.home.logs / "apply.log"
        log.unlink(missing_ok=True)
        child = ChildProcess(Command("apply", self._argv("apply", "--catalog", str(self.catalog)), log=log)).start()
        try:
            self.supervisor.watch(lambda: not child.alive)
        finally:
            code = child.stop()
        if code:
            lines = log.read_text("utf-8", "replace").splitlines()
            message = next(
                (line for line in reversed(lines) if line.startswith("tideline: ")), f"exit code {code}, see {log}"
            )
            kind = UsageError if code == 2 else OutsideError
            raise kind("APPLY_FAILED", message.removeprefix("tideline: "), catalog=str(self.catalog))

    def _add(self, name: str, *options: str, ready: Callable[[], bool] | None = None) -> None:
        command = Command(name, self._argv(name, *options), log=self.home.logs / f"{name}.log")
        self.say(f"starting the {name} layer" if name != "serve" else "starting the HTTP API")
        self.supervisor.add(Service(command, ready))

    def _ready(self, name: str) -> bool:
        status = self.home.read_status(name)
        return bool(status and status.get("ready") and process_alive(int(status["pid"])))
