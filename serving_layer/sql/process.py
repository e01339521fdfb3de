"""Statements in a process of their own, which is made anew after one that took too long or too much."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from serving_layer.find import NotReadyError
from serving_layer.sql.errors import MOST_ROWS, SqlTimeout
from tideline.errors import EXIT_USAGE, OutsideError, UsageError
from tideline.runtime.home import Home

MEMORY = 2 << 30  # bytes of the process
SECONDS = 30.0
_START = 60.0  # seconds until the process has to be there
_GRACE = 2.0  # seconds that an interrupted statement has to end by itself


class SqlProcess:
    """Answers one statement at a time; safe to use from several threads."""

    def __init__(self, home: Home, memory: int = MEMORY) -> None:
        self._home = home
        self._memory = memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(
        self, sql: str, rows: int = MOST_ROWS, seconds: float = SECONDS, parts: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """(the proofs of the views that are named, the rows as an Arrow stream); see `SqlEngine.run`.

        Raises SqlError, SqlTimeout, NotReadyError SQL_BUSY, and what a query raises.
        """
        if not self._lock.acquire(timeout=seconds):
            raise NotReadyError(
                "SQL_BUSY", f"other statements took all of {seconds:g} s", "try again later", seconds=seconds
            )
        try:
            request = json.dumps({"sql": sql, "rows": rows, "seconds": seconds, "parts": parts}) + "\n"
            try:
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(request.encode())
                process.stdin.flush()
                told, found = _reply(process, time.monotonic() + seconds + _GRACE)
            except (OSError, EOFError):
                raise SqlTimeout("SQL_ENDED") from None
            except TimeoutError:
                raise SqlTimeout("SQL_TIMEOUT", seconds=seconds) from None
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
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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


def _reply(process: subprocess.Popen[bytes], deadline: float) -> tuple[dict[str, Any], bytes]:
    assert process.stdout is not None
    length = int.from_bytes(_read(process.stdout, 4, deadline), "big")
    told: dict[str, Any] = json.loads(_read(process.stdout, length, deadline))
    return told, _read(process.stdout, told["bytes"], deadline)


def _read(pipe: IO[bytes], count: int, deadline: float) -> bytes:
    """So many bytes. Raises EOFError, and TimeoutError at the deadline."""
    found = bytearray()
    while len(found) < count:
        ready, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            raise TimeoutError
        block = os.read(pipe.fileno(), min(count - len(found), 1 << 20))
        if not block:
            raise EOFError
        found += block
    return bytes(found)
