"""The oracle's own reading of a record: one at a time, by the table in `docs/decoding.md` and nothing else.

It shares no code with the layers' decoder. Values are plain Python: int, float, Decimal, str, bool, bytes,
and microseconds or days since 1970-01-01 for timestamps and dates.
"""

from __future__ import annotations

import base64
import ctypes
import datetime as dt
import hashlib
import json
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from functools import lru_cache
from typing import Any

from tideline.erased import Erased
from tideline.source import SourceDefinition
from tideline.types import Column, ColumnType

LARGEST_VALUE = 1_048_576
DEEPEST = 100
_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
_DECIMAL = re.compile(r"-?\d{1,400}(\.\d{1,400})?([eE][-+]?\d{1,3})?", re.ASCII)
_DAY = r"(\d{4})-(\d\d)-(\d\d)"
_MOMENT = re.compile(_DAY + r"[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?(Z|([-+])(\d\d):(\d\d))?", re.ASCII)
_DATE = re.compile(_DAY, re.ASCII)
_BASE64 = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_FIRST_DAY = dt.date(1970, 1, 1).toordinal()
_LAST_MICROSECOND = (dt.date.max.toordinal() + 1 - _FIRST_DAY) * 86_400_000_000 - 1
_FIRST_MICROSECOND = (1 - _FIRST_DAY) * 86_400_000_000


class Refused(Exception):
    """A record that is no event; says why."""


class Fraction(str):
    """A JSON number that has a fraction or an exponent, as spelled."""


@dataclass
class Decoded:
    """The events that count, column by column with their log position, since they were last taken; and how many
    records were events, repeats and dead letters in all.
    """

    columns: list[list[Any]]
    positions: list[int] = field(default_factory=list)
    events: int = 0
    duplicates: int = 0
    dead: int = 0

    def take(self) -> tuple[list[int], list[list[Any]]]:
        """Positions and columns, which are empty afterwards."""
        taken = self.positions, self.columns
        self.positions, self.columns = [], [[] for _ in self.columns]
        return taken


