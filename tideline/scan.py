"""Looking for ids in every file of a home but Kafka's: in the bytes as they lie, and in what Parquet compresses."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tideline.runtime.home import Home

SHORTEST = 8  # characters: a shorter id would be found by chance
_SMALLEST = 1 << 40  # of a whole number in its eight bytes, likewise
_ROWS = 20_000


@dataclass(frozen=True)
class Needle:
    """An id as it may lie in a file: its text, and its bytes where it is a large whole number."""

    text: str

    @property
    def patterns(self) -> list[bytes]:
        """Its text, its text as JSON escapes it, and as an integer of either byte order; none of a short id."""
        if len(self.text) < SHORTEST:
            return []
        found = [self.text.encode("utf-8", "replace"), json.dumps(self.text)[1:-1].encode()]
        number = self.number
        if number is not None and number >= _SMALLEST:
            # Keys that sort have another first byte.
            found += [number.to_bytes(8, "big")[1:], number.to_bytes(8, "little")[:7]]
        return list(dict.fromkeys(found))

    @property
    def number(self) -> int | None:
        """The 64-bit whole number that it spells, if it does."""
        return int(self.text) if re.fullmatch("0|[1-9][0-9]{0,18}", self.text) and int(self.text) < 1 << 63 else None


@dataclass
class Scan:
    """What a scan looked at, and (file, number of the id) where it found one."""

    files: int = 0
    bytes: int = 0
    found: list[tuple[Path, int]] = field(default_factory=list)


def scan(home: Home, ids: Sequence[str]) -> Scan:
    """Looks into every file under the home but Kafka's, for these ids."""
    result = Scan()
    needles = [Needle(id) for id in ids]
    for path in files_of(home):
        result.files += 1
        result.bytes += path.stat().st_size
        found = {number for number, needle in enumerate(needles) if holds(path, needle.patterns)}
        if path.suffix == ".parquet":
            found |= set(_in_parquet(path, needles))
        result.found += [(path, number) for number in sorted(found)]
    return result


def files_of(home: Home) -> Iterator[Path]:
    """Every file under the home outside Kafka."""
    for folder, folders, names in os.walk(home.path):
        if Path(folder) == home.path:
            folders[:] = [name for name in folders if home.path / name != home.kafka]
        yield from (Path(folder) / name for name in sorted(names) if not (Path(folder) / name).is_symlink())


def holds(path: Path, patterns: Sequence[bytes]) -> bool:
    """Whether one of the patterns stands in a file's bytes."""
    with path.open("rb") as file:
        if not patterns or not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return any(data.find(pattern) >= 0 for pattern in patterns)


def _in_parquet(path: Path, needles: Sequence[Needle]) -> Iterator[int]:
    with pq.ParquetFile(path) as parquet:
        for batch in parquet.iter_batches(_ROWS):
            for leaf in (leaf for column in batch.columns for leaf in _leaves(column)):
                for number, needle in enumerate(needles):
                    if needle.patterns and _holds_value(leaf, needle):
                        yield number


def _holds_value(leaf: pa.Array, needle: Needle) -> bool:
    kind = leaf.type
    if pa.types.is_integer(kind):
        number = needle.number
        in_range = number is not None and number >= _SMALLEST and kind.bit_width == 64
        return in_range and bool(pc.any(pc.equal(leaf, number)).as_py())
    patterns = needle.patterns[:2]
    return any(bool(pc.any(pc.match_substring(leaf, pattern)).as_py()) for pattern in patterns)


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """The texts, bytes and whole numbers in a column, whatever it nests."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary)
    elif pa.types.is_struct(kind):
        yield from (leaf for part in array.flatten() for leaf in _leaves(part))
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield _as_bytes(array)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_integer(kind):
        yield array


def _as_bytes(array: pa.Array) -> Any:
    return array.cast(pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary())


def drop_lines(path: Path, patterns: Sequence[bytes]) -> int:
    """Writes a file anew without the lines that hold a pattern; how many they were."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not any(pattern in line for pattern in patterns)]
    if len(kept) < len(lines):
        scratch = path.with_name(path.name + ".new")
        scratch.write_bytes(b"".join(kept))
        os.replace(scratch, path)
    return len(lines) - len(kept)
