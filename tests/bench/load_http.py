"""An open-loop HTTP client: a request is sent when it is due, over lines that stay open, and timed from then on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from engine import serve

_END = b"\r\n\r\n"
TURN = 0.1  # seconds; shorter than what holds all up for a moment
CLOSED_TURN = 0.7  # with lines of its own each time; no part of what comes each minute
Asked = Sequence[tuple[str, str]]
"""Paths and bodies, which are empty for GET."""


class _Line:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def get(self, request: bytes) -> int:
        """The status of the answer, once it is here whole."""
        self._writer.write(request)
        head = await self._reader.readuntil(_END)
        at = head.lower().index(b"content-length:") + 15
        await self._reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
        return int(head[9:12])


def _requests(url: str, asked: Asked) -> list[bytes]:
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}"
    shown = f"Authorization: Bearer {parts.username}\r\n" if parts.username else ""
    head = "Content-Type: application/json\r\nContent-Length: {}\r\n"
    return [
        f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {host}\r\n{shown}"
        f"{head.format(len(body)) if body else ''}\r\n{body}".encode()
        for path, body in asked
    ]


async def _lines(url: str, count: int) -> list[_Line]:
    address = urlsplit(url)
    opened = [await asyncio.open_connection(address.hostname, address.port, limit=64 << 20) for _ in range(count)]
    return [_Line(*streams) for streams in opened]


async def _at_rate(asked: Sequence[tuple[str, Asked]], rate: float, seconds: float, lines: int) -> list[list[float]]:
    requests, idle = [_requests(*one) for one in asked], [asyncio.Queue[_Line]() for _ in asked]
    for queue, (url, _) in zip(idle, asked, strict=True):
        for line in await _lines(url, lines):
            queue.put_nowait(line)
    ages: list[list[float]] = [[] for _ in asked]
    begins = time.perf_counter() + 0.1

    async def one(turn: int, number: int, due: float) -> None:
        line = await idle[turn].get()
        status = await line.get(requests[turn][number % len(requests[turn])])
        ages[turn].append(time.perf_counter() - due)
        idle[turn].put_nowait(line)
        if status != 200:
            raise RuntimeError(f"status {status} of {asked[turn][1][number % len(requests[turn])][0]}")

    tasks = []
    for number in range(int(rate * seconds * len(asked))):
        due = begins + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        turn = int(number / rate / TURN) % len(asked)
        tasks.append(asyncio.ensure_future(one(turn, number, due)))
    await asyncio.gather(*tasks)
    return ages


async def _at_once(url: str, asked: Asked, seconds: float, lines: int) -> int:
    requests, until = _requests(url, asked), time.perf_counter() + seconds
    counts = [0] * lines

    async def busy(number: int, line: _Line) -> None:
        while time.perf_counter() < until:
            await line.get(requests[(number + counts[number]) % len(requests)])
            counts[number] += 1

    await asyncio.gather(*(busy(number, line) for number, line in enumerate(await _lines(url, lines))))
    return sum(counts)


def at_rate(asked: Mapping[str, tuple[str, Asked]], rate: float, seconds: float, lines: int = 64) -> dict[str, Any]:
    """Milliseconds from the moment at which each request was due to the end of its answer: p50, p99, by name.

    `asked` are an address and its requests, by name. They have turns of a tenth of a second, until each had so many
    seconds: so each meets as much of what else goes on.
    """
    found = asyncio.run(_at_rate(list(asked.values()), rate, seconds, lines))
    return {
        name: {f"p{share}": round(sorted(ages)[len(ages) * share // 100] * 1000, 3) for share in (50, 99)}
        for name, ages in zip(asked, found, strict=True)
    }


def at_once(asked: Mapping[str, tuple[str, Asked]], seconds: float, lines: int = 8) -> dict[str, Any]:
    """How many requests a second are answered, each line sending the next once it has the answer, by name; in turns."""
    counts = dict.fromkeys(asked, 0)
    turns = max(1, round(seconds / CLOSED_TURN))
    for _ in range(turns):
        for name, (url, requests) in asked.items():
            counts[name] += asyncio.run(_at_once(url, requests, CLOSED_TURN, lines))
    return {name: {"per_second": round(count / turns / CLOSED_TURN, 1)} for name, count in counts.items()}


serve(at_rate=at_rate, at_once=at_once)
