"""Column types and their *wire values*: the plain Python form in which keys and states are stored and merged.

| type | wire value |
| --- | --- |
| string | str |
| boolean | bool |
| tinyint, smallint, int, bigint | int |
| float, double | float, with -0.0 stored as 0.0 |
| decimal(p,s) | int, the unscaled value |
| date | int, days since 1970-01-01 |
| timestamp | int, microseconds since 1970-01-01T00:00:00Z |
| binary | bytes |

Null is None everywhere. Wire values merge exactly and fast; `from_wire` turns them into what people read.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

from tideline.errors import DefinitionError, UsageError

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
EPOCH_DATE = dt.date(1970, 1, 1)
MICROSECOND = dt.timedelta(microseconds=1)
INTEGER_RANGES = {"tinyint": 2**7, "smallint": 2**15, "int": 2**31, "bigint": 2**63}
_ALIASES = {
    "byte": "tinyint",
    "short": "smallint",
    "integer": "int",
    "long": "bigint",
    "real": "float",
    "bool": "boolean",
}
_PLAIN = {"string", "boolean", "float", "double", "date", "timestamp", "binary", *INTEGER_RANGES}
_WIDE = Context(prec=100)


@dataclass(frozen=True)
class ColumnType:
    """A Spark SQL type that an event column, a key or an answer may have."""

    name: str
    precision: int = 0
    scale: int = 0

    @property
    def is_integer(self) -> bool:
        return self.name in INTEGER_RANGES

    @property
    def is_floating(self) -> bool:
        return self.name in ("float", "double")

    @property
    def is_decimal(self) -> bool:
        return self.name == "decimal"

    @property
    def is_numeric(self) -> bool:
        return self.is_integer or self.is_floating or self.is_decimal

    @property
    def sql(self) -> str:
        """The type as Spark SQL spells it."""
        return f"decimal({self.precision},{self.scale})" if self.is_decimal else self.name

    def __str__(self) -> str:
        return self.sql


@dataclass(frozen=True)
class Column:
    """A named, typed column of an event or of a view's key."""

    name: str
    type: ColumnType


STRING, BIGINT, DOUBLE, TIMESTAMP = (
    ColumnType("string"),
    ColumnType("bigint"),
    ColumnType("double"),
    ColumnType("timestamp"),
)


def parse_type(text: str) -> ColumnType:
    """The type that `text` names (`int`, `decimal(10,2)`, ...). Raises DefinitionError for any other."""
    spelled = text.strip().lower()
    name = _ALIASES.get(spelled, spelled)
    if name in _PLAIN:
        return ColumnType(name)
    match = re.fullmatch(r"(?:decimal|numeric|dec)(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?", spelled)
    if match:
        precision, scale = int(match[1] or 10), int(match[2] or 0)
        if 1 <= precision <= 38 and scale <= precision:
            return ColumnType("decimal", precision, scale)
    raise DefinitionError("UNKNOWN_TYPE", type=text, known=sorted(_PLAIN | {"decimal(p,s)"}))


def parse_schema(text: str) -> tuple[Column, ...]:
    """The columns of a schema such as `"line_id string, price decimal(10,2)"`, in order."""
    columns: list[Column] = []
    for part in re.split(r",(?![^()]*\))", text):
        words = part.strip().replace(":", " ", 1).split(None, 1)
        if len(words) != 2 or not words[0].isidentifier():
            raise DefinitionError("BAD_SCHEMA", part=part.strip(), expected="name type, name type, ...")
        if words[0].startswith("_"):
            raise DefinitionError("RESERVED_COLUMN", column=words[0], expected="a name that does not start with _")
        if any(words[0].lower() == column.name.lower() for column in columns):
            raise DefinitionError("DUPLICATE_COLUMN", column=words[0])
        columns.append(Column(words[0], parse_type(words[1])))
    return tuple(columns)


def schema_text(columns: Iterable[Column]) -> str:
    """The inverse of `parse_schema`."""
    return ", ".join(f"{column.name} {column.type.sql}" for column in columns)


def to_wire(kind: ColumnType, value: Any) -> Any:
    """The wire value of a Python value as Spark or Arrow hand it over (datetime, Decimal, ...)."""
    if value is None:
        return None
    if kind.is_decimal:
        return int(Decimal(value).scaleb(kind.scale, _WIDE))
    if kind.is_floating:
        return float(value) + 0.0
    if kind.name == "timestamp" and isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.timezone.utc)
        return (aware - EPOCH) // MICROSECOND
    if kind.name == "date" and isinstance(value, dt.date):
        return (value - EPOCH_DATE).days
    return value


