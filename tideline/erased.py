"""Erased ids: keyed hashes by which a source's decoder knows the records of people who were removed.

An id is known by its text: of a JSON text the text, of a whole number its digits, of a record's key its UTF-8. So an id
stays erased when its column's type is widened, or when the column leaves the schema.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

ERASED = "erased"  # the reason of a record of which nothing is kept but its place
KEY_COLUMN = "_key"  # the record's own key, named like a column
SHORTEST_WORD = 4  # letters: shorter ids are not looked for in records that cannot be read
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_WORD = re.compile(r"[^\s\"'`\\,:;{}\[\]()<>=&?!#/|\x00-\x1f\ufffd]+")


def text_of(value: Any) -> str | None:
    """The text by which an id is known; None of what can be no id."""
    return str(value) if type(value) in (int, str) else None


def words_of(data: bytes) -> set[str]:
    """What could be an id in bytes that cannot be read as a record: JSON texts, words, and all of it."""
    text = data.decode("utf-8", "replace")
    quoted = {_unescaped(found) for found in _QUOTED.findall(text)}
    words = {word for part in (text, *quoted) for word in _WORD.findall(part)}
    found = {text, *quoted, *words, *(word.strip(".-+*@") for word in words)}
    return {word for word in found if len(word) >= SHORTEST_WORD}


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


@dataclass(frozen=True)
class Erased:
    """The erased ids of one source: (column, hash) pairs in order, and the random key of the hashes in hexadecimal.

    Whoever has the key can try ids out: what keeps a guessable id secret is that this stays in the home.
    """

    key: str
    hashes: tuple[tuple[str, str], ...]

    @classmethod
    def none_yet(cls) -> Erased:
        """No ids, under a key of its own."""
        return cls(secrets.token_hex(32), ())

    def hash(self, text: str) -> str:
        """The keyed hash of an id; 32 hexadecimal digits."""
        data = text.encode("utf-8", "surrogatepass")
        return blake2b(data, key=bytes.fromhex(self.key), digest_size=16).hexdigest()

    def adding(self, ids: Iterable[tuple[str, str]]) -> Erased:
        """With more (column, text) ids; itself where it has them all."""
        more = {(column, self.hash(text)) for column, text in ids}
        return self if more <= set(self.hashes) else Erased(self.key, tuple(sorted({*self.hashes, *more})))

    @property
    def columns(self) -> frozenset[str]:
        """Where ids were erased, `_key` among them."""
        return frozenset(self._by_column)

    @cached_property
    def _by_column(self) -> dict[str, frozenset[str]]:
        columns = {column for column, _ in self.hashes}
        return {name: frozenset(h for column, h in self.hashes if column == name) for name in columns}

    @cached_property
    def _all(self) -> frozenset[str]:
        return frozenset(found for _, found in self.hashes)

    def names(self, fields: Mapping[str, Any], key: bytes | None) -> bool:
        """Whether a record with these JSON fields and this key is one of an erased id."""
        for column, hashes in self._by_column.items():
            text = _key_text(key) if column == KEY_COLUMN else text_of(fields.get(column))
            if text is not None and self.hash(text) in hashes:
                return True
        return False

    def within(self, parts: Iterable[bytes | None]) -> bool:
        """Whether an erased id stands as a word in bytes of a record that could not be read."""
        return any(self.hash(word) in self._all for part in parts if part for word in words_of(part))

    def to_json(self) -> dict[str, Any]:
        """`{"key", "hashes": {column: [hash, ...]}}`."""
        return {"key": self.key, "hashes": {name: sorted(found) for name, found in sorted(self._by_column.items())}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Erased:
        pairs = [(column, found) for column, hashes in data["hashes"].items() for found in hashes]
        return cls(data["key"], tuple(sorted(pairs)))


def _key_text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode("utf-8")
    except UnicodeDecodeError:
        return None


def header_bytes(headers: Sequence[Any] | None) -> list[bytes | None]:
    """Names and values of a record's headers as Arrow hands them over: structs of `key` and `value`."""
    found: list[bytes | None] = []
    for header in headers or ():
        found += [None if header["key"] is None else header["key"].encode("utf-8", "replace"), header["value"]]
    return found
