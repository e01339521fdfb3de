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

_THRESHOLD = "spark.sql.execution.arrow.localRelationThreshold"


class PreparedQuery:
    """`query` over tables of one schema, in a single task: for rows that are few."""

    def __init__(self, spark: SparkSession, schema: pa.Schema, query: Callable[[DataFrame], DataFrame]) -> None:
        self._spark = spark
        self._frame = query(_parallelized(spark, schema).coalesce(1))
        self._start = _first_partition(self._frame)

    def run(self, rows: pa.Table) -> pa.Table:
        """The query's result over these rows. Raises what Spark raises."""
        self._set(rows)
        try:
            return self._frame.toArrow()
        finally:
            self._set(rows.schema.empty_table())

    def _set(self, rows: pa.Table) -> None:
        jvm: Any = self._spark._jvm
        batches = self._spark.sparkContext._serialize_to_jvm(
            rows.combine_chunks().to_batches(),
            ArrowStreamSerializer(),
            jvm.PythonSQLUtils.readArrowStreamFromFile,
            jvm.ArrowIteratorServer,
        )
        getattr(self._start, "values_$eq")(batches.toSeq())


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
