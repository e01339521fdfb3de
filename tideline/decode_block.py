"""Decoding a block of records with Arrow's JSON reader, for those of which it is sure.

Arrow's reader is several times as fast as one record after another, and hides what a record must not have: a field
twice, a value that goes on in the next line, bytes behind the value. So a record is taken from it only where its bytes
leave room for nothing of the kind:

1. It is short, UTF-8, starts with `{` and ends with `}`, and holds no other brace, no bracket, no backslash and no
   control character. So it is one flat object, whatever stands around it, and each of its fields and texts is between
   two quotes that mean nothing else.
2. Its quotes are two for each field that Arrow found in it, and two for each text: there is no room for a field
   more. Fields that are null are looked for by name, and count where they stand there once.
3. Each value lies inside its type, by the rules of `docs/decoding.md`.

The others go to the reference decoder in `tideline/decode_record.py`, and so does everything where Arrow gives up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from tideline.arrow_types import arrow_type
from tideline.decode_record import Dead, Number, convert, parse_record, plain_times, times_of
from tideline.types import INTEGER_RANGES, Column, ColumnType

MOST_BYTES = 4096
_FEWEST = 8  # records; fewer are read one by one as fast
_PIECES = 16  # into which a block is cut where Arrow gave up
_SAMPLE = 16  # records, in which fields are looked for that the schema does not name
_MOST_FIELDS = 100
_BETWEEN = re.compile("[,:]")
"""One of these lies between two texts, so that a name without them, in quotes, is no such place."""
_TEXTS = frozenset({"string", "timestamp", "date", "binary"})
_UNNAMED: Mapping[type, pa.DataType] = {str: pa.string(), bool: pa.bool_(), int: pa.float64(), Number: pa.float64()}
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int32]


class Block(NamedTuple):
    """Which records were taken, and the columns of those."""

    taken: Mask
    columns: list[pa.Array]


def decode_block(schema: Sequence[Column], values: pa.Array) -> Block:
    """The records that can be taken from Arrow's reader, decoded into the schema's columns."""
    values = values.cast(pa.binary())  # Spark may be set to hand over large ones
    block = _decode(schema, values)
    if block is None and len(values) >= _PIECES * _FEWEST:
        size = -(-len(values) // _PIECES)
        pieces = [values.slice(at, size) for at in range(0, len(values), size)]
        blocks = [_decode(schema, piece) or _none(schema, piece) for piece in pieces]
        columns = [pa.concat_arrays([b.columns[i] for b in blocks]) for i in range(len(schema))]
        return Block(np.concatenate([b.taken for b in blocks]), columns)
    return block or _none(schema, values)


def _none(schema: Sequence[Column], values: pa.Array) -> Block:
    return Block(np.zeros(len(values), np.bool_), [pa.array([], arrow_type(column.type)) for column in schema])


def _decode(schema: Sequence[Column], values: pa.Array) -> Block | None:
    """None where Arrow gives up on one of the records, and so on all of them."""
    if len(values) < _FEWEST:
        return None
    taken = _flat(values)
    lines = values if taken.all() else values.filter(pa.array(taken))
    if len(lines) < _FEWEST:
        return None
    try:
        table = _read(schema, lines)
        if table is None:
            return None
        right = _room_for_no_more(lines, table) & _without_exponents(schema, lines)
        for name in table.column_names[len(schema) :]:
            right &= _not_infinite(table[name].chunk(0))
        columns = []
        for column in schema:
            array, fits = _fitting(column, table[column.name].chunk(0))
            columns.append(array)
            right &= fits
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if not right.all():
        taken[np.flatnonzero(taken)[~right]] = False
        columns = [column.filter(pa.array(right)) for column in columns]
    return Block(taken, columns)


def _flat(values: pa.Array) -> Mask:
    """The first rule: which records are one flat object, by their bytes."""
    count, (_, places, content) = len(values), values.buffers()
    bounds = np.frombuffer(places, np.int32, count + 1, values.offset * 4) if places else np.zeros(count + 1, np.int32)
    starts, ends = bounds[:-1], bounds[1:]
    lengths = ends - starts
    good: Mask = (lengths >= 2) & (lengths <= MOST_BYTES) & values.is_valid().to_numpy(zero_copy_only=False)
    if not good.any():
        return good
    data = np.frombuffer(content, np.uint8, bounds[-1])
    if good.all() and _all_flat(data, starts, ends):
        return good

    def spoil(positions: npt.NDArray[np.intp]) -> None:
        if len(positions):
            good[np.searchsorted(starts, positions + bounds[0], "right") - 1] = False

    data = data[bounds[0] :]
    spoil(np.flatnonzero((data < 0x20) | (data == ord("\\")) | (data == ord("["))))
    for brace, expected in ((ord("{"), starts), (ord("}"), ends - 1)):
        found = np.flatnonzero(data == brace) + bounds[0]
        if not np.array_equal(found, expected):
            owners = np.searchsorted(starts, found, "right") - 1
            good &= np.bincount(owners, minlength=count) == 1
            at_its_place = np.zeros(count, np.bool_)
            at_its_place[owners[found == expected[owners]]] = True
            good &= at_its_place
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        spoil(np.flatnonzero(data >= 0x80))
    return good


def _all_flat(data: Bytes, starts: Places, ends: Places) -> bool:
    """Whether all of them are, in ASCII, of which the bytes need to be counted only."""
    count, within = len(starts), data[starts[0] :]
    return bool(
        (data[starts] == ord("{")).all()
        and (data[ends - 1] == ord("}")).all()
        and all(np.count_nonzero(within == ord(brace)) == count for brace in "{}")
        and not any((within == ord(other)).any() for other in "\\[")
        and within.min() >= 0x20
        and within.max() < 0x80
    )


def _read(schema: Sequence[Column], lines: pa.Array) -> pa.Table | None:
    """A row a line, with the schema's columns first; None where lines and rows are not the same in number."""
    fields = {column.name: _read_as(column.type) for column in schema}
    text = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines), b"\n")[0].as_buffer()
    table = pj.read_json(
        pa.BufferReader(text),
        read_options=pj.ReadOptions(use_threads=False, block_size=text.size + 1),
        parse_options=pj.ParseOptions(
            explicit_schema=pa.schema([*{**fields, **_unnamed(lines, fields)}.items()]),
            unexpected_field_behavior="ignore",
        ),
    )
    return table.combine_chunks() if table.num_rows == len(lines) else None


