"""Server-sent events, line by line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from tideline.client.answers import Change
from tideline.errors import OutsideError


class EventReader:
    """Makes changes of the lines of a stream."""

    def __init__(self) -> None:
        self.last: str | None = None
        self._fields: dict[str, str] = {}

    def begin(self) -> None:
        """Another stream begins: of an event that the one before broke off nothing is left."""
        self._fields = {}

    def take(self, line: str) -> Change | None:
        """The change that ends with a line, if one does. Raises OutsideError for the event of an error."""
        if line:
            name, _, value = line.partition(":")
            if name:
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        data: dict[str, Any] = json.loads(fields["data"])
        if fields.get("event") == "error":
            error = data["error"]
            raise OutsideError(error["condition"], error["message"], error["hint"], **error["params"])
        self.last = fields["id"]
        removed = data.get("removed", [])
        return Change(fields["event"], self.last, data["rows"], removed, data["cut"], data["version"])


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream: each ends with a line feed, and nothing else, as JSON may hold Unicode's separators."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(_text, lines)


async def async_lines_of(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The same of what is awaited."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _text(line)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "replace")
