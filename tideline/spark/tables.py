"""DataFrames from and to the files of a Delta table, whose log is read and written without Spark."""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from tideline import delta_files
from tideline.disk import sync_path

_STAGED = "staged-"
_FORGOTTEN = 3600.0  # seconds after which a staged folder is what a killed process left
_NO_MARK = {"mapreduce.fileoutputcommitter.marksuccessfuljobs": "false"}
_PATTERN = re.compile(r"([{}\[\]*?\\])")  # what Spark would take for a pattern in a path


@contextmanager
def staged(table: Path) -> Iterator[Path]:
    """A folder inside a table's, for files that may become its own."""
    for folder in table.glob(f"{_STAGED}*"):
        if time.time() - folder.stat().st_mtime > _FORGOTTEN:
            shutil.rmtree(folder, ignore_errors=True)
    made = table / f"{_STAGED}{uuid.uuid4().hex}"
    made.mkdir(parents=True)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def take_over(files: Iterable[Path], folder: Path) -> list[Path]:
    """Moves files that have rows into a folder of a table, whose log does not know them yet; they are on disk then."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = [file.rename(folder / file.name) for file in files if pq.read_metadata(file).num_rows]
    for path in (*kept, folder):  # before a commit names them
        sync_path(path)
    return kept


def write_files(rows: pa.Table | DataFrame, table: Path, folder: Path) -> list[Path]:
    """Writes Parquet files into a folder of a table, which its log does not know yet; those that have rows."""
    with staged(table) as made:
        if isinstance(rows, pa.Table):
            file = made / f"part-{uuid.uuid4()}.snappy.parquet"
            pq.write_table(rows, file, compression="snappy", write_page_checksum=True, store_schema=False)
        else:
            rows.write.mode("append").options(**_NO_MARK).parquet(str(made))
        return take_over(sorted(made.glob("*.parquet")), folder)


def read_files(
    spark: SparkSession, table: Path, wanted: Callable[[Mapping[str, Any]], bool], version: int | None = None
) -> DataFrame:
    """The rows of those files of a table's version, by default the newest, that are `wanted` by what its log says."""
    live = delta_files.live(table, version)
    schema = StructType.fromJson(json.loads(live.schema))
    files = [_PATTERN.sub(r"\\\1", str(path)) for path in live.whole(wanted)]
    if not files:
        return spark.createDataFrame([], schema)
    return spark.read.option("basePath", str(table)).schema(schema).parquet(*files)


def table_schema(rows: pa.Table | DataFrame, **partition: str) -> str:
    """The schema of a table for these rows in JSON: as Delta has it, whatever a column holds may be null.

    `partition` are the names and types, as that JSON has them, of columns that the rows do not have.
    """
    schema = from_arrow_schema(rows.schema) if isinstance(rows, pa.Table) else StructType(list(rows.schema))
    for name, kind in partition.items():
        schema = schema.add(name, kind)
    text: str = schema.json()
    for name in ("nullable", "containsNull", "valueContainsNull"):
        text = text.replace(f'"{name}":false', f'"{name}":true')
    return text
