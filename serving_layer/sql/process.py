"""Statements in a process of their own, which is made anew after one that took too long or too much."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from serving_layer.find import NotReadyError
from serving_layer.sql.errors import MOST_ROWS, SqlTimeout
from tideline.errors import EXIT_USAGE, OutsideError, UsageError
from tideline.runtime.home import Home

MEMORY = 2 << 30  # bytes of the process
SECONDS = 30.0
_START = 60.0  # seconds until the process has to be there
_GRACE = 2.0  # seconds that an interrupted statement has to end by itself
_ALLOCATOR = {"ARROW_DEFAULT_MEMORY_POOL": "system"}  # others set 1 GiB aside at once, which the limit counts


class SqlProcess:
    """Answers one statement at a time; safe to use from several threads."""

    def __init__(self, home: Home, memory: int = MEMORY) -> None:
        self._home = home
        self._memory = memory
        self._lock, self._guard = threading.Lock(), threading.Lock()
        self._callers: dict[str, tuple[threading.Lock, int]] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a statement is under way."""
        return self._lock.locked()

    def ask(
        self,
        sql: str,
        rows: int = MOST_ROWS,
        seconds: float = SECONDS,
        parts: Mapping[str, Any] | None = None,
        form: str = "arrow",
        reasons: bool = True,
        who: str = "",
    ) -> tuple[dict[str, Any], bytes]:
        """(the proofs of the views that are named, the answer in a form: json, csv or arrow); see `SqlEngine.run`.

        Without `reasons` proofs do not say why a view failed. Of one caller one statement waits, others wait for that.
        Raises SqlError, SqlTimeout, NotReadyError SQL_BUSY, and what a query raises.
        """
        until = time.monotonic() + seconds
        with self._alone(who, seconds):
            if not self._lock.acquire(timeout=max(until - time.monotonic(), 0)):
                raise busy(seconds)
            return self._ask(
                {"sql": sql, "rows": rows, "seconds": seconds, "parts": parts, "form": form, "reasons": reasons}
            )

    @contextmanager
    def _alone(self, who: str, seconds: float) -> Iterator[None]:
        """No other statement of this caller is waited for meanwhile."""
        with self._guard:
            mine, count = self._callers.get(who, (threading.Lock(), 0))
            self._callers[who] = mine, count + 1
        try:
            if who and not mine.acquire(timeout=seconds):
                raise busy(seconds)
            try:
                yield
            finally:
                if who:
                    mine.release()
        finally:
            with self._guard:
                mine, count = self._callers.pop(who)
                if count > 1:
                    self._callers[who] = mine, count - 1

    def _ask(self, asked: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """What the process answers; gives its turn back."""
        seconds = asked["seconds"]
        try:
            request = json.dumps(asked) + "\n"
            try:
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(request.encode())
                process.stdin.flush()
                told, found = _reply(process, time.monotonic() + seconds + _GRACE)
            except TimeoutError:  # is an OSError too
                raise SqlTimeout("SQL_TIMEOUT", seconds=seconds) from None
            except (OSError, EOFError):
                raise SqlTimeout("SQL_ENDED") from None
        except SqlTimeout:
            self._end()
            raise
        finally:
            self._lock.release()
        if "error" in told:
            error = told["error"]
            kind = UsageError if told["exit_code"] == EXIT_USAGE else OutsideError
            raise kind(error["condition"], error["message"], error["hint"], **error["params"])
        return told["proofs"], found

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "serving_layer.sql.worker", str(self._home.path), str(self._memory)]
            environment = {**os.environ, **_ALLOCATOR}
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            _reply(self._process, time.monotonic() + _START)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()


def busy(seconds: float) -> NotReadyError:
    """What is raised where other statements took all the time that one has."""
    return NotReadyError("SQL_BUSY", f"other statements took all of {seconds:g} s", "try again later", seconds=seconds)


def _reply(process: subprocess.Popen[bytes], deadline: float) -> tuple[dict[str, Any], bytes]:
    assert process.stdout is not None
    length = int.from_bytes(_read(process.stdout, 4, deadline), "big")
    told: dict[str, Any] = json.loads(_read(process.stdout, length, deadline))
    return told, _read(process.stdout, told["bytes"], deadline)


def _read(pipe: IO[bytes], count: int, deadline: float) -> bytes:
    """So many bytes. Raises EOFError, and TimeoutError at the deadline."""
    found, ready = bytearray(), select.poll()  # select takes no file beyond the 1024th
    ready.register(pipe, select.POLLIN)
    while len(found) < count:
        if not ready.poll(max(deadline - time.monotonic(), 0) * 1_000):
            raise TimeoutError
        block = os.read(pipe.fileno(), min(count - len(found), 1 << 20))
        if not block:
            raise EOFError
        found += block
    return bytes(found)
