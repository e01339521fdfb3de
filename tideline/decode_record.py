"""The reference decoder: from one record's bytes to its fields, and from a field to a column's value.

A record is parsed by itself with the C scanner of Python's own `json`; then each column is converted as a whole where
all its values are of the plain form, else value by value. What bytes each type accepts is the table in
`docs/decoding.md`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import re
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tideline.arrow_types import arrow_type
from tideline.types import EPOCH, INTEGER_RANGES, MICROSECOND, Column, ColumnType

MAX_VALUE_BYTES = 1 << 20
MAX_DEPTH = 100
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]{_CLOCK}(:[0-5][0-9](\.[0-9]{{1,6}})?)?(Z|[+-]{_CLOCK})?"
_YEAR = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_PLAIN_TIME = rf"^{_YEAR}-[0-9]{{2}}-[0-9]{{2}}[T ][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]{{1,6}})?Z?$"
_MOST_DIGITS = 38
"""Of a decimal; Arrow reads more of them modulo 2 to the power of 128."""
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")
_BASE64 = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_JSON_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_YEAR_1 = (dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc) - EPOCH) // MICROSECOND
_YEAR_10000 = (dt.datetime(9999, 12, 31, tzinfo=dt.timezone.utc) - EPOCH) // MICROSECOND + 86_400_000_000


class Number(str):
    """A JSON number with a fraction or an exponent, as it is written."""

    __slots__ = ()


class Dead(ValueError):
    """A record that cannot become an event; the message is the reason."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Dead("repeated field")
    return fields


def _constant(text: str) -> Any:
    raise Dead(f"not JSON: {text} is not a number")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_float=Number, parse_constant=_constant)


def parse_record(value: bytes | None) -> dict[str, Any]:
    """The fields of one record; numbers with a fraction stay text. Raises Dead."""
    if not value:
        raise Dead("empty value")
    if len(value) > MAX_VALUE_BYTES:
        raise Dead(f"larger than {MAX_VALUE_BYTES} bytes")
    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise Dead("nested too deeply")
    try:
        fields = _JSON.decode(value.decode("utf-8"))
    except Dead:
        raise
    except UnicodeDecodeError:
        raise Dead("not UTF-8") from None
    except RecursionError:
        raise Dead("nested too deeply") from None
    except ValueError as error:
        raise Dead("not JSON" if isinstance(error, json.JSONDecodeError) else "a number is too long") from None
    if type(fields) is not dict:
        raise Dead("not a JSON object")
    return fields


def _depth(value: bytes) -> int:
    """How deep the brackets outside texts nest: a limit of our own, since Python's depends on version and stack."""
    depth = deepest = 0
    for byte in _JSON_TEXT.sub(b"", value):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest


def _integer(kind: ColumnType, value: Any) -> int:
    limit = INTEGER_RANGES[kind.name]
    if type(value) is not int:
        raise Dead(f"not a value of type {kind.sql}")
    if not -limit <= value < limit:
        raise Dead(f"outside the range of {kind.sql}")
    return value


def _double(kind: ColumnType, value: Any) -> float:
    if type(value) is not int and type(value) is not Number:
        raise Dead(f"not a value of type {kind.sql}")
    try:
        number = float(value)
        if kind.name == "float":
            number = struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Dead(f"outside the range of {kind.sql}")
    return number + 0.0


def _decimal(kind: ColumnType, value: Any) -> Decimal:
    if type(value) not in (int, Number, str) or not _NUMBER.fullmatch(text := str(value)):
        raise Dead(f"not a value of type {kind.sql}")
    number = Decimal(text)
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    spare = -exponent - kind.scale
    kept = digits if spare <= 0 else digits[:-spare] if len(digits) > spare else ()
    if spare > 0 and any(digits[len(kept) :]):
        raise Dead(f"more decimals than {kind.sql}")
    whole = int("".join(map(str, kept)) or "0") * 10 ** max(0, min(-spare, 400))
    if whole >= 10**kind.precision:
        raise Dead(f"outside the range of {kind.sql}")
    return Decimal((sign if whole else 0, tuple(map(int, str(whole))), -kind.scale))


