"""Subscribers of `/changes`: each notes when an event came, with its cut, and the last row that it was told."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote, urlsplit

from engine import serve


class Subscribers:
    """Many streams in one process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._events: list[tuple[float, str]] = []
        self._last: list[dict[str, Any] | None] = []

    def start(self, url: str, path: str, keys: list[str]) -> dict[str, int]:
        """One stream a key, and as many of the same one as it is named."""
        self._last = [None] * len(keys)
        self._loop.run_until_complete(self._open(url, path, keys))
        return {"streams": len(self._streams)}

    async def _open(self, url: str, path: str, keys: list[str]) -> None:
        address = urlsplit(url)
        for key in keys:
            reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1 << 20)
            writer.write(f"GET {path}{quote(key)} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise RuntimeError(head.decode())
            self._streams.append((reader, writer))

    def listen(self, seconds: float) -> dict[str, Any]:
        """What came for so long: (time, cut) of each event, and the last row of each stream."""
        self._events = []
        self._loop.run_until_complete(self._listen(time.time() + seconds))
        return {"events": self._events, "rows": self._last}

    async def _listen(self, until: float) -> None:
        tasks = [asyncio.ensure_future(self._read(number, until)) for number in range(len(self._streams))]
        await asyncio.gather(*tasks)

    async def _read(self, number: int, until: float) -> None:
        reader = self._streams[number][0]
        while (left := until - time.time()) > 0:
            try:
                line = await asyncio.wait_for(reader.readline(), left)
            except asyncio.TimeoutError:
                return
            if not line:
                raise RuntimeError("a stream ended")
            if line.startswith(b"data: "):
                told = json.loads(line[6:])
                self._events.append((time.time(), json.dumps(told["cut"], sort_keys=True)))
                if told["rows"]:
                    self._last[number] = told["rows"][0]


if __name__ == "__main__":
    subscribers = Subscribers()
    serve(start=subscribers.start, listen=subscribers.listen)
