"""Values of statements: what has no answer is null, and every value of DuckDB's has a form in JSON."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import serving_case
from serving import condition
from serving_case import Installation, make_events, view

from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.sql.engine import SqlEngine
from serving_layer.sql.show import shown_rows
from tideline.measures import Max, Mean, Quantiles
from tideline.stores.lmdb import LmdbStore
from tideline.types import parse_type


@pytest.fixture(scope="module")
def engine(home: Path, served: Installation) -> Iterator[SqlEngine]:
    with Reader(home) as reader:
        yield SqlEngine(reader)


NOTHING: dict[str, Any] = {
    "partly": (Mean("quantity").resolve(parse_type("int")), lambda m, e: [int(e.country == "France")] * 2),
    "spread": (Quantiles("quantity", at=(0.5,)).resolve(parse_type("int")), lambda m, e: {}),
    "nan": (Max("amount").resolve(parse_type("double")), lambda m, e: math.nan),
}
"""Measures of which groups have no values, or of which the largest is no number."""


def test_groups_without_an_answer_are_null_and_nan_stays_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_case, "MEASURES", NOTHING)
    monkeypatch.setattr(serving_case, "ANSWERS", {})
    monkeypatch.setattr(serving_case, "REVENUE", view("totals", "country string", None, "b"))
    with LmdbStore.open(tmp_path, create=True) as store, Reader(tmp_path) as reader:
        Installation(store, [serving_case.REVENUE]).commit(make_events(60))
        rows = reader.query(Query("totals")).rows
        assert {row["partly"] for row in rows} == {None, 1.0}
        found = SqlEngine(reader).run(
            "SELECT country, merged(partly_state) p, merged(nan_state) n, merged_quantile(spread_state, 0.5) q "
            "FROM totals GROUP BY country"
        )
        assert {row["country"]: row["p"] for row in found.table.to_pylist()} == {
            r["country"]: r["partly"] for r in rows
        }
        assert all(math.isnan(row["n"]) and row["q"] is None for row in found.table.to_pylist())
        none = SqlEngine(reader).run(
            "SELECT merged(partly_state) m, merged_answer(partly_state) a FROM totals WHERE false"
        )
        assert none.table.to_pylist() == [{"m": None, "a": None}]


def test_text_is_made_where_nobody_waits_and_is_not_too_large(client: httpx.Client, home: Path) -> None:
    """Of a letter that stands a million times in DuckDB's columns once, and of more than may be made in time."""
    text = "a" * 1_000
    many = f"SELECT list_resize(['{text}'::ENUM('{text}', 'b')], 100_000, '{text}'::ENUM('{text}', 'b')) AS x"
    for form in ("json", "csv"):
        refused = client.post("/v1/sql", json={"sql": many, "format": form}, timeout=100)
        assert condition(refused) == (400, "SQL_TOO_LARGE")
    assert client.post("/v1/sql", json={"sql": many, "format": "arrow"}, timeout=100).status_code == 200
    long = "SELECT list_resize([true], 600, true) AS x FROM range(100_000)"
    late = client.post("/v1/sql", json={"sql": long, "timeout": 1}, timeout=100)
    assert condition(late) == (504, "SQL_TIMEOUT")
    rows = client.post("/v1/sql", json={"sql": "SELECT range AS x, NULL AS y FROM range(2500)"}, timeout=100).json()
    assert rows == {"columns": ["x", "y"], "rows": [[at, None] for at in range(2_500)], "proofs": {}}
    none = client.post("/v1/sql", json={"sql": "SELECT 1 AS x WHERE false", "format": "csv"}, timeout=100)
    assert none.text == "x\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("DATE '20000-01-01'", "20000-01-01"),
        ("'infinity'::TIMESTAMP", "infinity"),
        ("'-infinity'::DATE", "-infinity"),
        ("TIMESTAMP '2020-01-01'", "2020-01-01T00:00:00"),
        ("TIMESTAMPTZ '2020-01-01'", "2020-01-01T00:00:00Z"),
        ("TIMESTAMPTZ '2020-01-01' + INTERVAL 9000 YEAR", "11020-01-01T00:00:00.000000Z"),
        ("TIMESTAMP_NS '2020-01-01 00:00:00.123456789'", "2020-01-01T00:00:00.123456789"),
        ("TIMESTAMP '2020-01-02' - TIMESTAMP '2020-01-01 00:00:00.5'", "0 months 0 days 23:59:59.5"),
        ("INTERVAL (-90) MINUTE", "0 months 0 days -01:30:00"),
        ("{'a': TIME '10:00', 'b': [DATE '20000-01-01', NULL]}", {"a": "10:00:00", "b": ["20000-01-01", None]}),
        ("uuid '00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001"),
        ("1.5::DECIMAL(4, 2)", "1.50"),
        ("'NaN'::DOUBLE", "NaN"),
    ],
)
def test_every_value_has_a_form_in_json(engine: SqlEngine, value: str, shown: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert shown_rows(engine.run(f"SELECT {value} AS x").table) == [[shown]]
    finally:
        monkeypatch.undo()
        time.tzset()