def to_wire_many(kind: ColumnType, values: Sequence[Any]) -> Sequence[Any]:
    """`to_wire` of each; no times and dates."""
    if kind.is_floating:
        return [None if value is None else value + 0.0 for value in values]
    return [to_wire(kind, value) for value in values] if kind.is_decimal else values


_YEAR_1 = (dt.datetime.min.replace(tzinfo=dt.timezone.utc) - EPOCH) // MICROSECOND
_MANY = 1 << 14  # of which only a few may have been told before
_YEAR_10000 = (dt.datetime.max.replace(tzinfo=dt.timezone.utc) - EPOCH) // MICROSECOND + 1


def from_wire(kind: ColumnType, value: Any) -> Any:
    """What people read: Decimal, aware datetime in UTC, date; other types as they are.

    Raises OverflowError for a time or date outside years 1 to 9999, which Python cannot show.
    """
    if value is None:
        return None
    if kind.is_decimal:
        return Decimal(value).scaleb(-kind.scale, _WIDE)
    if kind.name == "timestamp":
        return EPOCH + value * MICROSECOND
    if kind.name == "date":
        return EPOCH_DATE + dt.timedelta(days=value)
    return value


def from_wire_many(kind: ColumnType, values: Sequence[Any]) -> Sequence[Any]:
    """`from_wire` of each."""
    if kind.is_decimal or kind.name in ("timestamp", "date"):
        return [from_wire(kind, value) for value in values]
    return values


def bucket_start(moment: int | None) -> dt.datetime | None:
    """When a bucket, window or floor begins, as people read it; year 1 where it begins before, None for none."""
    return None if moment is None else EPOCH + max(moment, _YEAR_1) * MICROSECOND


def time_texts(moments: Sequence[int | None]) -> list[str | None]:
    """Those of `bucket_start` in ISO 8601 with Z."""
    if len(moments) < _MANY:
        return list(map(_time_text, moments))
    whole = None not in moments and not any(moment % 1_000_000 for moment in moments if moment is not None)
    if whole:
        import numpy as np  # which a lookup from the command line need not wait for

        times = np.maximum(np.array(moments, np.int64), _YEAR_1)
        if times.max() < _YEAR_10000:
            return [text + "Z" for text in np.datetime_as_string(times.view("M8[us]"), unit="s").tolist()]
    return [json_value(bucket_start(moment)) for moment in moments]


@lru_cache(1 << 16)
def _time_text(moment: int | None) -> str | None:
    """Buckets are few beside how often they are told."""
    text: str | None = json_value(bucket_start(moment))
    return text


def json_value(value: Any) -> Any:
    """A Python value as JSON carries it: decimals and non-finite numbers as text, times in ISO 8601 with Z."""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.timezone.utc).isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def to_json(kind: ColumnType, value: Any) -> Any:
    """A wire value as JSON carries it."""
    return json_value(from_wire(kind, value))


def parse_time(text: str, zone: dt.tzinfo = dt.timezone.utc) -> int:
    """Microseconds since the epoch of an ISO 8601 date or time, in `zone` where it names none. Raises UsageError."""
    try:
        moment = dt.datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError:
        raise UsageError("BAD_TIME", value=text, expected="ISO 8601, such as 2011-12-09T12:50:00Z") from None
    return int(to_wire(TIMESTAMP, moment if moment.tzinfo else moment.replace(tzinfo=zone)))


def parse_text(kind: ColumnType, text: str) -> Any:
    """The wire value of a key as a person types it. Raises UsageError naming the type."""
    try:
        if kind.name == "boolean":
            return {"true": True, "false": False}[text.strip().lower()]
        if kind.is_integer:
            number = int(text)
            if not -INTEGER_RANGES[kind.name] <= number < INTEGER_RANGES[kind.name]:
                raise ValueError(text)
            return number
        if kind.is_floating:
            return float(text) + 0.0
        if kind.is_decimal:
            unscaled = Decimal(text).scaleb(kind.scale, _WIDE)
            if (
                not unscaled.is_finite()
                or unscaled != unscaled.to_integral_value()
                or unscaled.copy_abs() >= 10**kind.precision  # abs would round to 28 digits
            ):
                raise ValueError(text)
            return int(unscaled)
        if kind.name == "timestamp":
            return parse_time(text)
        if kind.name == "date":
            return (dt.date.fromisoformat(text) - EPOCH_DATE).days
        if kind.name == "binary":
            return base64.b64decode(text, validate=True)
        text.encode("utf-8")  # half a surrogate pair is no text
    except (ValueError, KeyError, ArithmeticError):
        raise UsageError("BAD_VALUE", value=text, expected=f"a value of type {kind.sql}") from None
    return text
