"""SQL over merged views: its answers are those of queries, and no statement reaches anything else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from serving import running
from serving_case import HOUR, REVENUE, START, Event, Installation, installed, make_events, view

from serving_layer.app import create_app
from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.sql.engine import SqlEngine
from serving_layer.sql.errors import SqlError, SqlTimeout
from serving_layer.sql.process import SqlProcess
from tideline.cli.main import main
from tideline.errors import TidelineError
from tideline.runtime.home import Home
from tideline.stores.lmdb import LmdbStore

VIEWS = ["revenue", "totals", "hourly", "everything", "typed"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def reader(home: Path) -> Iterator[Reader]:
    with LmdbStore.open(home, create=True) as store:
        installed(store, 300)
        with Reader(home) as found:
            yield found


@pytest.fixture(scope="module")
def engine(reader: Reader) -> SqlEngine:
    return SqlEngine(reader)


@pytest.mark.parametrize("view", VIEWS)
def test_a_table_is_the_merged_view(reader: Reader, engine: SqlEngine, view: str) -> None:
    expected = reader.query(Query(view)).to_arrow()
    for _ in range(2):
        answer = engine.run(f"SELECT * FROM {view}")
        assert answer.table.column_names == expected.column_names
        key = [
            name for name in expected.column_names if name in ("country", "product", "bucket", "quantity", "sold_at")
        ]
        found = sorted(map(repr, answer.table.to_pylist()))
        assert len(found) == len(expected)
        assert [{n: row[n] for n in key} for row in _sorted(answer.table.to_pylist(), key)] == [
            {n: row[n] for n in key} for row in _sorted(expected.to_pylist(), key)
        ]
        assert sum(answer.table["lines"].to_pylist()) == sum(expected["lines"].to_pylist())
        assert answer.proofs[view]["cut"] == reader.query(Query(view)).proof["cut"]


def _sorted(rows: list[dict[str, Any]], key: list[str]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: [(row[name] is not None, str(row[name])) for name in key])


def test_sums_are_those_of_a_query(reader: Reader, engine: SqlEngine) -> None:
    sql = "SELECT country, sum(lines) AS lines, sum(revenue) AS revenue FROM revenue GROUP BY ALL"
    found = {row["country"]: (row["lines"], row["revenue"]) for row in engine.run(sql).table.to_pylist()}
    rows = reader.query(Query("revenue", group_by="country", window="all")).rows
    assert found == {row["country"]: (row["lines"], row["revenue"]) for row in rows}


def test_views_in_one_statement_are_of_one_snapshot(engine: SqlEngine) -> None:
    sums = "(SELECT sum(lines) FROM revenue) = (SELECT sum(lines) FROM totals)"
    answer = engine.run(f"SELECT {sums} AS same, (FROM everything SELECT lines)")
    assert answer.table["same"].to_pylist() == [True]
    assert set(answer.proofs) == {"revenue", "totals", "everything"}


def test_what_comes_later_is_seen_at_once_and_null_keys_are_keys(tmp_path: Path) -> None:
    events = make_events(120)
    with LmdbStore.open(tmp_path, create=True) as store:
        made = Installation(store)
        with Reader(tmp_path) as reader:
            engine = SqlEngine(reader)
            for at in range(0, 120, 20):
                made.commit(events[at : at + 20])
                if at in (40, 80):
                    made.publish()
                rows = engine.run("SELECT country, lines FROM totals").table.to_pylist()
                counted: dict[str | None, int] = {}
                for event in events[: at + 20]:
                    counted[event.country] = counted.get(event.country, 0) + 1
                assert {row["country"]: row["lines"] for row in rows} == counted
                assert engine.run("SELECT lines FROM everything").table["lines"].to_pylist() == [at + 20]


def test_retention_hides_what_lies_before_it(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store:
        made = Installation(store)
        made.commit([Event(0, at, START + at * HOUR, "France", "cup", 1, 100) for at in range(6)])
        made.publish(floors={"a" * 16: START + 3 * HOUR})
        made.commit([Event(0, 6, START + HOUR, "France", "cup", 1, 100)])
        with Reader(tmp_path) as reader:
            assert len(SqlEngine(reader).run("FROM revenue").table) == len(reader.query(Query("revenue")).rows) == 3


ESCAPES = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT content FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_parquet('https://127.0.0.1:1/x.parquet')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT content FROM read_text(':memory:')",
    "SELECT content FROM read_text('.tmp/file')",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO ':memory:' (FORMAT csv)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '.tmp/file' (FORMAT csv)",
    "COPY totals TO '/tmp/tideline-escape.csv'",
    "COPY (SELECT 1) TO '/tmp/tideline-escape.csv'",
    "EXPORT DATABASE '/tmp/tideline-escape'",
    "ATTACH '/tmp/tideline-escape.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '64GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA database_list",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW totals AS SELECT 1",
    "DROP VIEW totals",
    "INSERT INTO totals VALUES (1)",
    "UPDATE totals SET lines = 0",
    "DELETE FROM totals",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SELECT 1; DROP VIEW totals",
    "",
    ";",
    "SELECT * FROM engine",
    "SELECT * FROM tables",
    "SELECT getenv('HOME')",
    "SELECT * FROM nowhere",
    "SELEC 1",
    "SELECT \x00",
]


@pytest.mark.parametrize("sql", ESCAPES)
def test_a_statement_reaches_nothing_but_views(
    engine: SqlEngine, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not DuckDB's own files, at which it lets statements: there is one by each of their names."""
    monkeypatch.chdir(tmp_path)
    own = [tmp_path / ":memory:", tmp_path / ".tmp" / "file"]
    own[1].parent.mkdir()
    for file in own:
        file.write_text("a secret")
    with pytest.raises(SqlError):
        engine.run(sql)
    assert not list(Path("/tmp").glob("tideline-escape*"))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(own)
    assert {file.read_text() for file in own} == {"a secret"}
    assert engine.run("SELECT count(*) AS n FROM totals").table["n"].to_pylist() == [4]


