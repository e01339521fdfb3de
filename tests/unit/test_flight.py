"""Flight SQL, asked by Apache Arrow's own driver as notebooks and BI tools do."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_manager
import polars
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions, dbapi
from certificates import make_certificate
from pyarrow import flight
from serving_case import installed

from serving_layer.flight.messages import pack, unpack
from serving_layer.flight.server import MOST_TEXT, _like
from serving_layer.lock.tokens import TokenFile
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.runtime.home import Home
from tideline.stores.lmdb import LmdbStore

ROLES = '[roles.france]\nactions = ["read"]\nviews = ["totals"]\nrows = {country = ["France"]}\nmask = ["returns"]\n'


def connect(url: str, options: dict[str, str] | None = None) -> Any:
    return dbapi.connect(url, db_kwargs=options, autocommit=True)


@contextmanager
def listening(home: Path, config: str = "") -> Iterator[tuple[str, Reader]]:
    """A server in a process of its own: a driver may hold this one's lock while it waits."""
    file = home / "my.toml"
    file.write_text(config, "utf-8")
    options = ("--home", str(home), "--config", str(file), "--port", "auto", "--flight-port", "auto")
    command = [sys.executable, "-m", "tideline.cli.main", "serve", *options]
    place, until = Home(home).prepare(), time.monotonic() + 60
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (place.read_status("serve") or {}).get("ready"):
            assert process.poll() is None
            assert time.monotonic() < until
            threading.Event().wait(0.05)
        with Reader(home) as reader:
            yield str((place.read_status("serve") or {})["flight"]), reader
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flight")
    with LmdbStore.open(folder, create=True) as store:
        installed(store, 300)
    return folder


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[tuple[str, Reader]]:
    with listening(home) as found:
        yield found


@pytest.fixture
def cursor(served: tuple[str, Reader]) -> Iterator[Any]:
    with connect(served[0]) as connection, connection.cursor() as cursor:
        yield cursor


def test_a_statement_answers_what_a_query_answers(cursor: Any, served: tuple[str, Reader]) -> None:
    cursor.execute("SELECT country, lines, revenue FROM totals ORDER BY country")
    found = cursor.fetch_arrow_table()
    asked = served[1].query(Query("totals", measures=["lines", "revenue"], order=["country"])).to_arrow()
    assert found.to_pylist() == asked.to_pylist()
    assert found.schema.field("revenue").type == pa.decimal128(38, 2)
    cursor.execute('SELECT count(*) FROM "memory"."main"."revenue" WHERE country = \'France\'')
    assert cursor.fetchone() == (len(served[1].query(Query("revenue", {"country": "France"})).rows),)


def test_polars_reads_through_the_driver(served: tuple[str, Reader]) -> None:
    with connect(served[0]) as connection:
        frame = polars.read_database("SELECT sum(lines) AS lines FROM totals", connection)
    assert frame["lines"].to_list() == [300]


def test_a_prepared_statement_is_asked_again_and_closed(cursor: Any, served: tuple[str, Reader]) -> None:
    cursor.adbc_prepare("SELECT lines FROM everything")
    for _ in range(2):
        cursor.execute("SELECT lines FROM everything")
        assert cursor.fetchall() == [(300,)]
    client = flight.FlightClient(served[0])
    request = pack("ActionCreatePreparedStatementRequest", query="SELECT lines FROM everything")
    (made,) = list(client.do_action(flight.Action("CreatePreparedStatement", request)))
    _, told = unpack(made.body.to_pybytes())
    assert pa.ipc.read_schema(pa.py_buffer(told.dataset_schema)).names == ["lines"]
    handle = {"prepared_statement_handle": told.prepared_statement_handle}
    close = flight.Action("ClosePreparedStatement", pack("ActionClosePreparedStatementRequest", **handle))
    assert list(client.do_action(close)) == []
    descriptor = flight.FlightDescriptor.for_command(pack("CommandPreparedStatementQuery", **handle))
    with pytest.raises(pa.ArrowInvalid, match="closed"):
        client.get_flight_info(descriptor)


def test_a_tool_sees_views_with_their_columns(served: tuple[str, Reader]) -> None:
    with connect(served[0]) as connection:
        found = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        info = connection.adbc_get_info()
        assert connection.adbc_get_table_types() == ["VIEW"]
    assert info["vendor_name"] == "Tideline"
    (schema,) = found[0]["catalog_db_schemas"]
    tables = {table["table_name"]: table for table in schema["db_schema_tables"]}
    assert sorted(tables) == served[1].views()
    assert [one["column_name"] for one in tables["totals"]["table_columns"]][:2] == ["country", "lines"]