def _unnamed(lines: pa.Array, named: Mapping[str, Any]) -> dict[str, pa.DataType]:
    """The fields of the first lines that the schema does not name: they are read so that they are counted."""
    found: dict[str, pa.DataType] = {}
    for line in lines.slice(0, _SAMPLE).to_pylist():
        try:
            fields = parse_record(line)
        except Dead:
            continue
        for name, value in fields.items():
            plain = name not in named and not _BETWEEN.search(name)
            if plain and type(value) in _UNNAMED and len(found) < _MOST_FIELDS:
                found.setdefault(name, _UNNAMED[type(value)])
    return found


def _not_infinite(array: pa.Array) -> Mask:
    """Where a number that nobody asked for is one: Arrow takes NaN and Infinity too, which are no JSON."""
    if not pa.types.is_floating(array.type):
        return np.ones(len(array), np.bool_)
    finite: Mask = pc.fill_null(pc.is_finite(array), True).to_numpy(zero_copy_only=False)
    return finite


def _room_for_no_more(lines: pa.Array, table: pa.Table) -> Mask:
    """The second rule. What Arrow found in a record has its quotes there: none has fewer, and in all there are as many
    where each has as many."""
    if not any(column.null_count for column in table.columns):
        weights = sum(4 if pa.types.is_string(column.type) else 2 for column in table.columns)
        if np.count_nonzero(_bytes_of(lines) == ord('"')) == weights * len(lines):
            return np.ones(len(lines), np.bool_)
    quotes = pc.count_substring(lines, '"').to_numpy().astype(np.int64)
    once: Mask = np.ones(len(lines), np.bool_)
    for name, column in zip(table.column_names, table.columns, strict=True):
        weight = 4 if pa.types.is_string(column.type) else 2
        if not column.null_count:
            quotes -= weight
            continue
        missing = column.is_null().to_numpy()
        places = np.flatnonzero(missing)
        standing = pc.count_substring(lines.take(pa.array(places)), f'"{name}":').to_numpy()
        quotes -= np.where(missing, 0, weight)
        quotes[places] -= 2 * standing
        once[places] &= standing <= 1
    once &= quotes == 0
    return once


