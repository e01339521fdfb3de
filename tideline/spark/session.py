"""The Spark session of a layer: Tideline's defaults, beneath whatever the user has set."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Mapping, Sequence

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE = 4 << 20  # bytes
_DEFAULTS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.adaptive.enabled": "false",
    # Both may compute a shared expression ahead of the TryEval that is to catch its error, and so end the job: of an
    # expression that stands twice, and of one that Spark reads twice, as in `between` and `nullif`.
    "spark.sql.subexpressionElimination.enabled": "false",
    "spark.sql.alwaysInlineCommonExpr": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
    # As many generated classes as plans need, and some: with fewer than a run goes through, each is compiled each time.
    "spark.sql.codegen.cache.maxEntries": "1000",
    # A sketch in a view makes Spark aggregate in object hash maps, which fall back to sorting at 128 groups by default.
    "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "1000000",
    # A fold of many views is a text of megabytes, which Spark writes for a page that is not shown, query by query.
    "spark.sql.maxPlanStringLength": "1000",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    # A job that lists files takes longer than to ask for each here.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    "spark.sql.streaming.metricsEnabled": "false",
    "spark.databricks.delta.snapshotPartitions": "2",
    # After a power cut one may be left without its commit, and delta-rs refuses the table then.
    "spark.databricks.delta.writeChecksumFile.enabled": "false",
    "spark.databricks.delta.stalenessLimit": "0",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.python.worker.reuse": "true",
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
}


def spark_defaults(cores: int, memory: str, jars: Sequence[str]) -> dict[str, str]:
    """Tideline's Spark settings for one machine: `cores` tasks at a time, driver `memory` as Spark spells it."""
    return {
        **_DEFAULTS,
        "spark.master": f"local[{cores}]",
        "spark.driver.memory": memory,
        "spark.sql.shuffle.partitions": str(cores),
        "spark.jars": ",".join(jars),
        "spark.pyspark.python": sys.executable,
        "spark.pyspark.driver.python": sys.executable,
    }


def start_spark(name: str, defaults: Mapping[str, str], user: Mapping[str, str] | None = None) -> SparkSession:
    """A session with `defaults` for every setting that neither `user` nor spark-submit has given."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # The JVM allocates from many threads; with glibc's eight arenas a core, 400 MB stay in them after some minutes.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    _give_back_large_blocks()
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        SparkContext._ensure_initialized()
    conf = SparkConf()
    conf.setIfMissing("spark.app.name", name)
    for key, value in {**defaults, **(user or {})}.items():
        conf.setIfMissing(key, value)
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    # An expression that Spark refuses is reported as a DefinitionError; this logger would print it whole beside that.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    return spark


def _give_back_large_blocks() -> None:
    """Large blocks of this process go back to the system once they are freed, and leave no holes in glibc's heap.

    Of 4 million ids that are merged again and again it kept 340 MB, and more with each merge; so it is 190 to 260 MB,
    for 0.07 us of the 1.1 that an id takes.
    """
    with contextlib.suppress(AttributeError):  # where the C library has no such thing
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)
