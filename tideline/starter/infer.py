"""A first catalog for the user's own events: a source with their columns, and two views."""

from __future__ import annotations

import datetime as dt
import json
import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import tideline
from tideline.decode_record import Number, decode_column
from tideline.errors import UsageError
from tideline.starter.sample import Sample, read_sample
from tideline.types import EPOCH, MICROSECOND, STRING, Column, parse_type

_TRIED = (
    *(("bigint", "bigint"), ("bigint", "double"), ("boolean", "boolean")),
    *(("string", "timestamp"), ("string", "date"), ("string", "string")),
)
"""Types in the order in which they are tried, each over what is sent of a column that is declared as the first."""
_COLUMNS = 500  # that are looked at
_FEW = 60  # so many different values still make a column to group by
_ID = re.compile(r"(.*_)?(id|uuid|guid|key|no|nbr|number|code)|.*[a-z](Id|ID|Uuid|UUID|No|Nbr|Number|Code)")
_AHEAD = dt.timedelta(days=1)  # a source's `max_ahead`
RESERVED = frozenset({"bucket", "segment", "window", "parts"})
"""Names that no key and no measure may have (tideline/spark/resolve.py)."""
WORDS = frozenset({"select", "over", "null", "true", "false", "current_path"})
"""Names of columns that mean something else in an expression, unless they stand in backticks."""
ROW_ID = "row_id"


@dataclass(frozen=True)
class Inferred:
    """The columns of some events as `name: type`, and what they could be used for.

    `event_id` identifies an event, `event_time` says when it happened, None where no column does; `key` is a column to
    group by, `numbers` are what can be summed. `bucket` is a length of time that fits, as a catalog spells it. `row_id`
    is a name for the number of a row, which no field has. `notes` say in a line each what was left out and why.
    """

    columns: dict[str, str]
    event_id: str | None
    event_time: str | None
    key: str | None
    numbers: tuple[str, ...]
    bucket: str = "minutes(1)"
    row_id: str = ROW_ID
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> str:
        """What the views call the number of events."""
        return _free("events", self.columns)


def infer(file: Path) -> Inferred:
    """The columns of the first 20,000 rows of a CSV or JSON-lines file (.gz too). Raises UsageError.

    Types are such that the decoder (docs/decoding.md) takes every value of these rows as `tideline produce` sends it.
    """
    sample = read_sample(file)
    names, notes = _names(sample.names)
    found = _typed(file, sample, names)
    rows = len(sample.rows)
    notes += [
        f"{name!r} is left out: no type takes all its values, such as {_no_text(name, sample.rows)}"
        for name in names
        if name not in found
    ]
    columns = {name: found[name][0] for name in names if name in found}
    if not columns:
        text, hint = f"{file} has no column that a source can have", "; ".join(notes) or "name a file that has one"
        raise UsageError("NO_EVENTS", text, hint, path=str(file))
    different = {name: pc.count_distinct(found[name][1], "only_valid").as_py() for name in columns}
    filled = {name for name in columns if not found[name][1].null_count}
    spans = {name: _span(found[name][1]) for name in columns if columns[name] == "timestamp" and name in filled}
    past = [name for name, (_, end) in spans.items() if end < dt.datetime.now(dt.timezone.utc) + _AHEAD]
    notes += [f"{name!r} is not the events' time: some are to come" for name in spans if not past]
    begin, end = spans[past[0]] if past else (EPOCH, EPOCH)
    ids = [
        name
        for name, kind in columns.items()
        if kind in ("string", "bigint") and name in filled and different[name] == rows and _ID.fullmatch(name)
    ]
    keys = [
        name
        for name, kind in columns.items()
        if kind in ("string", "boolean")
        and name not in ids
        and 1 < different[name] <= _FEW
        and name.lower() not in RESERVED | WORDS
    ]
    keys.sort(key=lambda name: -different[name])
    numbers = [n for n, kind in columns.items() if kind in ("bigint", "double") and not _ID.fullmatch(n)]
    numbers.sort(key=lambda name: -different[name])
    span = end - begin
    return Inferred(
        columns,
        ids[0] if ids else None,
        past[0] if past else None,
        keys[0] if keys else None,
        tuple(numbers[:3]),
        f"{'days' if span.days > 60 else 'hours' if span.days > 1 else 'minutes'}(1)",
        _free(ROW_ID, sample.names),
        (*sample.note, *notes),
    )


def _names(names: list[str]) -> tuple[list[str], list[str]]:
    """Those that a schema can have, and a note on each other."""
    taken: dict[str, str] = {}
    notes = []
    for name in names[:_COLUMNS]:
        other = taken.get(name.lower())
        if not name.isidentifier() or not name.isascii():
            notes.append(f"{name!r} is left out: a name has letters from a to z, digits and _, and no digit first")
        elif name.startswith("_"):
            notes.append(f"{name!r} is left out: names that start with _ are Tideline's own")
        elif other:
            notes.append(f"{name!r} is left out: {other!r} differs from it by capitals only")
        else:
            taken[name.lower()] = name
    if len(names) > _COLUMNS:
        notes.append(f"{len(names) - _COLUMNS} more columns are left out: {_COLUMNS} are looked at")
    return list(taken.values()), notes


