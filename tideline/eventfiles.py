"""Files of events, CSV with a header or JSON lines, plain or gzipped, read as Kafka keys and values.

A CSV row becomes a JSON object. An empty cell is left out, that is, null. A cell of a numeric column becomes
a JSON number when it is spelled as one, a cell of a boolean column true or false, everything else text: what
does not fit its type arrives as it is, and the decoder says so. Bytes that are not UTF-8 pass unchanged. JSON
lines pass unchanged.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from json.encoder import encode_basestring
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

from tideline.errors import Texts, UsageError
from tideline.source import RETRACT
from tideline.types import Column

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
_FORMATS = {".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json"}


class EventFileError(UsageError):
    """A file that cannot be read as events."""

    texts: ClassVar[Texts] = {
        "FILE_UNREADABLE": (
            "{path} cannot be read: {reason}",
            "name a CSV or JSON lines file, gzipped or not",
        ),
        "UNKNOWN_FORMAT": (
            "{path} is neither CSV nor JSON lines by its name",
            "its name should end in one of {known}",
        ),
        "BAD_CSV": (
            "{path} row {row}: {reason}",
            "the first line names the columns, every row has as many cells",
        ),
        "OPERATION_GIVEN": (
            "an event says itself what its {column} is: {value}",
            "send the file without --retract, or leave the column out of it",
        ),
    }


class Event(NamedTuple):
    """What goes into Kafka: the event id as key, if there is one, and the value."""

    key: bytes | None
    value: bytes


class EventFile:
    """One file of events; iterating reads it from the start.

    `columns` tell which cells are numbers, `event_id` names the column that becomes the key, `row_id` adds a
    column with the 1-based number of the row, `limit` reads that many rows at most. `header` has the names of a CSV
    file's columns once it is read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Iterable[Column] = (),
        event_id: str | None = None,
        row_id: str | None = None,
        limit: int | None = None,
    ) -> None:
        self.path = Path(path)
        self._types = {column.name: column.type for column in columns}
        self._event_id = event_id
        self._row_id = row_id
        self._limit = limit
        self._raw: BinaryIO | None = None
        self._read = 0
        self.header: tuple[str, ...] = ()
        stem = self.path.name.removesuffix(".gz")
        self.format = _FORMATS.get(os.path.splitext(stem)[1].lower(), "")
        if not self.format:
            known = [suffix + zipped for suffix in _FORMATS for zipped in ("", ".gz")]
            raise EventFileError("UNKNOWN_FORMAT", path=str(path), known=known)
        try:
            self._size = self.path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from error

    @property
    def fraction(self) -> float:
        """How much of what there is to read has been read, 0 to 1, by bytes or by rows."""
        if self._raw is None:
            return 0.0
        position = self._size if self._raw.closed else self._raw.tell()
        by_rows = self._read / self._limit if self._limit else 0.0
        return min(max(position / self._size if self._size else 1.0, by_rows), 1.0)

    def __iter__(self) -> Iterator[Event]:
        self._read = 0
        try:
            with self.path.open("rb") as raw:
                self._raw = raw
                lines = gzip.GzipFile(fileobj=raw) if self.path.name.endswith(".gz") else raw
                events = self._csv(lines) if self.format == "csv" else self._json(lines)
                with closing(events):
                    for event in islice(events, self._limit):
                        self._read += 1
                        yield event
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error) from error

    def _csv(self, lines: BinaryIO | gzip.GzipFile) -> Generator[Event, None, None]:
        text = io.TextIOWrapper(lines, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text)
        row = 0
        try:
            header = next(reader, None)
            if not header or not all(header) or len(set(header)) < len(header):
                raise self._bad_csv(0, "the header has no, empty or repeated column names")
            if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for name in header for letter in name):
                raise self._bad_csv(0, "the header is not UTF-8 text")
            if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
                raise self._bad_csv(0, f"cells are separated by commas, and the header has none: {header[0][:60]!r}")
            self.header = tuple(header)
            encoders = [(f"{encode_basestring(name)}:", self._encoder(name)) for name in header]
            key_at = header.index(self._event_id) if self._event_id in header else None
            width, number = len(header), self._row_number()
            for row, cells in enumerate(reader, 1):
                if len(cells) != width:
                    if not cells:
                        continue
                    raise self._bad_csv(row, f"{len(cells)} cells under {width} columns")
                parts = [name + encode(cell) for (name, encode), cell in zip(encoders, cells, strict=True) if cell]
                key: str | None = cells[key_at] if key_at is not None else None
                if number is not None:
                    parts.insert(0, number(row))
                    if self._row_id == self._event_id:
                        key = str(row)
                value = "{" + ",".join(parts) + "}"
                yield Event(_bytes(key) if key else None, _bytes(value))
        except csv.Error as error:
            raise self._bad_csv(row + 1, str(error)) from error
        finally:
            text.detach()

    def _json(self, lines: BinaryIO | gzip.GzipFile) -> Generator[Event, None, None]:
        number = self._row_number()
        row = 0
        for line in lines:
            value = line.rstrip(b"\r\n")
            if not value.strip():
                continue
            row += 1
            key = json_key(value, self._event_id) if self._event_id else None
            if number is not None and value.lstrip().startswith(b"{"):
                body = value.lstrip()[1:].lstrip()
                value = b"{" + number(row).encode() + (b"" if body.startswith(b"}") else b",") + body
                if self._row_id == self._event_id:
                    key = str(row).encode()
            yield Event(key, value)

    def _encoder(self, name: str) -> Callable[[str], str]:
        kind = self._types.get(name)
        if kind is not None and kind.is_numeric:
            return lambda cell: cell if _NUMBER(cell) else encode_basestring(cell)
        if kind is not None and kind.name == "boolean":
            return lambda cell: cell if cell in ("true", "false") else encode_basestring(cell)
        return encode_basestring

    def _row_number(self) -> Callable[[int], str] | None:
        if self._row_id is None:
            return None
        name, encode = f"{encode_basestring(self._row_id)}:", self._encoder(self._row_id)
        return lambda row: name + encode(str(row))

    def _bad_csv(self, row: int, reason: str) -> EventFileError:
        return EventFileError("BAD_CSV", path=str(self.path), row=row, reason=reason)

    def _unreadable(self, error: Exception) -> EventFileError:
        reason = getattr(error, "strerror", None) or str(error)
        return EventFileError("FILE_UNREADABLE", path=str(self.path), reason=reason)


def retraction(event: Event, operation: str) -> Event:
    """The event with `retract` in its column `operation`, else byte for byte; what is no JSON object stays as it is.

    Raises EventFileError where the event has an operation.
    """
    body = event.value.lstrip()
    if not body.startswith(b"{"):
        return event
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = {}
    if operation in fields:
        raise EventFileError("OPERATION_GIVEN", column=operation, value=fields[operation])
    rest = body[1:].lstrip()
    field = _bytes(f"{{{encode_basestring(operation)}:{encode_basestring(RETRACT)}")
    return Event(event.key, field + (b"" if rest.startswith(b"}") else b",") + rest)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def json_key(value: bytes, event_id: str) -> bytes | None:
    """The id as text; None where the value is broken or has none, which is for the decoder to judge."""
    try:
        found = json.loads(value)[event_id]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    if isinstance(found, str):
        return found.encode("utf-8", "surrogatepass") or None
    return None if found is None else json.dumps(found).encode()
