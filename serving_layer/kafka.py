"""What Kafka holds now, for the status: asked by one thread at a time, at most once a second."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from tideline.cut import EMPTY_CUT, Cut
from tideline.errors import TidelineError
from tideline.runtime.home import Home

FRESH = 1.0  # seconds for which an answer is used again
_SAYING = ("kafka", "up", "speed", "batch", "serve")


@dataclass(frozen=True)
class Held:
    """The log of each partition, from `starts` to `ends`; `error` says why that is not known."""

    bootstrap: str | None
    error: str | None = None
    starts: Cut = EMPTY_CUT
    ends: Cut = EMPTY_CUT


class KafkaProbe:
    """Looks at the Kafka that the processes of a home say they use."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._last: tuple[float, tuple[str, ...], Held] | None = None

    def look(self, topics: tuple[str, ...], timeout: float) -> Held:
        """What Kafka holds of these topics; waits about `timeout` seconds at most."""
        with self._lock:
            last = self._last
            if last is None or time.monotonic() - last[0] > FRESH or last[1] != topics:
                held = _look(bootstrap_of(self._home), topics, timeout, self._home)
                last = self._last = (time.monotonic(), topics, held)
            return last[2]


def bootstrap_of(home: Home) -> str | None:
    """The Kafka that the installation's processes use; None where none of them ever said."""
    for name in _SAYING:
        status = home.read_status(name) or {}
        found = status.get("bootstrap") or (status.get("kafka") or {}).get("bootstrap")
        if found:
            return str(found)
    return None


def _look(bootstrap: str | None, topics: tuple[str, ...], timeout: float, home: Home) -> Held:
    if bootstrap is None:
        return Held(None, f"nothing in {home.run} says where Kafka is")
    from tideline.runtime.topics import cluster_id, log_end_offsets, log_start_offsets

    began = time.monotonic()
    try:
        if not topics:
            cluster_id(bootstrap, timeout)
            return Held(bootstrap)
        ends = Cut(log_end_offsets(bootstrap, topics, timeout))
        left = max(timeout - (time.monotonic() - began), timeout / 2)
        return Held(bootstrap, None, Cut(log_start_offsets(bootstrap, topics, left)), ends)
    except TidelineError as error:
        return Held(bootstrap, error.message)
