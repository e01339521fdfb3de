"""A Spark session without anything of Tideline's but its jars."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import SparkSession

from tideline.runtime.jars import spark_jars

_OPTIONS = {
    "spark.jars": ",".join(map(str, spark_jars())),
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


def start(tasks: int, options: Mapping[str, str]) -> SparkSession:
    """A session that runs so many tasks at a time."""
    builder = SparkSession.builder.master(f"local[{tasks}]")
    for name, value in {**_OPTIONS, **options}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
