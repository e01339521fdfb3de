"""A child process in a group of its own, which dies with this process and leaves none of its group behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tideline.runtime import guard

_LOG_LIMIT = 16 << 20  # bytes; a longer log is set aside when its process starts
_TICK = 0.05  # seconds


@dataclass(frozen=True)
class Command:
    """What to run: `env` is laid over this process's; output is appended to `log`, or dropped without one."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


class ChildProcess:
    """A run of a command. Start it from a thread that lasts: the child dies with that thread."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> ChildProcess:
        """Start the command in a process group of its own, with no input and no terminal."""
        wrapped = (sys.executable, "-I", "-S", str(guard.__file__), str(os.getpid()), *self.command.argv)
        log = self.command.log
        if log is not None and log.exists() and log.stat().st_size > _LOG_LIMIT:
            os.replace(log, log.with_name(log.name + ".1"))
        with open(log or os.devnull, "ab") as output:
            self._popen = subprocess.Popen(
                wrapped,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.command.env},
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int | None:
        """The process id of the latest run, alive or not; also its group's."""
        return self._popen.pid if self._popen else None

    def poll(self) -> int | None:
        """The exit code of a run that ended, negative for a signal; None while it lives."""
        if self._popen is None:
            raise RuntimeError(f"{self.command.name} was not started")
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Wait until `ready()`; False if it ended before, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.alive and time.monotonic() < deadline:
            if ready():
                return True
            pause(_TICK)
        return False

    def stop(self, timeout: float = 20.0, grace: float = 2.0) -> int | None:
        """End it: SIGTERM to the process, after `timeout` seconds SIGKILL to its group.

        What is left of the group once the process has ended has `grace` seconds to end too (the JVM of a
        PySpark driver does) before SIGKILL. Returns the exit code, None if it was never started.
        """
        if self._popen is None:
            return None
        if self.alive and timeout > 0:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                grace = 0
        elif self.alive:
            grace = 0
        self.clear_group(grace)
        return self._popen.wait()

    def clear_group(self, grace: float = 2.0) -> None:
        """Wait `grace` seconds for the group to empty, then kill what is left, and wait until it is gone."""
        deadline = time.monotonic() + grace
        while self._group_exists() and time.monotonic() < deadline:
            pause(_TICK)
        if self._group_exists():
            self._signal_group(signal.SIGKILL)
            gone = time.monotonic() + 5
            while self._group_exists() and time.monotonic() < gone:
                pause(_TICK)

    def _group_exists(self) -> bool:
        if self._popen is not None:
            self._popen.poll()  # reap it: a zombie would keep its group
        return self._signal_group(0)

    def _signal_group(self, number: int) -> bool:
        if self._popen is None:
            return False
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def pause(seconds: float) -> None:
    """Wait between two looks at a condition; for use inside a loop with a bound."""
    threading.Event().wait(seconds)