def _typed(file: Path, texts: Sample, names: list[str]) -> dict[str, tuple[str, pa.Array]]:
    """Each column's type and values; columns that no type fits are missing."""
    found: dict[str, tuple[str, pa.Array]] = {}
    sent: dict[str, list[dict[str, Any]]] = {"string": texts.rows}
    for declared, kind in _TRIED:
        left = [name for name in names if name not in found]
        if declared not in sent:
            as_declared = [Column(name, parse_type(declared)) for name in left]
            sent[declared] = read_sample(file, as_declared, most=len(texts.rows)).rows
        for name in left:
            values = _decoded(Column(name, parse_type(kind)), sent[declared])
            if values is not None:
                found[name] = kind, values
    return found


def _decoded(column: Column, rows: list[dict[str, Any]]) -> pa.Array | None:
    """The column's values; None where the decoder refuses one, or where they speak for another type."""
    if column.type.name == "double" and not any(type(row.get(column.name)) is Number for row in rows):
        return None  # whole numbers beyond bigint would lose digits
    for some in (rows[:100], rows):
        reasons: list[str | None] = [None] * len(some)
        values = decode_column(column, some, reasons)
        if any(reasons):
            return None
    return None if values.null_count == len(rows) and column.type.name != "string" else values


def _no_text(name: str, rows: list[dict[str, Any]]) -> str:
    """The first value that is no text either, as JSON."""
    reasons: list[str | None] = [None] * len(rows)
    decode_column(Column(name, STRING), rows, reasons)
    value = next(row[name] for row, reason in zip(rows, reasons, strict=True) if reason)
    return str(value) if type(value) is Number else json.dumps(value)[:60]


def _span(times: pa.Array) -> tuple[dt.datetime, dt.datetime]:
    first, last = (value.as_py() for value in pc.min_max(times.cast(pa.int64())).values())
    return EPOCH + first * MICROSECOND, EPOCH + last * MICROSECOND


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, or with a number behind it the first that is not taken, be it in other capitals."""
    used, number, free = {one.lower() for one in taken}, 1, name
    while free.lower() in used:
        number += 1
        free = f"{name}_{number}"
    return free


def catalog_text(found: Inferred, source: str, topic: str | None = None, numbered: bool = False) -> str:
    """A catalog with the source and two views: `rate` in time, and `totals` by a column. `numbered`: events get the
    number of their row as an id, where they have none."""
    bucket = found.bucket if found.event_time else "minutes(1)"
    event_id = found.event_id or (found.row_id if numbered else None)
    columns = {**found.columns, **({found.row_id: "string"} if event_id == found.row_id else {})}
    name = source.replace("-", "_")
    if keyword.iskeyword(name) or name in (*tideline.__all__, "rate", "totals"):
        name += "_source"
    schema = "\n".join(f'        "{column} {kind}, "' for column, kind in columns.items()).removesuffix(', "') + '"'
    options = [
        f'event_time="{found.event_time or "_timestamp"}"',
        *([f'event_id="{event_id}"'] if event_id else []),
        *([f'topic="{topic}"'] if topic and topic != source else []),
    ]
    counted = {found.count: "Count()"}
    spread = {
        _free(one, RESERVED): f'Quantiles("{quoted(one)}", at=[0.25, 0.5, 0.75, 0.99])' for one in found.numbers[:1]
    }
    sums = {
        _free(f"{one}_{kind.lower()}", found.columns): f'{kind}("{quoted(one)}")'
        for one in found.numbers
        for kind in ("Sum", "Max")
    }
    names = [
        "Count",
        "Source",
        "View",
        bucket.partition("(")[0],
        *(["Max", "Quantiles", "Sum"] if found.numbers else []),
    ]
    key = f'\n    key="{found.key}",' if found.key else ""
    when = "their own time" if found.event_time else "the time stamps of their records"
    return f'''"""Made from the columns of some events; change it as you like.

Events are placed by {when}{f", and known by their {event_id}" if event_id else "; they have no id, so repeats count"}.
"""

from tideline import {", ".join(sorted(names, key=lambda one: (one[0].islower(), one)))}

{name} = Source(
    "{source}",
    schema=(
{schema}
    ),
    {", ".join(options)},
)

rate = View(
    "rate",
    source={name},
    bucket={bucket},
    measures={_measures({**counted, **spread})},
)

totals = View(
    "totals",
    source={name},{key}
    measures={_measures({**counted, **sums})},
)
'''


def _measures(named: Mapping[str, str]) -> str:
    return "{\n" + "".join(f'        "{name}": {measure},\n' for name, measure in named.items()) + "    }"


def quoted(name: str) -> str:
    """The column in an expression."""
    return f"`{name}`" if name.lower() in WORDS else name
