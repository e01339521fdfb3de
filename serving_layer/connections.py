"""Connections of the HTTP API: how long each may take to ask, and how many there are.

Whoever connects has shown no token yet, so a connection that says nothing costs whoever serves, and nobody who asks.
"""

from __future__ import annotations

import asyncio
import fcntl
import resource
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 10_000
_RESERVE = 128  # files of the process beside connections: the store, statements, logs, Kafka
_BACKLOG = 2048
_ROUNDS = 4
_ANY = 1 << 16  # files, where the system sets no bound


@dataclass(frozen=True)
class Bounds:
    """Seconds until a request's head is there whole, from its first byte or the connection on, and until its body is;
    seconds in which a reader takes nothing of an answer that waits for it; and connections at one time."""

    head: float = 10.0
    body: float = 30.0
    reading: float = 60.0
    connections: int = MOST_CONNECTIONS


def raise_limit() -> tuple[int, int]:
    """(connections, connections that wait to be taken) for which this process has files; it gets all that it may have.

    A process without a file left cannot take a connection, not even to refuse it. As many as wait are taken at once,
    and asyncio does so four times before the first of them is closed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ANY if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    elif soft != resource.RLIM_INFINITY:
        most = soft
    backlog = min(_BACKLOG, max(most // 16, 1))
    return max(min(MOST_CONNECTIONS, most - _ROUNDS * backlog - _RESERVE), 1), backlog


class Connection(H11Protocol):
    """A connection that is closed where it does not ask in time.

    Where there are too many, the one that has gone longest without a request under way makes place for a new one.
    """

    bounds: ClassVar[Bounds] = Bounds()
    idle: ClassVar[dict[Connection, None]]
    """Those without a request under way, the first of them for the longest time."""
    _late: asyncio.TimerHandle | None = None
    _slow: asyncio.TimerHandle | None = None
    _part: object = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to wait for a request."""
        super().connection_made(cast("asyncio.Transport", transport))
        self.idle[self] = None
        if len(self.connections) > self.bounds.connections:
            next(iter(self.idle))._end()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing any more."""
        self.idle.pop(self, None)
        self._part = None
        for timer in (self._late, self._slow):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Takes what has come; then waits for what has begun and is not there whole."""
        super().handle_events()
        if self._late is None and self.conn.their_state is h11.DONE:
            self.idle.pop(self, None)
        else:
            self._watch()

    def on_response_complete(self) -> None:
        """A request is over; another may stand there already."""
        self.idle[self] = None
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The reader takes less than it is sent."""
        super().pause_writing()
        if self._slow is None:
            self._look_again(self._unread())

    def resume_writing(self) -> None:
        """The reader has caught up."""
        super().resume_writing()
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _watch(self) -> None:
        """Waits for the rest of a head or of a body, for each from when it began."""
        theirs = self.conn.their_state
        if self.cycle is not None and not self.cycle.response_complete:
            self.idle.pop(self, None)
        # An idle connection that has asked before ends by uvicorn's own timer, until there are bytes of another head.
        is_head = theirs is h11.IDLE and self.timeout_keep_alive_task is None
        part = (theirs, self.cycle) if is_head or theirs is h11.SEND_BODY else None
        if part == self._part:
            return
        self._part = part
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if part is not None and not self.transport.is_closing():
            self._late = self.loop.call_later(self.bounds.head if is_head else self.bounds.body, self._end)

    def _look_again(self, left: int) -> None:
        self._slow = self.loop.call_later(self.bounds.reading, self._is_slow, left)

    def _is_slow(self, before: int) -> None:
        left = self._unread()
        if left < before:
            self._look_again(left)
        else:
            self._end()

    def _unread(self) -> int:
        """The bytes that were sent and that the reader's machine has not, also those that this one's system holds."""
        held = bytearray(4)
        with suppress(OSError):  # it is over
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, held)
        return int.from_bytes(held, sys.byteorder) + self.transport.get_write_buffer_size()

    def _end(self) -> None:
        """Closes it without waiting for whoever is there."""
        self.idle.pop(self, None)
        self.transport.abort()


def bounded(bounds: Bounds = Bounds()) -> type[Connection]:
    """The connections of one server."""
    found: dict[str, Any] = {"bounds": bounds, "idle": {}}
    return type("BoundedConnection", (Connection,), found)