def read_object(value: bytes | None) -> dict[str, Any]:
    """The record's JSON object. Raises Refused."""
    if value is None or value == b"":
        raise Refused("empty")
    if len(value) > LARGEST_VALUE:
        raise Refused("too large")
    try:
        found = json.loads(str(value, "utf-8"), object_pairs_hook=_fields, parse_float=Fraction, parse_constant=_no)
    except (ValueError, RecursionError) as error:
        raise Refused(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused("no object")
    if _depth(found) > DEEPEST:
        raise Refused("too deep")
    return found


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise Refused(f"two fields {name}")
        fields[name] = value
    return fields


def _no(text: str) -> Any:
    raise Refused(f"{text} is no JSON number")


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _whole(kind: ColumnType, value: Any) -> int:
    half = 1 << (_BITS[kind.name] - 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < -half or value >= half:
        raise Refused(kind.sql)
    return value


def _real(kind: ColumnType, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, Fraction)):
        raise Refused(kind.sql)
    number = float(str(value)) if isinstance(value, Fraction) else _float(value)
    if kind.name == "float":
        number = ctypes.c_float(number).value
    if math.isinf(number):
        raise Refused(kind.sql)
    return 0.0 if number == 0 else number


def _float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _fixed(kind: ColumnType, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not _DECIMAL.fullmatch(str(value)):
        raise Refused(kind.sql)
    exact = Context(prec=kind.precision, traps=[Inexact, InvalidOperation])
    try:
        return Decimal(str(value)).quantize(Decimal(1).scaleb(-kind.scale), context=exact)
    except DecimalException:
        raise Refused(kind.sql) from None


def _text(kind: ColumnType, value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, Fraction):
        raise Refused(kind.sql)
    if any("\ud800" <= letter <= "\udfff" for letter in value) if not value.isascii() else False:
        raise Refused("half a character")
    return value


def _truth(kind: ColumnType, value: Any) -> bool:
    if value is not True and value is not False:
        raise Refused(kind.sql)
    return bool(value)


def _moment(kind: ColumnType, value: Any) -> int:
    found = _MOMENT.fullmatch(_text(kind, value))
    if not found:
        raise Refused(kind.sql)
    year, month, day, hour, minute, second, fraction, _, sign, zone_hours, zone_minutes = found.groups()
    clock = [int(hour), int(minute), int(second or 0)]
    shift = [int(zone_hours), int(zone_minutes)] if sign else [0, 0]
    if clock[0] > 23 or clock[1] > 59 or clock[2] > 59 or shift[0] > 23 or shift[1] > 59:
        raise Refused(kind.sql)
    seconds = (_days(kind, year, month, day) * 24 + clock[0]) * 3600 + clock[1] * 60 + clock[2]
    seconds -= (-1 if sign == "-" else 1) * (shift[0] * 3600 + shift[1] * 60)
    micros = seconds * 1_000_000 + int((fraction or "").ljust(6, "0"))
    if not _FIRST_MICROSECOND <= micros <= _LAST_MICROSECOND:
        raise Refused(kind.sql)
    return micros


def _days(kind: ColumnType, year: str, month: str, day: str) -> int:
    try:
        return dt.date(int(year), int(month), int(day)).toordinal() - _FIRST_DAY
    except ValueError:
        raise Refused(kind.sql) from None


def _calendar(kind: ColumnType, value: Any) -> int:
    found = _DATE.fullmatch(_text(kind, value))
    if not found:
        raise Refused(kind.sql)
    return _days(kind, *found.groups())


def _bytes(kind: ColumnType, value: Any) -> bytes:
    if not _BASE64.fullmatch(_text(kind, value)):
        raise Refused(kind.sql)
    return base64.b64decode(value)


_READ: dict[str, Callable[[ColumnType, Any], Any]] = {
    "string": _text,
    "boolean": _truth,
    "float": _real,
    "double": _real,
    "decimal": _fixed,
    "timestamp": _moment,
    "date": _calendar,
    "binary": _bytes,
    **dict.fromkeys(_BITS, _whole),
}


@lru_cache(maxsize=16)
def _erased(ids: Erased) -> tuple[bytes, frozenset[str], frozenset[tuple[str, str]]]:
    """The hashes' key, the columns, and the (column, hash) pairs."""
    return bytes.fromhex(ids.key), frozenset(name for name, _ in ids.hashes), frozenset(ids.hashes)


def _is_erased(source: SourceDefinition, found: dict[str, Any], key: bytes | None) -> bool:
    if source.erased is None:
        return False
    secret, names, known = _erased(source.erased)
    for name in names:
        id = found.get(name)
        if name == "_key":
            data = key
        elif isinstance(id, (bool, Fraction)) or not isinstance(id, (int, str)):
            data = None
        else:
            data = str(id).encode("utf-8", "surrogatepass")
        if data is not None and (name, hashlib.blake2b(data, key=secret, digest_size=16).hexdigest()) in known:
            return True
    return False


def read_event(source: SourceDefinition, value: bytes | None, stamp: int, key: bytes | None = None) -> list[Any]:
    """The values of the schema's columns. `stamp` is the record's time in microseconds. Raises Refused."""
    found = read_object(value)
    if _is_erased(source, found, key):
        raise Refused("erased")
    row = [None if found.get(c.name) is None else _READ[c.type.name](c.type, found[c.name]) for c in source.schema]
    names = [column.name for column in source.schema]
    if source.event_id is not None and row[names.index(source.event_id)] is None:
        raise Refused("no id")
    if source.operation is not None and row[names.index(source.operation)] not in (None, "insert", "retract"):
        raise Refused("no operation")
    if source.event_time in names:
        at = row[names.index(source.event_time)]
        if at is None:
            raise Refused("no time")
        if source.max_ahead is not None and at > stamp + source.max_ahead:
            raise Refused("ahead of its record")
        if source.max_behind is not None and at < stamp - source.max_behind:
            raise Refused("behind its record")
    return row


def column_named(source: SourceDefinition, name: str) -> Column:
    """The schema's column of that name, in any case."""
    return next(column for column in source.schema if column.name.lower() == name.lower())


class PartitionDecoder:
    """Decodes one partition's records in offset order and leaves out repeated ids."""

    def __init__(self, source: SourceDefinition) -> None:
        self.source = source
        self.found = Decoded([[] for _ in source.schema])
        names = [column.name for column in source.schema]
        self._id = names.index(source.event_id) if source.event_id else None
        self._operation = names.index(source.operation) if source.operation else None
        self._last: OrderedDict[Any, int] = OrderedDict()  # by offset; none from before the horizon

    def add(self, index: int, offset: int, stamp: int, value: bytes | None, key: bytes | None = None) -> None:
        """Take the next record; `index` is what `positions` will hold if it counts."""
        try:
            row = read_event(self.source, value, stamp, key)
        except Refused:
            self.found.dead += 1
            return
        if self._id is not None:
            retracts = self._operation is not None and row[self._operation] == "retract"
            name = (retracts, row[self._id])
            while self._last and offset - next(iter(self._last.values())) > self.source.horizon:
                self._last.popitem(last=False)
            before = self._last.pop(name, None)
            self._last[name] = offset
            if before is not None:
                self.found.duplicates += 1
                return
        self.found.events += 1
        self.found.positions.append(index)
        for column, item in zip(self.found.columns, row, strict=True):
            column.append(item)