def _bytes_of(lines: pa.Array) -> Bytes:
    """The bytes of all lines, none of which is null."""
    _, places, content = lines.buffers()
    bounds = np.frombuffer(places, np.int32, len(lines) + 1, lines.offset * 4)
    return np.frombuffer(content, np.uint8, bounds[-1])[bounds[0] :]


def _without_exponents(schema: Sequence[Column], lines: pa.Array) -> Mask:
    """Where no decimal is written with an exponent: Arrow makes 0 of 1e-999, and some other number of 1e999."""
    right: Mask = np.ones(len(lines), np.bool_)
    for column in schema:
        if column.type.is_decimal:
            found = pc.match_substring_regex(lines, f'"{column.name}" *: *-?[0-9.]*[eE]')
            right &= ~found.to_numpy(zero_copy_only=False)
    return right


def _read_as(kind: ColumnType) -> pa.DataType:
    """What Arrow reads a column as; `_fitting` brings it into its own type.

    Raises ArrowInvalid for a decimal of whose digits none may be whole. A number of at most 38 - s digits cannot
    overflow when Arrow, unchecked, multiplies it by 10 to the power of s.
    """
    if kind.is_decimal:
        if kind.scale > 37:
            raise pa.ArrowInvalid("no room for a digit")
        return pa.decimal128(38 - kind.scale, kind.scale)
    if kind.name in _TEXTS:
        return pa.string()
    return pa.bool_() if kind.name == "boolean" else pa.float64() if kind.is_floating else pa.int64()


def _fitting(column: Column, array: pa.Array) -> tuple[pa.Array, Mask]:
    """The third rule: the column in its own type, and which of its values lie inside it (null does)."""
    kind = column.type
    convert_to = _FITTING.get(kind.name)
    array, fits = convert_to(column, array) if convert_to else (array, None)
    if fits is None:
        return array, np.ones(len(array), np.bool_)
    return array, pc.fill_null(fits, True).to_numpy(zero_copy_only=False)


Fitted = tuple[pa.Array, "pa.Array | None"]


def _integers(column: Column, array: pa.Array) -> Fitted:
    limit = INTEGER_RANGES[column.type.name]
    if limit == 2**63:
        return array, None
    inside = pc.and_(pc.greater_equal(array, -limit), pc.less(array, limit))
    return array.cast(arrow_type(column.type), safe=False), inside


def _floats(column: Column, array: pa.Array) -> Fitted:
    kind = arrow_type(column.type)
    numbers = pc.add(array.cast(kind, safe=False), pa.scalar(0.0, kind))  # a float may become -0.0 as it is cast
    return numbers, pc.is_finite(numbers)


def _decimals(column: Column, array: pa.Array) -> Fitted:
    kind, limit = column.type, 10 ** (column.type.precision - column.type.scale)
    if array.type == arrow_type(kind):  # or a cast would look at nothing
        array = array.cast(pa.decimal128(38, kind.scale))
    try:
        return array.cast(arrow_type(kind)), None
    except pa.ArrowInvalid:
        fits = [value is None or abs(value) < limit for value in array.to_pylist()]
        inside = pa.array(fits, pa.bool_())
        return pc.if_else(inside, array, pa.scalar(None, array.type)).cast(arrow_type(kind)), inside


def _times(column: Column, array: pa.Array) -> Fitted:
    plain = plain_times(array)
    if pc.all(plain).as_py() is False:
        array = pc.if_else(plain, array, pa.scalar(None, array.type))
    return times_of(array), plain


def _one_by_one(column: Column, array: pa.Array) -> Fitted:
    found: list[Any] = []
    fits: list[bool] = []
    for value in array.to_pylist():
        try:
            found.append(convert(column, value))
            fits.append(True)
        except Dead:
            found.append(None)
            fits.append(False)
    return pa.array(found, arrow_type(column.type)), pa.array(fits, pa.bool_())


_FITTING: Mapping[str, Callable[[Column, pa.Array], Fitted]] = {
    **dict.fromkeys(INTEGER_RANGES, _integers),
    "float": _floats,
    "double": _floats,
    "decimal": _decimals,
    "timestamp": _times,
    "date": _one_by_one,
    "binary": _one_by_one,
}
