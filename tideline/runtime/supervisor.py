"""Child processes that are kept alive while their supervisor lives, and gone when it is."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, ClassVar

from tideline.errors import EXIT_USAGE, OutsideError, Texts
from tideline.runtime.logs import said
from tideline.runtime.process import ChildProcess, Command

_TICK = 0.1  # seconds


class ServiceError(OutsideError):
    """A supervised process that cannot be kept alive; its exit code 2 (wrong use) is handed on."""

    texts: ClassVar[Texts] = {
        "SERVICE_REFUSED": ("{name} refused to run: {reason}", "see {log}"),
        "SERVICE_FAILED": (
            "{name} ended {deaths} times within {seconds} seconds, last with {code}: {reason}",
            "see {log}",
        ),
        "SERVICE_NOT_READY": ("{name} was not ready after {seconds} seconds: {reason}", "see {log}"),
    }

    def __init__(self, condition: str, *args: Any, **params: Any) -> None:
        super().__init__(condition, *args, **params)
        if condition == "SERVICE_REFUSED":
            self.exit_code = EXIT_USAGE


class StopRequested(Exception):
    """SIGINT, SIGTERM or `request_stop` while something was awaited; leaving the `with` block swallows it."""


@dataclass(frozen=True)
class Service:
    """A command to keep alive. `ready` says whether it serves; without one it counts as ready at once."""

    command: Command
    ready: Callable[[], bool] | None = None
    ready_timeout: float = 120.0  # seconds
    stop_timeout: float = 20.0  # seconds


@dataclass
class RestartPolicy:
    """When to start again what died: `first` seconds later, then doubling, `limit` times per `window`."""

    limit: int = 5
    window: float = 120.0
    first: float = 0.5
    longest: float = 30.0
    deaths: deque[float] = field(default_factory=deque)

    def delay(self, now: float) -> float | None:
        """Seconds to wait after a death at `now`; None to give up."""
        while self.deaths and self.deaths[0] <= now - self.window:
            self.deaths.popleft()
        self.deaths.append(now)
        if len(self.deaths) > self.limit:
            return None
        return float(min(self.first * 2 ** (len(self.deaths) - 1), self.longest))


class _Watched:
    def __init__(self, service: Service, policy: RestartPolicy) -> None:
        self.service = service
        self.policy = policy
        self.child = ChildProcess(service.command).start()
        self.restarts = 0
        self.due: float | None = None  # when to start it again, on the monotonic clock


class Supervisor:
    """Start services in order, restart what dies, stop all in reverse order on leaving the `with` block.

    Inside the block SIGINT, SIGTERM and SIGHUP ask to stop (in the main thread). `notify` gets one line per
    event. The thread that adds and watches must last as long as the services: they die with it.
    """

    def __init__(
        self,
        notify: Callable[[str], None] = lambda line: None,
        policy: Callable[[], RestartPolicy] = RestartPolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notify = notify
        self._policy = policy
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._stop = threading.Event()
        self._handlers: dict[int, Any] = {}

    def request_stop(self) -> None:
        """Ask `watch` and `add` to end; for any thread."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stop.is_set()

    def add(self, service: Service) -> None:
        """Start a service and wait until it is ready, keeping the others alive meanwhile.

        Raises ServiceError SERVICE_NOT_READY, SERVICE_REFUSED or SERVICE_FAILED, or StopRequested.
        """
        self._watched[service.command.name] = _Watched(service, self._policy())
        ready = service.ready
        if ready is not None and not self.watch(ready, service.ready_timeout):
            raise self._error("SERVICE_NOT_READY", service, seconds=round(service.ready_timeout))

    def watch(self, until: Callable[[], bool] | None = None, timeout: float | None = None) -> bool:
        """Keep the services alive until `until()` holds (True) or `timeout` seconds are over (False).

        Raises ServiceError, or StopRequested when a stop was asked for.
        """
        deadline = None if timeout is None else self._clock() + timeout
        while True:
            self.check()
            if until is not None and until():
                return True
            if deadline is not None and self._clock() >= deadline:
                return False
            if self._stop.wait(_TICK):
                raise StopRequested

    def check(self) -> None:
        """One look at every service: start again what died and is due. Raises ServiceError to give up."""
        for name, watched in self._watched.items():
            now = self._clock()
            if watched.due is not None:
                if now >= watched.due:
                    watched.due = None
                    watched.restarts += 1
                    watched.child.start()
                    self._notify(f"{name} started again (process {watched.child.pid})")
                continue
            code = watched.child.poll()
            if code is None:
                continue
            watched.child.clear_group()
            if code == EXIT_USAGE:
                raise self._error("SERVICE_REFUSED", watched.service)
            delay = watched.policy.delay(now)
            if delay is None:
                deaths, seconds = len(watched.policy.deaths), round(watched.policy.window)
                raise self._error("SERVICE_FAILED", watched.service, deaths=deaths, seconds=seconds, code=_ending(code))
            watched.due = now + delay
            self._notify(f"{name} ended with {_ending(code)}; starting it again in {delay:g} s")

    def stop(self, names: Iterable[str] | None = None) -> None:
        """Stop the named services, or all, in reverse order of their start."""
        chosen = list(self._watched) if names is None else [name for name in self._watched if name in set(names)]
        for name in reversed(chosen):
            watched = self._watched.pop(name)
            watched.child.stop(watched.service.stop_timeout)

    def pid(self, name: str) -> int | None:
        """The process id of a service that is alive now."""
        watched = self._watched.get(name)
        return watched.child.pid if watched and watched.child.alive else None

    def status(self) -> dict[str, dict[str, Any]]:
        """`{name: {"pid", "state": "running" | "waiting", "restarts"}}` in order of start."""
        return {
            name: {
                "pid": self.pid(name),
                "state": "running" if watched.child.alive else "waiting",
                "restarts": watched.restarts,
            }
            for name, watched in self._watched.items()
        }

    def __enter__(self) -> Supervisor:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        try:
            self.stop()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()
        return isinstance(error, StopRequested)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()

    def _error(self, condition: str, service: Service, **params: Any) -> ServiceError:
        command = service.command
        return ServiceError(condition, name=command.name, reason=_last_line(command), log=str(command.log), **params)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last_line(command: Command) -> str:
    """The last line of a log that says something: Tideline's own if there is one."""
    if command.log is None or not command.log.exists():
        return "it has no log"
    with command.log.open("rb") as file:
        file.seek(max(0, command.log.stat().st_size - 20_000))
        lines = [said(line) for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    own = [line.removeprefix("tideline: ") for line in lines[-20:] if line.startswith("tideline: ")]
    return (own or lines or ["it said nothing"])[-1][:300]
