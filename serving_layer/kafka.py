"""What Kafka holds now, for the status: asked by one thread at a time, at most once a second."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass

from serving_layer.find import NotReadyError
from tideline.cut import EMPTY_CUT, Cut
from tideline.errors import TidelineError
from tideline.runtime.home import Home
from tideline.runtime.kafka_access import Servers, from_note

FRESH = 1.0  # seconds for which an answer is used again
LOOKS = 1000  # that are remembered; then every second one is forgotten, but not the first
_SAYING = ("kafka", "up", "speed", "batch", "serve")


@dataclass(frozen=True)
class Held:
    """The log of each partition, from `starts` to `ends`; `error` says why that is not known."""

    bootstrap: str | None
    error: str | None = None
    starts: Cut = EMPTY_CUT
    ends: Cut = EMPTY_CUT


@dataclass(frozen=True)
class Seen:
    """What Kafka holds, and how the log's ends looked before: (seconds on the monotonic clock, ends)."""

    held: Held
    at: float
    before: tuple[tuple[float, Cut], ...] = ()

    def age(self, topic: str, committed: Cut) -> float | None:
        """How old, in seconds and at most, the oldest record of a topic is that is not committed; 0 for none.

        Where the log ended at a look that the cut covers, all else came later. Before there is such a look, it is the
        time since the first one.
        """
        if committed.reaches(topic, self.held.ends):
            return 0.0
        covered = [at for at, ends in self.before if committed.reaches(topic, ends)]
        since = max(covered) if covered else self.before[0][0] if self.before else None
        return None if since is None else self.at - since


class KafkaProbe:
    """Looks at the Kafka that the processes of a home say they use."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._last: tuple[float, tuple[str, ...], Held] | None = None
        self._ends: list[tuple[float, Cut]] = []
        self._asking: Future[Held] | None = None

    def look(self, topics: tuple[str, ...], timeout: float) -> Held:
        """What Kafka holds of these topics; waits about `timeout` seconds at most."""
        with self._lock:
            last = self._last
            if last is None or time.monotonic() - last[0] > FRESH or last[1] != topics:
                held = _look(bootstrap_of(self._home), topics, timeout, self._home)
                last = self._last = (time.monotonic(), topics, held)
                if held.error is None:
                    self._ends.append((last[0], held.ends))
                    if len(self._ends) > LOOKS:
                        del self._ends[1::2]
            return last[2]

    def cut_at(self, topic: str, moment: float, timeout: float) -> Cut:
        """Where a topic's log ended at a time, in seconds since the epoch, by the time stamps of its records.

        Raises KafkaFault, NotReadyError where nothing says where Kafka is.
        """
        from tideline.runtime.topics import log_offsets_at

        bootstrap = bootstrap_of(self._home)
        if bootstrap is None:
            raise NotReadyError("KAFKA_UNKNOWN", home=str(self._home.run))
        return Cut(log_offsets_at(bootstrap, [topic], int(moment * 1000), max(timeout, 1.0)))

    def glance(self, topics: tuple[str, ...], timeout: float) -> Seen:
        """The same, and how it looked before; never waits for longer, also where a broker takes and never answers."""
        asking = self._asking
        if asking is None or asking.done():
            asking = self._asking = Future()
            threading.Thread(target=self._answer, args=(asking, topics, timeout), daemon=True).start()
        try:
            held = asking.result(timeout)
        except TimeoutError:
            held = Held(bootstrap_of(self._home), f"no answer within {timeout:g} s")
        return Seen(held, time.monotonic(), tuple(self._ends))

    def _answer(self, asking: Future[Held], topics: tuple[str, ...], timeout: float) -> None:
        try:
            asking.set_result(self.look(topics, timeout))
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            asking.set_exception(error)


def bootstrap_of(home: Home) -> Servers | None:
    """The Kafka that the installation's processes use; None where none of them ever said."""
    for name in _SAYING:
        status = home.read_status(name) or {}
        found = from_note(status) or from_note(status.get("kafka") or {})
        if found:
            return found
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