def _string(kind: ColumnType, value: Any) -> str:
    if type(value) is not str:
        raise Dead(f"not a value of type {kind.sql}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Dead("text with half a surrogate pair") from None
    return value


def _boolean(kind: ColumnType, value: Any) -> bool:
    if type(value) is not bool:
        raise Dead(f"not a value of type {kind.sql}")
    return value


def _timestamp(kind: ColumnType, value: Any) -> int:
    if type(value) is not str or not re.fullmatch(_TIME, value):
        raise Dead(f"not a value of type {kind.sql}")
    try:
        moment = dt.datetime.fromisoformat(_padded(value))
        micros = ((moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)) - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        raise Dead(f"not a value of type {kind.sql}") from None
    if not _YEAR_1 <= micros < _YEAR_10000:
        raise Dead(f"outside the range of {kind.sql}")
    return micros


def _padded(text: str) -> str:
    """ISO text in the form that Python 3.10 reads too: six decimals, +00:00 for Z."""
    text = re.sub(r"\.([0-9]+)", lambda match: "." + match[1].ljust(6, "0"), text)
    return text[:-1] + "+00:00" if text.endswith("Z") else text


def _date(kind: ColumnType, value: Any) -> dt.date:
    if type(value) is not str or not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise Dead(f"not a value of type {kind.sql}")
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise Dead(f"not a value of type {kind.sql}") from None


def _binary(kind: ColumnType, value: Any) -> bytes:
    try:
        if type(value) is str and _BASE64.fullmatch(value):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Dead(f"not a value of type {kind.sql}")


_CONVERT: dict[str, Callable[[ColumnType, Any], Any]] = {
    **dict.fromkeys(INTEGER_RANGES, _integer),
    "float": _double,
    "double": _double,
    "decimal": _decimal,
    "string": _string,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "date": _date,
    "binary": _binary,
}


def convert(column: Column, value: Any) -> Any:
    """One field's value in Arrow's Python form; None stays None. Raises Dead naming the column."""
    if value is None:
        return None
    try:
        return _CONVERT[column.type.name](column.type, value)
    except Dead as dead:
        raise Dead(f"{column.name}: {dead}") from None


def _plain_decimal(kind: ColumnType) -> str:
    """What Arrow may cast: no more whole digits than fit, for it multiplies by the scale unchecked (200 is no
    decimal(38,38), yet becomes one)."""
    digits = kind.precision - kind.scale
    whole = f"(0|[0-9]{{1,{digits}}})" if digits else "0"
    return rf"^-?0{{0,30}}{whole}(\.[0-9]{{1,38}})?$"


def plain_times(texts: pa.Array) -> pa.Array:
    """Which texts may be a time in UTC that `times_of` converts, unless there is no such day or hour."""
    return pc.match_substring_regex(texts, _PLAIN_TIME)


def times_of(texts: pa.Array) -> pa.Array:
    """Plain texts as times. Raises ArrowInvalid for the 30th of February."""
    return pc.utf8_rtrim(texts, characters="Z").cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))


def _whole_column(kind: ColumnType, values: list[Any]) -> pa.Array | None:
    """The column if every value is of the plain form, else None."""
    types = set(map(type, values))
    types.discard(type(None))
    try:
        if (kind.is_integer and types <= {int}) or (kind.name == "boolean" and types <= {bool}):
            return pa.array(values, arrow_type(kind))
        if not types <= ({str, Number, int} if kind.is_decimal else {str}):
            return None
        if kind.name == "string":
            return pa.array(values, pa.string())
        if kind.is_decimal:
            texts = pa.array([None if v is None else str(v) for v in values] if int in types else values, pa.string())
            plain = pc.match_substring_regex(texts, _plain_decimal(kind))
            short = pc.less_equal(pc.binary_length(texts), _MOST_DIGITS + 1)
            return None if pc.all(pc.and_(plain, short)).as_py() is False else texts.cast(arrow_type(kind))
        if kind.name == "timestamp":
            texts = pa.array(values, pa.string())
            return None if pc.all(plain_times(texts)).as_py() is False else times_of(texts)
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
        return None
    return None


def decode_column(column: Column, rows: Sequence[dict[str, Any]], reasons: list[str | None]) -> pa.Array:
    """A column of the rows; what it refuses is null, and the reason stands where none did before."""
    name = column.name
    values = [row.get(name) for row in rows]
    whole = _whole_column(column.type, values)
    if whole is not None:
        return whole
    for index, value in enumerate(values):
        try:
            values[index] = convert(column, value)
        except Dead as dead:
            reasons[index] = reasons[index] or str(dead)
            values[index] = None
    return pa.array(values, arrow_type(column.type))
