"""A first catalog for the user's own events: a source with their columns, and two views."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from tideline.errors import UsageError
from tideline.types import Column, parse_type

_TYPES = {
    "BIGINT": "bigint",
    "INTEGER": "bigint",
    "HUGEINT": "string",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamp",
}
_ROWS = 20_000  # of a file that are looked at
_DECODED = 5_000  # of these that are decoded
_FEW = 60  # so many different values still make a column to group by
_ID = re.compile(r"(.*_)?(id|uuid|guid|key|no|nbr|number|code)|.*[a-z](Id|ID|Uuid|UUID|No|Nbr|Number|Code)")
ROW_ID = "row_id"


@dataclass(frozen=True)
class Inferred:
    """The columns of some events as `name: type`, and what they could be used for.

    `event_id` identifies an event, `event_time` says when it happened, None where no column does; `key` is a column to
    group by, `numbers` are what can be summed. `bucket` is a length of time that fits, as a catalog spells it.
    """

    columns: dict[str, str]
    event_id: str | None
    event_time: str | None
    key: str | None
    numbers: tuple[str, ...]
    bucket: str = "minutes(1)"


def infer(file: Path) -> Inferred:
    """The columns of the first 20,000 rows of a CSV or JSON-lines file (.gz too). Raises UsageError.

    CSV cells without a plain number stay text, as `tideline produce` sends them; times are recognised where the decoder
    takes them (docs/decoding.md). Types are such that none of the first 5,000 rows is a dead letter for them.
    """
    import duckdb

    if not file.is_file():
        raise UsageError("NO_FILE", f"there is no file {file}", "name a CSV or JSON-lines file", path=str(file))
    is_json = any(suffix in (".json", ".jsonl", ".ndjson") for suffix in file.suffixes)
    reader = "read_json" if is_json else "read_csv"
    options = f", sample_size = {_ROWS}" + ("" if is_json else ", header = true")
    with duckdb.connect() as connection:
        try:
            path = "'" + str(file).replace("'", "''") + "'"
            connection.execute(f"create view sample as select * from {reader}({path}{options}) limit {_ROWS}")
            described = connection.execute("describe sample").fetchall()
            guessed = {str(name): _TYPES.get(str(kind), "string") for name, kind, *_ in described if _is_name(name)}
            columns = _accepted(file, guessed)
            counted = ", ".join(f'count(distinct "{name}"), count("{name}")' for name in columns)
            counts = connection.execute(f"select count(*), {counted} from sample").fetchone() or ()
            times = [name for name, kind in columns.items() if kind == "timestamp"]
            time = next((name for name in times if counts[2 * list(columns).index(name) + 2] == counts[0]), None)
            span = f'select date_diff(\'hour\', min("{time}"), max("{time}")) from sample'
            hours = (connection.execute(span).fetchone() or (0,))[0] if time else 0
        except duckdb.Error as error:
            raise UsageError(
                "UNREADABLE_FILE",
                f"{file} cannot be read: {str(error).splitlines()[0]}",
                "name a CSV file with a header, or JSON lines",
                path=str(file),
            ) from error
    rows, distinct, filled = counts[0], counts[1::2], counts[2::2]
    if not rows or not columns:
        raise UsageError("NO_EVENTS", f"{file} has no rows with columns", "name one that has", path=str(file))
    different = dict(zip(columns, distinct, strict=True))
    ids = [
        name
        for name, kind, some, of in zip(columns, columns.values(), distinct, filled, strict=True)
        if kind in ("string", "bigint") and some == of == rows and _ID.fullmatch(name)
    ]
    keys = [
        name
        for name, kind in columns.items()
        if kind in ("string", "boolean") and name not in ids and 1 < different[name] <= _FEW
    ]
    keys.sort(key=lambda name: -different[name])
    numbers = [n for n, kind in columns.items() if kind in ("bigint", "double") and not _ID.fullmatch(n)]
    numbers.sort(key=lambda name: -different[name])
    bucket = "days(1)" if hours > 24 * 60 else "hours(1)" if hours > 48 else "minutes(1)"
    return Inferred(columns, ids[0] if ids else None, time, keys[0] if keys else None, tuple(numbers[:3]), bucket)


def _accepted(file: Path, guessed: dict[str, str]) -> dict[str, str]:
    """The columns with types that take what `tideline produce` makes of the file's values: the guessed ones, else text.

    A column whose values are no text either, such as objects, is left out: events would be dead letters for it.
    """
    refused = _refused(file, guessed)
    columns = {name: "string" if name in refused else kind for name, kind in guessed.items()}
    no_text = _refused(file, {name: columns[name] for name in refused}) if refused else set()
    return {name: kind for name, kind in columns.items() if name not in no_text}


def _refused(file: Path, types: dict[str, str]) -> set[str]:
    """The columns of which the decoder refuses a value."""
    from tideline.decode_record import Dead, convert, parse_record
    from tideline.eventfiles import EventFile

    columns = [Column(name, parse_type(kind)) for name, kind in types.items()]
    refused: set[str] = set()
    for event in EventFile(file, columns, limit=_DECODED):
        with contextlib.suppress(Dead):  # such a line is no event, whatever its columns are
            fields = parse_record(event.value)
            for column in columns:
                try:
                    convert(column, fields.get(column.name))
                except Dead:
                    refused.add(column.name)
    return refused


def catalog_text(found: Inferred, source: str, topic: str | None = None, numbered: bool = False) -> str:
    """A catalog with the source and two views: `rate` in time, and `totals` by a column. `numbered`: events get the
    number of their row as an id, where they have none."""
    bucket = found.bucket if found.event_time else "minutes(1)"
    event_id = found.event_id or (ROW_ID if numbered else None)
    columns = {**found.columns, **({ROW_ID: "string"} if event_id == ROW_ID else {})}
    name = source.replace("-", "_")
    schema = "\n".join(f'        "{column} {kind}, "' for column, kind in columns.items()).removesuffix(', "') + '"'
    options = [
        f'event_time="{found.event_time or "_timestamp"}"',
        *([f'event_id="{event_id}"'] if event_id else []),
        *([f'topic="{topic}"'] if topic and topic != source else []),
    ]
    first = found.numbers[0] if found.numbers else None
    spread = [f'"{first}": Quantiles("{first}", at=[0.25, 0.5, 0.75, 0.99])'] if first else []
    sums = [f'"{one}_{kind.lower()}": {kind}("{one}")' for one in found.numbers for kind in ("Sum", "Max")]
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
    measures={_measures(spread)},
)

totals = View(
    "totals",
    source={name},{key}
    measures={_measures(sums)},
)
'''


def _measures(more: list[str]) -> str:
    lines = "".join(f"        {one},\n" for one in ('"events": Count()', *more))
    return f"{{\n{lines}    }}"


def _is_name(name: object) -> bool:
    return str(name).isidentifier() and str(name).isascii()
