"""Plain Spark: reading a topic and doing nothing with it, and Structured Streaming jobs as one writes them by hand."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from engine import serve
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sales import SCHEMA

from tideline.runtime.jars import spark_jars

ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
OPTIONS = {
    "spark.jars": ",".join(map(str, spark_jars())),
    "spark.driver.memory": "2g",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.streaming.stateStore.providerClass": ROCKSDB,
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
}
builder = SparkSession.builder.master("local[2]")
for name, value in OPTIONS.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("ERROR")


def read(bootstrap: str, topic: str) -> dict[str, Any]:
    """All records of the topic into Spark's sink that drops them."""
    frame = spark.read.format("kafka").option("kafka.bootstrap.servers", bootstrap).option("subscribe", topic).load()
    began = time.monotonic()
    frame.write.format("noop").mode("overwrite").save()
    return {"seconds": time.monotonic() - began}


def _events(bootstrap: str, topic: str, most: int) -> DataFrame:
    rows = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", most)
        .load()
    )
    return rows.select(F.from_json(F.col("value").cast("string"), SCHEMA).alias("e")).select("e.*")


def _drain(frames: dict[str, DataFrame], answers: str) -> dict[str, Any]:
    """Runs the frames to the topic's end; each micro-batch hands its changed rows over, of which the last count."""
    folder = Path(tempfile.mkdtemp(prefix="tideline-bench-"))
    changed: dict[str, list[pa.Table]] = {name: [] for name in frames}
    began = time.monotonic()
    queries = [
        frame.writeStream.outputMode("update")
        .foreachBatch(lambda rows, _, name=name: changed[name].append(rows.toArrow()))
        .option("checkpointLocation", str(folder / name))
        .trigger(availableNow=True)
        .start()
        for name, frame in frames.items()
    ]
    for query in queries:
        query.awaitTermination()
    seconds = time.monotonic() - began
    shutil.rmtree(folder)
    found: dict[str, dict[str, list[Any]]] = {"by_product": {}, "by_customer": {}, "by_hour": {}}
    for name, tables in changed.items():
        for row in pa.concat_tables(tables).to_pylist():
            view = row.get("view") or name
            values = [row["lines"], row["quantity"], row.get("largest")]
            found[view][row["key"]] = values[: 2 if view == "by_customer" else 3]
    Path(answers).write_text(json.dumps(found), "utf-8")
    return {"seconds": seconds}


_HOUR = "concat(country, ' ', date_format(sold_at, \"yyyy-MM-dd'T'HH\"))"


def drain(bootstrap: str, topic: str, answers: str, most: int) -> dict[str, Any]:
    """A stateful query for each view."""
    events = _events(bootstrap, topic, most)
    lines, quantity = F.count("*").alias("lines"), F.sum("quantity").alias("quantity")
    largest = F.max("price").alias("largest")
    frames = {
        "by_product": events.groupBy(F.col("product").alias("key")).agg(lines, quantity, largest),
        "by_customer": events.groupBy(F.col("customer").alias("key")).agg(lines, quantity),
        "by_hour": events.groupBy(F.expr(_HOUR).alias("key")).agg(lines, quantity, largest),
    }
    return _drain(frames, answers)


def _together(events: DataFrame) -> DataFrame:
    """Each event becomes a row for each view, and one aggregation takes them all."""
    pairs = f"stack(3, 'by_product', product, 'by_customer', customer, 'by_hour', {_HOUR}) as (view, key)"
    rows = events.selectExpr("quantity", "price", pairs)
    lines, quantity = F.count("*").alias("lines"), F.sum("quantity").alias("quantity")
    return rows.groupBy("view", "key").agg(lines, quantity, F.max("price").alias("largest"))


def drain_together(bootstrap: str, topic: str, answers: str, most: int) -> dict[str, Any]:
    """One stateful query."""
    return _drain({"together": _together(_events(bootstrap, topic, most))}, answers)


def upsert(bootstrap: str, topic: str, store: str) -> dict[str, Any]:
    """Starts a stateful query that upserts each micro-batch's changed rows into an SQLite file, and goes on."""
    with contextlib.closing(sqlite3.connect(store)) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("create table states (view, key, lines, quantity, largest, primary key (view, key))")

    def write(rows: DataFrame, _: int) -> None:
        changed = rows.toArrow().to_pylist()
        with contextlib.closing(sqlite3.connect(store)) as database, database:
            database.executemany(
                "insert or replace into states values (:view, :key, :lines, :quantity, :largest)", changed
            )

    query = _together(_events(bootstrap, topic, 200_000)).writeStream.outputMode("update").foreachBatch(write)
    query.option("checkpointLocation", f"{store}-checkpoint").trigger(processingTime="0 seconds").start()
    return {}


try:
    serve(read=read, drain=drain, drain_together=drain_together, upsert=upsert)
finally:
    spark.stop()