def test_a_statement_learns_nothing_of_the_server_s_folders(home: Path, reader: Reader) -> None:
    process = SqlProcess(Home(home))
    try:
        for sql in ("FROM duckdb_settings()", "FROM duckdb_databases()", "FROM duckdb_secrets()"):
            _, rows = process.ask(sql)
            told = json.dumps(pa.ipc.open_stream(rows).read_all().to_pylist(), default=str)
            assert [path for path in (str(Path.cwd()), str(Path.home()), str(home)) if path in told] == []
    finally:
        process.close()


def test_no_statement_runs_for_ever(engine: SqlEngine) -> None:
    began = time.monotonic()
    with pytest.raises(SqlTimeout) as late:
        engine.run("WITH RECURSIVE n AS (SELECT 1 x UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n", seconds=0.5)
    assert late.value.condition == "SQL_TIMEOUT"
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("sql", ["FROM range(1000000)", "SELECT repeat('x', 100000) FROM range(5000)"])
def test_no_answer_is_too_large(engine: SqlEngine, sql: str) -> None:
    with pytest.raises(SqlError) as refused:
        engine.run(sql)
    assert refused.value.condition == "SQL_TOO_LARGE"


def test_a_process_that_runs_out_of_memory_is_made_anew(home: Path, reader: Reader) -> None:
    process = SqlProcess(Home(home), memory=1 << 30)
    try:
        with pytest.raises(TidelineError) as refused:
            process.ask("SELECT length(repeat('x', 3000000000)) + length(repeat('y', 3000000000))")
        assert refused.value.condition in ("SQL_ENDED", "BAD_SQL")
        with pytest.raises(TidelineError) as late:
            process.ask("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", seconds=1)
        assert late.value.condition == "SQL_TIMEOUT"
        proofs, rows = process.ask("SELECT count(*) FROM totals")
        assert set(proofs) == {"totals"}
        assert rows
    finally:
        process.close()


