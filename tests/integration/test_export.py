"""Answers elsewhere: Delta and Parquet as others read them, a real database by JDBC, a DataFrame of Spark."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from serving_case import Installation, make_events

import tideline.spark
from serving_layer.export import export_files
from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.cli.main import main
from tideline.export import ExportError
from tideline.spark.jdbc import export_jdbc
from tideline.stores.lmdb import LmdbStore

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Site:
    """A home with half of its events committed."""

    def __init__(self, home: Path, store: LmdbStore) -> None:
        self.home, self.made, self.events = home, Installation(store), make_events(200)
        self.made.commit(self.events[:100])
        self.made.publish()

    def go_on(self) -> None:
        self.made.commit(self.events[100:])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with LmdbStore.open(tmp_path / "home", create=True) as store:
        yield Site(tmp_path / "home", store)


def test_a_dataframe_is_the_merged_view(spark: SparkSession, site: Site) -> None:
    for _ in range(2):
        frame = tideline.spark.read(
            spark, "revenue", str(site.home), group_by="country", window="all", measures="lines"
        )
        assert sum(row["lines"] for row in frame.collect()) == len(site.made.events)
        site.go_on() if len(site.made.events) == 100 else None
    assert tideline.spark.read(spark, "revenue", str(site.home)).schema["bucket"].dataType.typeName() == "timestamp"


def test_delta_and_parquet_are_replaced_whole_with_their_proof(site: Site, tmp_path: Path) -> None:
    delta, parquet = str(tmp_path / "out"), tmp_path / "out.parquet"
    with Reader(site.home) as reader:
        for turn in range(2):
            result = reader.query(Query("revenue"))
            assert export_files(result, delta, "delta") == export_files(result, str(parquet), "parquet") == len(result)
            expected = result.to_arrow().replace_schema_metadata(None)
            assert pq.read_table(parquet).replace_schema_metadata(None).equals(expected)
            found = DeltaTable(delta)
            key = [("country", "ascending"), ("product", "ascending"), ("bucket", "ascending")]
            rows = found.to_pyarrow_table().sort_by(key).to_pylist()
            assert [row["lines"] for row in rows] == [row["lines"] for row in expected.sort_by(key).to_pylist()]
            said = json.loads(found.history(1)[0]["tideline.proof"])
            assert said["cut"] == result.proof["cut"]
            assert json.loads(pq.read_schema(parquet).metadata[b"tideline.proof"])["cut"] == said["cut"]
            assert found.version() == turn
            site.go_on() if not turn else None
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_place_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with Reader(site.home) as reader:
        result = reader.query(Query("totals"))
        for form in ("delta", "parquet"):
            with pytest.raises(ExportError, match="file"):
                export_files(result, str(tmp_path / "file" / "below"), form)


def test_a_table_of_a_database_is_filled_by_jdbc(spark: SparkSession, site: Site, tmp_path: Path) -> None:
    url = f"jdbc:derby:{tmp_path / 'derby'};create=true"
    for _ in range(2):
        with Reader(site.home) as reader:
            result = reader.query(Query("totals", measures="lines,revenue,products"))
        assert export_jdbc(spark, result.to_arrow(), url, "TOTALS", {}) == len(result)
        rows = spark.read.jdbc(url, "TOTALS").collect()
        assert {row["country"]: (row["lines"], row["revenue"]) for row in rows} == {
            row["country"]: (row["lines"], row["revenue"]) for row in result.rows
        }
        assert {row["country"]: json.loads(row["products"]) for row in rows} == {
            row["country"]: row["products"] for row in result.rows
        }
        site.go_on() if len(site.made.events) == 100 else None


def test_structured_answers_are_json_in_a_database_also_where_they_are_empty(
    spark: SparkSession, tmp_path: Path
) -> None:
    url, counts = f"jdbc:derby:{tmp_path / 'derby'};create=true", pa.map_(pa.string(), pa.int64())
    table = pa.table({"id": [0, 1, 2], "products": pa.array([[("cup", 2)], [], None], counts), "best": [[1], [], None]})
    assert export_jdbc(spark, table, url, "T", {}) == 3
    found = sorted(spark.read.jdbc(url, "T").collect())
    assert [tuple(row) for row in found] == [(0, '{"cup": 2}', "[1]"), (1, "{}", "[]"), (2, None, None)]


def test_a_database_that_keeps_other_values_is_an_error(spark: SparkSession, tmp_path: Path) -> None:
    url = f"jdbc:derby:{tmp_path / 'derby'};create=true"
    first = {"amount": pa.array([Decimal("1.25"), Decimal("2.50")], pa.decimal128(10, 2))}
    halves = pa.array([1.5, 2.5], pa.float32())
    assert export_jdbc(spark, pa.table({**first, "other": halves}), url, "T", {}) == 2
    with pytest.raises(ExportError, match="values of other as"):
        export_jdbc(spark, pa.table({**first, "other": [1.5, 0.1]}), url, "T", {})
    for amounts in (["1.257"], ["0.004", "-0.004"]):  # of which the sum would be right
        rounded = pa.array(list(map(Decimal, amounts)), pa.decimal128(10, 3))
        with pytest.raises(ExportError, match="values of amount as"):
            export_jdbc(spark, pa.table({"amount": rounded, "other": [1.5] * len(rounded)}), url, "T", {})
    large = pa.table({"whole": pa.array([Decimal(10**30)], pa.decimal128(38, 0))})
    assert export_jdbc(spark, large, url, "LARGE", {}) == 1
    assert spark.read.jdbc(url, "LARGE").collect()[0][0] == 10**30


def test_a_database_that_is_not_there_is_named_without_its_password(spark: SparkSession, site: Site) -> None:
    with Reader(site.home) as reader:
        table = reader.query(Query("totals", measures="lines")).to_arrow()
    for url in (
        "jdbc:derby:/nowhere/at/all;password=secret",
        "jdbc:nodriver://shop:secret@localhost/db",
        "jdbc:nodriver:thin:scott/secret@//localhost/db?password=secret",
    ):
        with pytest.raises(ExportError) as refused:
            export_jdbc(spark, table, url, "T", {"user": "shop", "password": "secret"})
        assert "secret" not in str(refused.value)
        assert "/nowhere" in str(refused.value) or "localhost/db" in str(refused.value)
        assert re.search("not found|No suitable driver", str(refused.value)), str(refused.value)


def test_the_command_exports_once_and_on_a_schedule(site: Site, tmp_path: Path) -> None:
    target, where = tmp_path / "out.parquet", ["--home", str(site.home)]
    command = ["export", "revenue", "country=France", "--window", "1d", "--into", str(target), "--format", "parquet"]
    assert main([*command, *where]) == 0
    with Reader(site.home) as reader:
        assert len(pq.read_table(target)) == len(reader.view("revenue").get(country="France", window="1d"))
    assert main(["export", "revenue", *where]) == 2
    assert main(["export", "nope", "--into", str(target), *where]) == 2


def test_the_command_goes_on_until_it_is_told_to_stop(site: Site, tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys

    folder = tmp_path / "folder"
    target = folder / "delta"
    folder.write_text("in the way: no export goes well before it is gone")
    command = [sys.executable, "-m", "tideline.cli.main", "export", "totals", "--into", str(target), "--every", "1s"]
    process = subprocess.Popen(
        [*command, "--home", str(site.home)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert any("the export failed" in line for line in process.stderr)
        threading.Thread(target=process.stderr.read).start()
        folder.unlink()
        until = time.monotonic() + 60
        while not (
            target.exists() and DeltaTable.is_deltatable(str(target)) and DeltaTable(str(target)).version() >= 2
        ):
            assert process.poll() is None
            assert time.monotonic() < until
            threading.Event().wait(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