def test_a_driver_is_told_all_that_it_may_ask(served: tuple[str, Reader]) -> None:
    client = flight.FlightClient(served[0])

    def told(*numbers: int) -> dict[int, Any]:
        command = pack("CommandGetSqlInfo", info=numbers)
        found = client.get_flight_info(flight.FlightDescriptor.for_command(command))
        table = client.do_get(found.endpoints[0].ticket).read_all()
        return dict(zip(table["info_name"].to_pylist(), table["value"].to_pylist(), strict=True))

    every = told()
    assert set(range(500, 577)) <= set(every)
    assert (every[0], every[504], every[506], every[563], every[541]) == ("Tideline", '"', True, False, 0)
    assert told(3, 4) == {3: True, 4: True}
    assert told(9_999) == {}


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT nope FROM totals", "nope"),
        ("DROP VIEW totals", "syntax error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("SET memory_limit = '100GB'", "syntax error"),
        ("SELECT 1; SELECT 2", "syntax error"),
        ("COPY totals TO '/tmp/stolen'", "syntax error"),
    ],
)
def test_what_is_no_question_to_views_is_refused(cursor: Any, sql: str, says: str) -> None:
    with pytest.raises(adbc_driver_manager.Error, match=says):
        cursor.execute(sql)


@pytest.mark.parametrize("body", [b"", b"junk", pack("CommandGetTableTypes")[:-3], b"\xff" * 40])
def test_what_is_no_message_is_refused(served: tuple[str, Reader], body: bytes) -> None:
    client = flight.FlightClient(served[0])
    with pytest.raises(pa.ArrowException):
        client.get_flight_info(flight.FlightDescriptor.for_command(body))
    with pytest.raises(pa.ArrowException):
        client.do_get(flight.Ticket(body)).read_all()
    with pytest.raises((pa.ArrowException, NotImplementedError)):
        client.do_put(flight.FlightDescriptor.for_command(body), pa.schema([]))[0].close()


def test_no_pattern_takes_long() -> None:
    assert _like("%", "main")
    assert _like("m_i%", "main")
    assert not _like("M%", "main")
    assert not _like("[m]%", "main")
    assert not _like("%" * 1_000 + "!", "main")
    assert not _like("%_" * 500 + "!", "m" * 200)


def test_statements_have_an_end(served: tuple[str, Reader]) -> None:
    client = flight.FlightClient(served[0])
    command = pack("CommandStatementQuery", query="SELECT 1" + " " * MOST_TEXT)
    with pytest.raises(pa.ArrowInvalid, match="letters"):
        client.get_flight_info(flight.FlightDescriptor.for_command(command))


def test_the_lock_holds_here_too(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    with LmdbStore.open(folder, create=True) as store:
        installed(store, 300)
    (folder / "access.toml").write_text(ROLES, "utf-8")
    tokens = TokenFile(folder / "tokens.json")
    reader, writer, france = (tokens.create(role, role)[0] for role in ("reader", "writer", "france"))

    def ask(url: str, sql: str, **options: str) -> list[Any]:
        with connect(url, options) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            found: list[Any] = cursor.fetchall()
            return found

    def bearer(token: str) -> dict[str, str]:
        return {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"}

    with listening(folder) as (url, _):
        assert ask(url, "SELECT lines FROM everything", **bearer(reader)) == [(300,)]
        assert ask(url, "SELECT lines FROM everything", username="anybody", password=reader) == [(300,)]
        assert ask(url, "SELECT country FROM totals", **bearer(france)) == [("France",)]
        for options in ({}, bearer("wrong"), {"username": reader, "password": "wrong"}, bearer(writer)):
            with pytest.raises(adbc_driver_manager.Error):
                ask(url, "SELECT lines FROM everything", **options)
        for sql in ("SELECT * FROM revenue", "SELECT returns FROM totals"):
            with pytest.raises(adbc_driver_manager.Error):
                ask(url, sql, **bearer(france))
        mine = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {reader}".encode())])
        theirs = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {france}".encode())])
        client = flight.FlightClient(url)
        command = pack("CommandStatementQuery", query="SELECT * FROM revenue")
        found = client.get_flight_info(flight.FlightDescriptor.for_command(command), mine)
        with pytest.raises(pa.ArrowInvalid):
            client.do_get(found.endpoints[0].ticket, theirs).read_all()
        request = pack("ActionCreatePreparedStatementRequest", query="SELECT lines FROM everything")
        (made,) = list(client.do_action(flight.Action("CreatePreparedStatement", request), mine))
        handle = {"prepared_statement_handle": unpack(made.body.to_pybytes())[1].prepared_statement_handle}
        prepared = flight.FlightDescriptor.for_command(pack("CommandPreparedStatementQuery", **handle))
        with pytest.raises(pa.ArrowInvalid, match="closed"):
            client.get_flight_info(prepared, theirs)
        assert client.get_flight_info(prepared, mine).total_records == 1
        keys = flight.FlightDescriptor.for_command(pack("CommandGetPrimaryKeys", table="totals"))
        assert client.get_flight_info(keys, theirs).total_records == 1


def test_it_is_asked_over_tls(home: Path, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    folder = tmp_path / "home"
    with LmdbStore.open(folder, create=True) as store:
        installed(store, 30)
    with listening(folder, f'[serve]\ntls_certificate = "{certificate}"\ntls_key = "{key}"\n') as (url, _):
        assert url.startswith("grpc+tls://")
        options = {DatabaseOptions.TLS_ROOT_CERTS.value: certificate.read_text("utf-8")}
        with connect(url, options) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT lines FROM everything")
            assert cursor.fetchone() == (30,)
