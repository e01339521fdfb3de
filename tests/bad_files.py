"""Bad files: those that `produce` is given, and those that a home may hold."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROWS = b"id,n\n" + b"".join(b"e%d,%d\n" % (number, number) for number in range(2000))
GZIP = gzip.compress(ROWS)


class BadFile(NamedTuple):
    """A file to produce: its name and content (None: not there; empty tuple: a folder)."""

    kind: str
    name: str
    content: bytes | tuple[()] | None
    gets: str
    code: int = 2


PRODUCED = [
    BadFile("a file that is not there", "none.csv", None, "FILE_UNREADABLE"),
    BadFile("a folder", "folder.csv", (), "FILE_UNREADABLE"),
    BadFile("a name of another format", "events.parquet", b"PAR1", "UNKNOWN_FORMAT"),
    BadFile("a name without a format", "events", ROWS, "UNKNOWN_FORMAT"),
    BadFile("an empty CSV", "empty.csv", b"", "BAD_CSV"),
    BadFile("a column twice", "twice.csv", b"id,n,id\n1,2,3\n", "BAD_CSV"),
    BadFile("a column without a name", "unnamed.csv", b"id,,n\n1,2,3\n", "BAD_CSV"),
    BadFile("a row too short", "short.csv", b"id,n\n1\n", "BAD_CSV"),
    BadFile("a row too long", "long.csv", b"id,n\n1,2,3\n", "BAD_CSV"),
    BadFile("a quote that does not end", "quote.csv", b'id,n\n"1,' + b"2\n" * 100_000, "BAD_CSV"),
    BadFile("CSV in UTF-16", "utf16.csv", ROWS.decode().encode("utf-16"), "BAD_CSV"),
    BadFile("an image for a CSV", "image.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "BAD_CSV"),
    BadFile("gzip that is none", "plain.csv.gz", ROWS, "FILE_UNREADABLE"),
    BadFile("gzip that was cut short", "cut.csv.gz", GZIP[: len(GZIP) // 2], "FILE_UNREADABLE"),
    BadFile("gzip with other bytes inside", "other.csv.gz", GZIP[:40] + b"\xff" * 40 + GZIP[80:], "FILE_UNREADABLE"),
    BadFile("gzip without its checksum", "sum.csv.gz", GZIP[:-8] + b"\0" * 8, "FILE_UNREADABLE"),
    BadFile("a line of 17 MB", "large.jsonl", b'{"id":"' + b"x" * (17 << 20) + b'"}\n', "EVENT_TOO_LARGE"),
]
OPTIONS = {
    "a rate of nothing": ("--rate", "0", "BAD_RATE"),
    "a rate that is no number": ("--rate", "nan", "BAD_RATE"),
    "a limit below zero": ("--limit", "-1", "BAD_LIMIT"),
    "a probability beyond 1": ("--duplicate", "1.5", "BAD_PROBABILITY"),
    "a seed in words": ("--shuffle", "well", "BAD_ARGUMENTS"),
    "an unknown source": ("--source", "clicks", "UNKNOWN_SOURCE"),
}
"""Options of `produce` with a value and the condition that refuses it."""


class BadHome(NamedTuple):
    """A home with one of its files changed, and what every command that reads it gets, with exit code 3."""

    kind: str
    spoil: Callable[[Path], object]
    gets: str


def _store(change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda home: change(home / "store" / "data.mdb")


def _cut(share: float) -> Callable[[Path], object]:
    return _store(lambda file: os.truncate(file, int(file.stat().st_size * share)))


def _noise(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:8192] + random.Random(1).randbytes(len(content) - 8192))


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _file(home: Path) -> None:
    os.rename(home, home.with_name("moved"))
    home.write_text("")


HOMES = [
    BadHome("a home that is a file", _file, "STORE_MISSING"),
    BadHome("a home without its store", _store(Path.unlink), "STORE_MISSING"),
    BadHome("a folder for a store's file", _store(_folder), "STORE_FAILED"),
    BadHome("an empty store", _store(lambda file: file.write_bytes(b"")), "STORE_FAILED"),
    BadHome("garbage for a store", _store(lambda file: file.write_bytes(b"garbage" * 10_000)), "STORE_DAMAGED"),
    BadHome("a store of less than a page", _cut(0.005), "STORE_DAMAGED"),
    BadHome("a store cut to a tenth", _cut(0.1), "STORE_CUT_SHORT"),
    BadHome("a store cut in half", _cut(0.5), "STORE_CUT_SHORT"),
    BadHome("a store that lacks its end", _cut(0.99), "STORE_CUT_SHORT"),
    BadHome("a store of noise after its head", _store(_noise), "STORE_DAMAGED"),
]