def test_statements_over_http(home: Path, reader: Reader) -> None:
    app = create_app(reader)
    with running(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        ambiguous = "SELECT country FROM revenue JOIN totals ON true"
        plain = client.post(
            "/v1/sql", json={"sql": "SELECT country, revenue, 1 AS a, 2 AS a FROM totals ORDER BY country"}
        )
        assert plain.json()["columns"] == ["country", "revenue", "a", "a"]
        assert plain.json()["rows"][0][0] == ""
        assert plain.json()["rows"][-1] == [None, "30465.13", 1, 2]
        assert plain.json()["proofs"]["totals"]["mode"] == "live"
        text = client.post("/v1/sql", json={"sql": "FROM totals SELECT count(*) AS n", "format": "csv"})
        assert text.text == "n\n4\n"
        for body, status, condition in (
            ({"sql": "DROP VIEW totals"}, 400, "SQL_NOT_A_QUERY"),
            ({"sql": "FROM range(10)", "limit": 5}, 400, "SQL_TOO_LARGE"),
            ({"sql": "FROM nope"}, 400, "BAD_SQL"),
            ({"sql": ambiguous}, 400, "BAD_SQL"),
            ({"sql": "SELECT 1", "windw": 1}, 400, "UNKNOWN_FIELD"),
            ({"sql": 5}, 422, "BAD_REQUEST_BODY"),
            ([], 422, "BAD_REQUEST_BODY"),
        ):
            refused = client.post("/v1/sql", json=body)
            assert (refused.status_code, refused.json()["error"]["condition"]) == (status, condition)
    app.state.sql.close()


def test_the_sample_of_the_documents_is_what_the_command_prints(
    home: Path, reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "clients.md").read_text("utf-8")
    sample = re.search(r'\$ tideline sql "([^"]+)"\n(.*?)\n```', page, re.DOTALL)
    assert sample is not None
    assert main(["sql", sample[1], "--home", str(home)]) == 0
    found = [line.rstrip() for line in capsys.readouterr().out.rstrip().splitlines()]
    assert found == [line.rstrip() for line in sample[2].splitlines()]
    assert main(["sql", "DROP VIEW totals", "--home", str(home)]) == 2
    assert main(["sql", "SELECT 1 AS a, 2 AS a", "-o", "csv", "--home", str(home)]) == 0
    assert capsys.readouterr().out.endswith("a,a_2\n1,2\n")


# States.


@pytest.mark.parametrize("key", [["country"], ["product"], [], ["country", "product"]])
def test_states_are_merged_in_sql_as_in_a_query(reader: Reader, engine: SqlEngine, key: list[str]) -> None:
    asked = reader.query(Query("revenue", group_by=key, window="all"))
    columns = "".join(f"{name}, " for name in key)
    sql = (
        f"SELECT {columns}merged(mean_state), merged(revenue_state), merged_quantile(spread_state, 0.5), "
        f"merged_answer(products_state), merged_answer(last_state) FROM revenue "
        + (f"GROUP BY {', '.join(key)}" if key else "")
    )
    found = {tuple(row)[: len(key)]: tuple(row)[len(key) :] for row in _rows(engine.run(sql).table)}
    assert len(found) == len(asked.rows)
    for row in json.loads(asked.to_text())["rows"]:
        mean, revenue, median, products, last = found[tuple(row[name] for name in key)]
        assert mean == pytest.approx(row["mean"])
        assert revenue == pytest.approx(float(row["revenue"]))
        assert median == pytest.approx(row["spread"]["p50"])
        assert json.loads(products) == row["products"]
        assert json.loads(last) == row["last"]


def test_changed_answers_hold_for_every_row(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store, Reader(tmp_path) as reader:
        made, engine = installed(store, 90), SqlEngine(reader)
        assert _rows(engine.run("SELECT sum(double) = 2 * sum(revenue) FROM totals").table) == [[True]]
        totals = next(one for one in made.views if one.name == "totals")
        changed = replace(totals, answers={**totals.answers, "double": "revenue * 3"})
        made.redefine(changed)
        assert _rows(engine.run("SELECT sum(double) = 3 * sum(revenue) FROM totals").table) == [[True]]


def test_times_are_of_utc_wherever_the_server_is(home: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    process = SqlProcess(Home(home))
    try:
        _, stream = process.ask(
            "SELECT sum(lines) AS n FROM hourly WHERE bucket >= '2011-12-02' AND bucket < '2011-12-03'"
        )
        (found,) = pa.ipc.open_stream(stream).read_all().to_pylist()
    finally:
        process.close()
    (asked,) = reader.view("hourly").get(start="2011-12-02", end="2011-12-03", window="1d", measures="lines").rows
    assert int(found["n"]) == asked["lines"]


def test_a_view_with_a_dash_in_its_name_is_a_table(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path, create=True) as store, Reader(tmp_path) as reader:
        made = Installation(store, [REVENUE, view("By-country", "country string", None, "9")])
        made.commit(make_events(20))
        assert _rows(SqlEngine(reader).run('SELECT sum(lines) FROM "by-country"').table) == [[20]]


def test_states_stand_there_where_they_are_named_alone(engine: SqlEngine) -> None:
    assert "mean_state" not in engine.run("SELECT * FROM totals").table.column_names
    assert "mean_state" in engine.run("SELECT *, mean_state AS s FROM totals").table.column_names


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT merged(products_state) FROM totals", "merged_answer"),
        ("SELECT merged_quantile(mean_state, 0.5) FROM totals", "quantiles"),
        ("SELECT merged_quantile(spread_state, 2) FROM totals", "from 0 to 1"),
        ("SELECT merged(s) FROM (SELECT mean_state s FROM totals UNION SELECT lines_state FROM totals)", "one measure"),
        ("SELECT merged('abc'::BLOB), mean_state FROM totals GROUP BY ALL", "one measure"),
        ("SELECT merged('\\xFF\\x00'::BLOB), mean_state FROM totals GROUP BY ALL", "one measure"),
    ],
)
def test_states_that_do_not_go_together_are_refused(engine: SqlEngine, sql: str, says: str) -> None:
    with pytest.raises(SqlError, match=says):
        engine.run(sql)


def _rows(table: Any) -> list[list[Any]]:
    return [list(row.values()) for row in table.to_pylist()]
