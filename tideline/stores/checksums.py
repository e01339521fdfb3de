"""A checksum with each value: what was stored is what is read, under the key under which it was stored.

LMDB has none of its own. The last four bytes are the CRC-32 of key and value. A CRC over data that ends in its own CRC
is always the same number, so that a value is checked where it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

from tideline.errors import StoreError

SIZE = 4  # bytes
_RESIDUE = 0x2144DF1C


class Damaged(StoreError):
    """Raised inside a transaction; the store adds where it is."""

    def __init__(self, reason: str) -> None:
        super().__init__("STORE_DAMAGED", path="", reason=reason)


def seal(key: bytes, value: bytes) -> bytes:
    """The bytes to store."""
    return value + crc32(value, crc32(key)).to_bytes(SIZE, "little")


def sealed(items: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Items to store."""
    return [(key, value + crc32(value, crc32(key)).to_bytes(SIZE, "little")) for key, value in items]


def unseal(key: bytes, stored: bytes) -> bytes:
    """The value. Raises Damaged."""
    if crc32(stored, crc32(key)) != _RESIDUE:
        raise Damaged(f"the value of key {key[:40].hex()} is not the one that was written")
    return stored[:-SIZE]


def unsealed_values(items: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The values by key. Raises Damaged."""
    for key, stored in items:
        if crc32(stored, crc32(key)) != _RESIDUE:
            unseal(key, stored)
    return {key: stored[:-SIZE] for key, stored in items}


def unsealed(items: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The items of a walk, in rising order of their keys. Raises Damaged."""
    before = None
    for key, stored in items:
        if crc32(stored, crc32(key)) != _RESIDUE or (before is not None and key <= before):
            unseal(key, stored)
            raise Damaged(f"key {key[:40].hex()} is not in its order")
        before = key
        yield key, stored[:-SIZE]
