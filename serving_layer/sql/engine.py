"""A statement of DuckDB's SQL over merged views, of one snapshot; it can read them, and nothing else."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.sql.errors import MOST_BYTES, MOST_ROWS, SqlError, SqlTimeout
from serving_layer.sql.functions import define_functions, wants_states
from serving_layer.sql.tables import TableCache, ViewTables

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 10_000
_CONFIG: Mapping[str, str] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "memory_limit": "512MB",
    "max_temp_directory_size": "0KB",
    "temp_directory": "",
    "secret_directory": "none",
    "threads": "2",
}
# DuckDB lets a statement at its own file and at its folder for what does not fit in memory, whatever it is told of
# access from outside; so no statement has files at all.
_LOCKED = "SET TimeZone = 'UTC'; SET disabled_filesystems = 'LocalFileSystem'; SET lock_configuration = true"


@dataclass(frozen=True)
class Answer:
    """The rows of a statement, and what proves each view that it names."""

    table: pa.Table
    proofs: Mapping[str, Any]


class SqlEngine:
    """Answers statements over a reader's views. For one thread."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._cache = TableCache()

    def run(
        self, sql: str, rows: int = MOST_ROWS, seconds: float = 30.0, parts: Mapping[str, Any] | None = None
    ) -> Answer:
        """The answer to one statement, of at most so many rows.

        With `parts` there are only those views, whole where it has None, else what the query of these fields asks.
        Raises SqlError, SqlTimeout, and as a query does.
        """
        known = [name for name in self._reader.views() if parts is None or name in parts]
        asked = {name: Query.from_json(fields) for name, fields in (parts or {}).items() if fields is not None}
        words = {word.lower() for word in re.findall(r"\w+", sql)}
        named, states = [name for name in known if _may_name(sql, name)], wants_states(words)
        tables = self._reader.tables(named, self._cache, asked, states)
        with duckdb.connect(":memory:", config=dict(_CONFIG)) as database:
            for name, table in tables.items():
                _define(database, name, table)
            define_functions(database, {name: m for table in tables.values() for name, m in table.measures.items()})
            database.execute(_LOCKED)
            with _bounded(database, seconds) as late, _refused(known, late, seconds):
                table = _answer(database, _statement(sql), rows)
        return Answer(table, {name: table.proof for name, table in tables.items()})


def _may_name(sql: str, view: str) -> bool:
    """Whether a view's name stands anywhere in a statement, as an identifier or within other text."""
    return re.search(rf"(?<!\w){re.escape(view)}(?!\w)", sql, re.IGNORECASE) is not None


def _statement(sql: str) -> duckdb.Statement:
    found = duckdb.extract_statements(sql)
    if len(found) != 1:
        raise SqlError("SQL_NOT_A_QUERY", kind=f"{len(found)} statements")
    if found[0].type != duckdb.StatementType.SELECT:  # also not EXPLAIN, which may execute what it explains
        raise SqlError("SQL_NOT_A_QUERY", kind=found[0].type.name)
    return found[0]


def _define(database: duckdb.DuckDBPyConnection, name: str, tables: ViewTables) -> None:
    """A view over the tables: null is a value of a key like any other."""
    for part in ("settled", "touched", "fresh"):
        database.register(f"{name}.{part}", getattr(tables, part))
    settled, touched, fresh = (_quoted(f"{name}.{part}") for part in ("settled", "touched", "fresh"))
    same = " AND ".join(f"s.{_quoted(key)} IS NOT DISTINCT FROM t.{_quoted(key)}" for key in tables.keys) or "true"
    rest = f"SELECT s.* FROM {settled} s ANTI JOIN {touched} t ON {same}"
    database.execute(f"CREATE VIEW {_quoted(name)} AS {rest} UNION ALL BY NAME SELECT * FROM {fresh}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _answer(database: duckdb.DuckDBPyConnection, statement: duckdb.Statement, rows: int) -> pa.Table:
    import pyarrow as pa

    found: Any = database.sql(statement.query)
    if found is None:
        raise SqlError("SQL_NOT_A_QUERY", kind=statement.type.name)
    read = found.to_arrow_reader if hasattr(found, "to_arrow_reader") else found.fetch_arrow_reader  # before DuckDB 1.5
    reader = read(_BATCH)
    batches, count, size = [], 0, 0
    for batch in reader:
        batches.append(batch)
        count, size = count + len(batch), size + batch.nbytes
        if count > rows:
            raise SqlError("SQL_TOO_LARGE", limit=rows, what="rows")
        if size > MOST_BYTES:
            raise SqlError("SQL_TOO_LARGE", limit=MOST_BYTES, what="bytes")
    return pa.Table.from_batches(batches, reader.schema)


@contextmanager
def _bounded(database: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[threading.Event]:
    """Interrupts what still runs after so many seconds, and says so."""
    late = threading.Event()

    def interrupt() -> None:
        late.set()
        database.interrupt()

    timer = threading.Timer(seconds, interrupt)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


@contextmanager
def _refused(known: list[str], late: threading.Event, seconds: float) -> Iterator[None]:
    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise SqlTimeout("SQL_ENDED") from error
    except duckdb.Error as error:
        if late.is_set():
            raise SqlTimeout("SQL_TIMEOUT", seconds=seconds) from error
        raise SqlError("BAD_SQL", reason=str(error).splitlines()[0][:300], known=known) from None
