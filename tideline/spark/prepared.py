"""A query over rows in memory that Spark plans once and runs again and again, over other rows each time.

To analyse, optimise and plan a fold takes Spark several times as long as to run it over a small micro-batch, and its
plan depends on the rows' columns alone. A DataFrame keeps its plan; the rows stand in the one partition where the plan
begins, and are exchanged there. They go to the task with that partition, as rows that are parallelized always do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.serializers import ArrowStreamSerializer

from tideline.spark.arrow import collect_table, schema_of

_THRESHOLD = "spark.sql.execution.arrow.localRelationThreshold"


class PreparedQuery:
    """`query` over tables of one schema, in a single task: for rows that are few."""

    def __init__(self, spark: SparkSession, schema: pa.Schema, query: Callable[[DataFrame], DataFrame]) -> None:
        self._context = spark.sparkContext
        self._frame = query(_parallelized(spark, schema).coalesce(1))
        self._schema = schema_of(self._frame)
        self._put_rows = getattr(_first_partition(self._frame), "values_$eq")
        jvm: Any = spark._jvm
        self._read_stream, self._serve = jvm.PythonSQLUtils.readArrowStreamFromFile, jvm.ArrowIteratorServer

    def run(self, rows: pa.Table) -> pa.Table:
        """The query's result over these rows. Raises what Spark raises."""
        batches = self._context._serialize_to_jvm(
            rows.combine_chunks().to_batches(), ArrowStreamSerializer(), self._read_stream, self._serve
        )
        self._put_rows(batches.toSeq())
        return collect_table(self._frame, self._schema)


def _parallelized(spark: SparkSession, schema: pa.Schema) -> DataFrame:
    """Rows of this schema that Spark takes from a partition: a small table would stand in the plan itself."""
    before = spark.conf.get(_THRESHOLD)
    spark.conf.set(_THRESHOLD, "0")
    try:
        return spark.createDataFrame(pa.table([pa.nulls(1, field.type) for field in schema], names=schema.names))
    finally:
        spark.conf.set(_THRESHOLD, str(before))


def _first_partition(frame: DataFrame) -> Any:
    """The partition of a DataFrame's only task at the start of its lineage."""
    rdd: Any = frame._jdf.queryExecution().toRdd()
    while rdd.dependencies().nonEmpty():
        rdd = rdd.dependencies().head().rdd()
    (partition,) = rdd.partitions()
    return partition
