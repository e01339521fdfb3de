"""The store's keys: a view's key columns and time bucket as bytes whose order is the order of the values.

Null comes before every value; NaN after every number; strings order by code point. A time range of one
key is one range of bytes. LMDB takes keys of at most 511 bytes: longer ones keep a prefix and a hash of
the whole, group by key still, and order among themselves by the prefix only; the whole key stands in the
value.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from tideline.types import ColumnType

MAX_PLAIN = 480
HASH_SIZE = 16
_NULL = b"\x00"
_VALUE = b"\x01"
_AFTER_VALUE = b"\x02"
_NO_COLUMNS = b"\x02"
_LONG = b"\xff"

Encoder = Callable[[Any], bytes]
KeyEncoder = Callable[[Sequence[Any], "int | None"], bytes]


def encode_key(types: Sequence[ColumnType], key: Sequence[Any], bucket: int | None = None) -> bytes:
    """The bytes of a key (wire values, one per type) and its bucket (microseconds, None without one)."""
    return key_encoder(tuple(types))(key, bucket)


@lru_cache(maxsize=256)
def key_encoder(types: tuple[ColumnType, ...]) -> KeyEncoder:
    """`encode_key` for keys of these types, for encoding many."""
    encoders = [_encoder(kind.name) for kind in types]
    pack = struct.Struct(">BQ").pack
    single = encoders[0] if len(encoders) == 1 else None

    def encode(key: Sequence[Any], bucket: int | None) -> bytes:
        if single is not None:
            data = single(key[0])
        elif not encoders:
            data = _NO_COLUMNS
        else:
            data = b"".join([encoder(value) for encoder, value in zip(encoders, key, strict=True)])
        if len(data) > MAX_PLAIN:
            data = _shorten(data)
        return data if bucket is None else data + pack(1, bucket + (1 << 63))

    return encode


def encode_keys(
    types: Sequence[ColumnType], keys: Iterable[Sequence[Any]], buckets: Sequence[int | None]
) -> list[bytes]:
    """`encode_key` of many keys, each with its bucket."""
    columns = [_encoded(kind.name, values) for kind, values in zip(types, zip(*keys, strict=True), strict=False)]
    if not types:
        found: Iterable[bytes] = [_NO_COLUMNS] * len(buckets)
    else:
        found = columns[0] if len(columns) == 1 else map(b"".join, zip(*columns, strict=True))
    short = [data if len(data) <= MAX_PLAIN else _shorten(data) for data in found]
    pack = _TAGGED.pack
    tails = {bucket: b"" if bucket is None else pack(1, bucket + (1 << 63)) for bucket in set(buckets)}
    return [data + tails[bucket] for data, bucket in zip(short, buckets, strict=True)]


def _encoded(name: str, values: Sequence[Any]) -> list[bytes]:
    """The bytes of a column's values."""
    if name == "string" and None not in values and "\x00" not in "".join(values):
        return [b"\x01" + value.encode() + b"\x00" for value in values]
    return list(map(_encoder(name), values))


def key_range(
    types: Sequence[ColumnType],
    prefix: Sequence[Any],
    start: int | None = None,
    stop: int | None = None,
) -> tuple[bytes, bytes | None]:
    """(lower, upper) that enclose the keys which begin with the values of `prefix`.

    Of a whole key, its buckets in [start, stop), which without `start` and `stop` are all. `upper` is None
    where nothing ends the range. A prefix that encodes to more than 480 bytes encloses other keys too:
    compare the rows' keys.
    """
    if len(prefix) < len(types):
        data = b"".join(_encoder(kind.name)(value) for kind, value in zip(types, prefix, strict=False))[:MAX_PLAIN]
        return data, _after(data)
    # A text or bytes that go on with a NUL begin with the same, and have another byte where the bucket's first one is.
    data = encode_key(types, prefix)
    lower = data + _VALUE if start is None else encode_key(types, prefix, start)
    upper = data + _AFTER_VALUE if stop is None else encode_key(types, prefix, stop)
    return lower, upper


def _after(prefix: bytes) -> bytes | None:
    """The first bytes after everything that begins with `prefix`."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None


def _shorten(data: bytes) -> bytes:
    return data[:MAX_PLAIN] + _LONG + blake2b(data, digest_size=HASH_SIZE).digest()


def _encoder(name: str) -> Encoder:
    return _ENCODERS.get(name, _integer)


def _string(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return b"\x01" + (data.replace(b"\x00", b"\x00\xff") if b"\x00" in data else data) + b"\x00"


def _binary(value: bytes | None) -> bytes:
    return _NULL if value is None else _VALUE + value.replace(b"\x00", b"\x00\xff") + b"\x00"


def _boolean(value: bool | None) -> bytes:
    return _NULL if value is None else _VALUE + (b"\x01" if value else b"\x00")


_TAGGED = struct.Struct(">BQ")


def _integer(value: int | None) -> bytes:
    return _NULL if value is None else _TAGGED.pack(1, value + (1 << 63))


def _decimal(value: int | None) -> bytes:
    return _NULL if value is None else _VALUE + (value + (1 << 127)).to_bytes(16, "big")


def _floating(value: float | None) -> bytes:
    if value is None:
        return _NULL
    number = float("nan") if math.isnan(value) else value + 0.0
    bits = int.from_bytes(struct.pack(">d", number), "big")
    if math.isnan(number):
        bits = (1 << 63) - 1
    return _VALUE + (bits ^ ((1 << 64) - 1) if bits >> 63 else bits | (1 << 63)).to_bytes(8, "big")


_ENCODERS: dict[str, Encoder] = {
    "string": _string,
    "binary": _binary,
    "boolean": _boolean,
    "decimal": _decimal,
    "float": _floating,
    "double": _floating,
}
