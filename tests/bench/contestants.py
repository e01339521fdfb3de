"""The near side: starts an engine in its environment, asks it, and adds up the processor time of all its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tideline.runtime.process import pause

HERE = Path(__file__).parent
_TICK = os.sysconf("SC_CLK_TCK")


class EngineFault(Exception):
    """An engine ended, or took too long."""


def wait(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Returns once it holds. Raises EngineFault where it does not within so many seconds."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise EngineFault(f"not within {seconds:.0f} s: {what}")
        pause(0.2)


def session_seconds(session: int) -> float:
    """Processor seconds of all processes of a session, those they waited for included."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                total += sum(map(int, fields[11:15]))
    return total / _TICK


class Contestant:
    """An engine's process, in a session of its own; everything it started ends with it."""

    def __init__(self, script: str, python: Path | None = None, log: IO[str] | None = None, **environment: str) -> None:
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [str(python or sys.executable), str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log or self._said,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)]), **environment},
        )
        self._reply(120)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def spent(self) -> float:
        """Processor seconds so far."""
        return session_seconds(self._process.pid)

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """The engine's reply, with `cpu`: its processor seconds meanwhile. Raises EngineFault."""
        before = self.spent
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EngineFault(f"it has ended: {error}") from error
        reply = self._reply(timeout)
        return {**reply, "cpu": round(self.spent - before, 2)}

    def _reply(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        late = threading.Timer(timeout, self._kill)
        late.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        if not line:
            self._said.seek(0)
            last = "; ".join(line.strip() for line in self._said.read().splitlines()[-3:])
            raise EngineFault(f"it ended, or took more than {timeout:.0f} s: {last}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Ends the process and what it started."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self._kill()
        self._process.wait()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
