"""Parquet files of a Delta table as DataFrames: whatever the folders are called, and nothing left out or read twice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tideline.delta_files import Writer
from tideline.spark.tables import read_files, table_schema, write_files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", ["plain", "a[1]", "{a,b}", "a*", "who?", "a b"])
def test_each_row_is_read_once_wherever_the_table_is(spark: SparkSession, tmp_path: Path, name: str) -> None:
    table = tmp_path / name / "t"
    for other in ("1", "a", "ax"):  # what the name would stand for as a pattern
        (tmp_path / other).mkdir(exist_ok=True)
    for first in (0, 10):
        rows = spark.range(first, first + 10, 1, 2)
        files = write_files(rows, table, table)
        assert len(files) == 2
        assert Writer(table_schema(rows), indexed=("id",)).add(table, files, {})
    found = sorted(row["id"] for row in read_files(spark, table, lambda file: True).collect())
    assert found == list(range(20))
    late = read_files(spark, table, lambda file: file["min.id"] >= 10)
    assert sorted(row["id"] for row in late.collect()) == list(range(10, 20))
    assert not list(table.glob("staged-*"))


def test_an_empty_file_is_an_error_and_not_fewer_rows(spark: SparkSession, tmp_path: Path) -> None:
    table = tmp_path / "t"
    files = write_files(spark.range(0, 10, 1, 2), table, table)
    assert Writer(table_schema(spark.range(1))).add(table, files, {})
    files[0].write_bytes(b"")
    with pytest.raises(OSError, match=files[0].name):
        read_files(spark, table, lambda file: True)
