"""A first catalog for a file of the user's own: a source with its columns, and two views."""

from __future__ import annotations

from pathlib import Path

from tideline.errors import UsageError

_TYPES = {
    "BIGINT": "bigint",
    "INTEGER": "bigint",
    "HUGEINT": "string",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
}
_FEW = 200  # so many different values still make a column to group by


def infer_catalog(file: Path) -> str:
    """The text of a catalog with a source `events` for a CSV or JSON-lines file (.gz too). Raises UsageError.

    CSV cells without a plain number stay text, as `tideline produce` sends them; times are recognised where ISO 8601.
    """
    import duckdb

    if not file.is_file():
        raise UsageError("NO_FILE", f"there is no file {file}", "name a CSV or JSON-lines file", path=str(file))
    is_json = any(suffix in (".json", ".jsonl", ".ndjson") for suffix in file.suffixes)
    reader = "read_json" if is_json else "read_csv"
    options = "" if is_json else ", header = true"
    with duckdb.connect() as connection:
        try:
            connection.execute(
                f"create view sample as select * from {reader}($file{options}) limit 20000".replace(
                    "$file", _quoted(file)
                )
            )
            described = connection.execute("describe sample").fetchall()
            columns = {
                str(name): _TYPES.get(str(kind), "string") for name, kind, *_ in described if str(name).isidentifier()
            }
            counts = connection.execute(
                "select " + ", ".join(f'count(distinct "{name}")' for name in columns) + " from sample"
            ).fetchone()
        except duckdb.Error as error:
            raise UsageError(
                "UNREADABLE_FILE",
                f"{file} cannot be read: {str(error).splitlines()[0]}",
                "name a CSV file with a header, or JSON lines",
                path=str(file),
            ) from error
    distinct = dict(zip(columns, counts or (), strict=True))
    return _catalog(columns, distinct)


def _quoted(file: Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"


def _catalog(columns: dict[str, str], distinct: dict[str, int]) -> str:
    keys = [name for name, kind in columns.items() if kind in ("string", "boolean") and 1 < distinct[name] <= _FEW]
    numbers = [name for name, kind in columns.items() if kind in ("bigint", "double")][:3]
    # A row's place in the file identifies it; its arrival gives the time, for a column of the file may mean anything.
    schema = ", ".join([*(f"{name} {kind}" for name, kind in columns.items()), "row_id string"])
    measures = "".join(f', "{name}_sum": Sum("{name}"), "{name}_max": Max("{name}")' for name in numbers)
    key = f'key="{keys[0]}", ' if keys else ""
    return f'''"""Made from the columns of a file; change it as you like."""

from tideline import Count, Max, Source, Sum, View, minutes

events = Source("events", schema="{schema}", event_id="row_id", event_time="_timestamp")

rate = View("rate", source=events, bucket=minutes(1), measures={{"events": Count()}})

totals = View("totals", source=events, {key}measures={{"events": Count(){measures}}})
'''
