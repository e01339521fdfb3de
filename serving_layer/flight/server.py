"""A Flight SQL server over the statements of `serving_layer.sql`: the same views, bounds and lock as over HTTP."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
from pyarrow import flight

from serving_layer.flight.info import info_table
from serving_layer.flight.messages import pack, unpack
from serving_layer.lock.gate import Lock, Who
from serving_layer.lock.roles import EVERYTHING, READ, Forbidden
from serving_layer.lock.scope import allowed_view, sql_scope
from serving_layer.reader import Reader
from serving_layer.responses import without_records
from serving_layer.sql.errors import MOST_ROWS, SqlTimeout
from serving_layer.sql.process import SECONDS, SqlProcess
from tideline.errors import EXIT_USAGE, TidelineError

KEPT, KEPT_FOR = 8, 60.0  # answers of one caller that wait to be fetched, and seconds for which they do
STATEMENTS, MOST_TEXT = 100, 1 << 20  # prepared statements of one caller, and letters of one
_MOST_PATTERN = 1_000
_AUTHORIZATION = "authorization"
CATALOG, SCHEMA = "memory", "main"
"""Where DuckDB has the views, so that their full names are names in a statement."""
_SCHEMAS = {
    "CommandGetCatalogs": pa.schema([pa.field("catalog_name", pa.string(), False)]),
    "CommandGetDbSchemas": pa.schema(
        [pa.field("catalog_name", pa.string()), pa.field("db_schema_name", pa.string(), False)]
    ),
    "CommandGetTableTypes": pa.schema([pa.field("table_type", pa.string(), False)]),
    "CommandGetTables": pa.schema(
        [
            pa.field("catalog_name", pa.string()),
            pa.field("db_schema_name", pa.string()),
            pa.field("table_name", pa.string(), False),
            pa.field("table_type", pa.string(), False),
        ]
    ),
    "CommandGetPrimaryKeys": pa.schema(
        [
            pa.field("catalog_name", pa.string()),
            pa.field("db_schema_name", pa.string()),
            pa.field("table_name", pa.string(), False),
            pa.field("column_name", pa.string(), False),
            pa.field("key_name", pa.string()),
            pa.field("key_sequence", pa.int32(), False),
        ]
    ),
}
_WITH_SCHEMA = pa.field("table_schema", pa.binary(), False)


class _Handshake(flight.ServerAuthHandler):  # type: ignore[misc]
    """Drivers with a user and a password begin with a call of its own, which `_Callers` has looked at already."""

    def authenticate(self, outgoing: Any, incoming: Any) -> None:
        """Nothing more to do."""

    def is_valid(self, token: bytes) -> str:
        return ""


class _Caller(flight.ServerMiddleware):  # type: ignore[misc]
    """Who calls, as the headers of the call say."""

    def __init__(self, who: Who, answered: Mapping[str, str]) -> None:
        self.who = who
        self._answered = answered

    def sending_headers(self) -> Mapping[str, str]:
        return self._answered


class _Callers(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Lets in whom the lock lets in. A driver that has a user and a password shows a token as the password."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def start_call(self, info: Any, headers: Mapping[str, list[str]]) -> _Caller:
        if self._lock.is_open:
            return _Caller((EVERYTHING, ""), {})
        given = next((values[0] for name, values in headers.items() if name.lower() == _AUTHORIZATION and values), "")
        kind, _, credential = given.partition(" ")
        if kind.lower() == "basic":
            try:
                padded = credential + "=" * (-len(credential) % 4)  # some drivers leave it out
                credential = base64.b64decode(padded).decode("utf-8").partition(":")[2]
            except ValueError:
                credential = ""
        found = self._lock.find_here(credential.strip()) if kind.lower() in ("bearer", "basic") else None
        if found is None:
            raise flight.FlightUnauthenticatedError("a token is needed; tideline token create makes one")
        wait = self._lock.limits.ask(found[1])
        if wait:
            raise flight.FlightUnavailableError(f"too many requests; ask again in {wait:.0f} s")
        return _Caller(found, {_AUTHORIZATION: f"Bearer {credential.strip()}"} if kind.lower() == "basic" else {})


class FlightSqlServer(flight.FlightServerBase):  # type: ignore[misc]
    """Answers statements; reads nothing but views. `serve` runs until `shutdown`."""

    def __init__(
        self,
        reader: Reader,
        process: SqlProcess,
        lock: Lock,
        host: str,
        port: int,
        tls: tuple[bytes, bytes] | None = None,
    ) -> None:
        name = f"[{host}]" if ":" in host else host
        location = f"grpc{'+tls' if tls else ''}://{name}:{port}"
        certificates = [flight.CertKeyPair(*tls)] if tls else None
        callers = {"caller": _Callers(lock)}
        super().__init__(location, _Handshake(), tls_certificates=certificates, middleware=callers)
        self._reader, self._process, self._lock = reader, process, lock
        self._answers: OrderedDict[bytes, tuple[float, str, pa.Table]] = OrderedDict()
        self._statements: OrderedDict[bytes, tuple[str, str]] = OrderedDict()
        self._guard = threading.Lock()

    # What pyarrow calls, in threads of its own.

    def get_flight_info(self, context: Any, descriptor: Any) -> Any:
        return self._told(context, lambda: self._flight_info(context, descriptor))

    def get_schema(self, context: Any, descriptor: Any) -> Any:
        return self._told(
            context, lambda: flight.SchemaResult(self._table(context, *unpack(descriptor.command)).schema)
        )

    def do_get(self, context: Any, ticket: Any) -> Any:
        return self._told(context, lambda: flight.RecordBatchStream(self._fetched(context, ticket.ticket)))

    def do_action(self, context: Any, action: Any) -> Iterator[Any]:
        return iter(self._told(context, lambda: self._done(context, action)))

    def list_actions(self, context: Any) -> list[tuple[str, str]]:
        return [("CreatePreparedStatement", ""), ("ClosePreparedStatement", "")]

    # What they do.

    def _flight_info(self, context: Any, descriptor: Any) -> Any:
        name, message = unpack(descriptor.command)
        table = self._table(context, name, message)
        handle = self._keep(self._who(context)[1], table)
        ticket = flight.Ticket(pack("TicketStatementQuery", statement_handle=handle))
        endpoint = flight.FlightEndpoint(ticket, [])
        return flight.FlightInfo(table.schema, descriptor, [endpoint], len(table), table.nbytes)

    def _fetched(self, context: Any, ticket: bytes) -> pa.Table:
        _, message = unpack(ticket)
        who = self._who(context)[1]
        with self._guard:
            _, owner, table = self._answers.pop(message.statement_handle, (0.0, None, None))
        if table is None or owner != who:
            raise ValueError("this answer was fetched already, or waited too long")
        self._lock.limits.took(who, table.nbytes)
        return table

    def _done(self, context: Any, action: Any) -> list[bytes]:
        self._who(context)[0].check(READ)
        _, message = unpack(action.body.to_pybytes())
        if action.type == "ClosePreparedStatement":
            with self._guard:
                owner, _ = self._statements.get(message.prepared_statement_handle, ("", ""))
                if owner == self._who(context)[1]:
                    self._statements.pop(message.prepared_statement_handle, None)
            return []
        if action.type != "CreatePreparedStatement":
            raise pa.ArrowNotImplementedError(f"there is no action {action.type[:100]}")
        schema = self._ask(context, message.query, 0).schema
        handle = uuid.uuid4().bytes
        who = self._who(context)[1]
        with self._guard:
            self._statements[handle] = who, message.query
            mine = [one for one, (owner, _) in self._statements.items() if owner == who]
            if len(mine) > STATEMENTS:
                del self._statements[mine[0]]
        result = {"prepared_statement_handle": handle, "dataset_schema": schema.serialize().to_pybytes()}
        return [pack("ActionCreatePreparedStatementResult", **result)]

    def _keep(self, who: str, table: pa.Table) -> bytes:
        handle, now = uuid.uuid4().bytes, time.monotonic()
        with self._guard:
            self._answers[handle] = (now, who, table)
            mine = [one for one, (_, owner, _) in self._answers.items() if owner == who]
            old = [one for one, (at, _, _) in self._answers.items() if at < now - KEPT_FOR]
            for one in {*mine[:-KEPT], *old}:
                del self._answers[one]
        return handle

    def _table(self, context: Any, name: str, message: Any) -> pa.Table:
        """What a command answers."""
        if name == "CommandStatementQuery":
            return self._ask(context, message.query)
        if name == "CommandPreparedStatementQuery":
            with self._guard:
                owner, query = self._statements.get(message.prepared_statement_handle, ("", None))
            if query is None or owner != self._who(context)[1]:
                raise ValueError("this statement was closed")
            return self._ask(context, query)
        self._who(context)[0].check(READ)
        if name == "CommandGetSqlInfo":
            return info_table(list(message.info))
        if name == "CommandGetTables":
            return self._tables(context, message)
        if name == "CommandGetPrimaryKeys":
            return self._keys(context, message.table)
        if name not in _SCHEMAS:
            raise pa.ArrowNotImplementedError(f"{name} is not answered here")
        rows = {
            "CommandGetTableTypes": {"table_type": "VIEW"},
            "CommandGetCatalogs": {"catalog_name": CATALOG},
            "CommandGetDbSchemas": {"catalog_name": CATALOG, "db_schema_name": SCHEMA},
        }
        found = [rows[name]] if name != "CommandGetDbSchemas" or _is_here(message) else []
        return pa.Table.from_pylist(found, schema=_SCHEMAS[name])

    def _ask(self, context: Any, sql: str, rows: int | None = None) -> pa.Table:
        """A statement's answer, of which no row is wanted with `rows` 0."""
        if len(sql) > MOST_TEXT:
            raise ValueError(f"the statement has more than {MOST_TEXT} letters")
        role, who = self._who(context)
        parts = sql_scope(self._reader, role)
        asked = f"SELECT * FROM ({sql.strip().rstrip(';')}) LIMIT 0" if rows == 0 else sql
        _, stream = self._process.ask(asked, MOST_ROWS, SECONDS, parts, who=who)
        return pa.ipc.open_stream(stream).read_all()

    def _views(self, context: Any) -> list[str]:
        role = self._who(context)[0]
        scope = sql_scope(self._reader, role)
        return [name for name in self._reader.views() if scope is None or name in scope]

    def _tables(self, context: Any, message: Any) -> pa.Table:
        schema = _SCHEMAS["CommandGetTables"]
        pattern = message.table_name_filter_pattern if message.HasField("table_name_filter_pattern") else "%"
        names = [name for name in self._views(context) if _like(pattern, name)]
        names = names if _is_here(message) else []
        if message.table_types and "VIEW" not in message.table_types:
            names = []
        place = {"catalog_name": CATALOG, "db_schema_name": SCHEMA}
        rows: list[dict[str, Any]] = [{**place, "table_name": name, "table_type": "VIEW"} for name in names]
        if message.include_schema:
            schema = schema.append(_WITH_SCHEMA)
            for row in rows:
                quoted = row["table_name"].replace('"', '""')
                row["table_schema"] = self._ask(context, f'SELECT * FROM "{quoted}"', 0).schema.serialize().to_pybytes()
        return pa.Table.from_pylist(rows, schema=schema)

    def _keys(self, context: Any, view: str) -> pa.Table:
        seen = view in self._views(context)
        found = allowed_view(self._reader, self._who(context)[0], view) if seen else {"key": [], "bucket": None}
        names = [column["name"] for column in found["key"]] + (["bucket"] if found["bucket"] else [])
        place = {"catalog_name": CATALOG, "db_schema_name": SCHEMA, "table_name": view}
        rows = [{**place, "column_name": name, "key_sequence": number} for number, name in enumerate(names, 1)]
        return pa.Table.from_pylist(rows, schema=_SCHEMAS["CommandGetPrimaryKeys"])

    def _who(self, context: Any) -> Who:
        caller: _Caller = context.get_middleware("caller")
        return caller.who

    def _told(self, context: Any, work: Callable[[], Any]) -> Any:
        """What `work` gives, its errors as Flight's, which tell a driver what it needs to know."""
        try:
            return work()
        except Forbidden as error:
            raise flight.FlightUnauthorizedError(str(error)) from None
        except SqlTimeout as error:
            raise flight.FlightTimedOutError(str(error)) from None
        except TidelineError as error:
            told = str(error if self._who(context)[0].is_unbounded else without_records(error))
            if error.exit_code == EXIT_USAGE:
                raise pa.ArrowInvalid(told) from None
            raise flight.FlightUnavailableError(told) from None
        except ValueError as error:
            raise pa.ArrowInvalid(str(error)) from None


def _is_here(message: Any) -> bool:
    """Whether the catalog and the schema that a message looks in are those that there are."""
    schema = message.db_schema_filter_pattern if message.HasField("db_schema_filter_pattern") else "%"
    return (not message.HasField("catalog") or message.catalog == CATALOG) and _like(schema, SCHEMA)


def _like(pattern: str, text: str) -> bool:
    """Whether a text is like a pattern of SQL's; no pattern takes long."""
    special = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return len(pattern) <= _MOST_PATTERN and fnmatchcase(text, "".join(special.get(one, one) for one in pattern))
