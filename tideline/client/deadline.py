"""A deadline for all that a request reads and writes: httpx's own timeouts begin anew with each piece of a reply."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore

LATE = "the whole reply did not come in time"
_MADE = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")
_PIECE = 1 << 16  # bytes that are written between two looks at the clock
_until: ContextVar[float | None] = ContextVar("tideline.client.until", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Connections that `keep` has seen raise ReadTimeout, once so many seconds are over, for whoever uses them here."""
    before = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(before)


def keep(event: str, info: Mapping[str, Any]) -> None:
    """For the `trace` extension of a request: a connection that is made keeps the deadline of whoever uses it."""
    if not event.endswith(_MADE):
        return
    stream: Any = info["return_value"]
    read, write = stream.read, stream.write

    def read_within(max_bytes: int, timeout: float | None = None) -> bytes:
        found: bytes = read(max_bytes, _left(timeout))
        return found

    def write_within(buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), _PIECE):
            write(buffer[at : at + _PIECE], _left(timeout))

    stream.read, stream.write = read_within, write_within


def _left(timeout: float | None) -> float | None:
    """The seconds that one read or write may take."""
    until = _until.get()
    if until is None:
        return timeout
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout(LATE)
    return left if timeout is None else min(timeout, left)
