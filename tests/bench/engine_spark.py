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

import plain_spark
import pyarrow as pa
from engine import serve
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sales import SCHEMA

ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
spark = plain_spark.start(
    2,
    {
        "spark.driver.memory": "2g",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.streaming.stateStore.providerClass": ROCKSDB,
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    },
)


def read(bootstrap: str, topic: str) -> dict[str, Any]:
    """All records of the topic into Spark's sink that drops them."""
    frame = spark.read.format("kafka").option("kafka.bootstrap.servers", bootstrap).option("subscribe", topic).load()
    began = time.monotonic()
    frame.write.format("noop").mode("overwrite").save()
    return {"seconds": time.monotonic() - began}


def _events(bootstrap: str, topic: str, most: int, schema: str = SCHEMA) -> DataFrame:
    rows = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", most)
        .load()
    )
    return rows.select(F.from_json(F.col("value").cast("string"), schema).alias("e")).select("e.*")


def _run(frames: dict[str, DataFrame]) -> tuple[float, dict[str, dict[str, dict[str, Any]]]]:
    """Runs the frames to the topic's end: the seconds, and of each the last row by `key`, for each micro-batch hands
    its changed rows over."""
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
    found = {
        name: {(row.get("view"), row["key"]): row for row in pa.concat_tables(tables).to_pylist()}
        for name, tables in changed.items()
    }
    return seconds, found


def _drain(frames: dict[str, DataFrame], answers: str) -> dict[str, Any]:
    seconds, rows = _run(frames)
    found: dict[str, dict[str, list[Any]]] = {"by_product": {}, "by_customer": {}, "by_hour": {}}
    for name, by_key in rows.items():
        for (view, key), row in by_key.items():
            values = [row["lines"], row["quantity"], row.get("largest")]
            found[view or name][key] = values[: 2 if (view or name) == "by_customer" else 3]
    Path(answers).write_text(json.dumps(found), "utf-8")
    return {"seconds": seconds}


def workload(bootstrap: str, topic: str, answers: str, most: int, example: str, view: str) -> dict[str, Any]:
    """A published query, as `published.py` writes its answers."""
    events = _events(bootstrap, topic, most, PUBLISHED_SCHEMAS[example])
    count = F.count("*").alias("n")
    if view == "q17":
        ranges = [F.count_if(F.expr(f"price >= {low} and price < {high}")) for low, high in RANGES]
        names = [one.alias(f"rank{number}") for number, one in enumerate(ranges)]
        key = F.expr("concat(auction, ' ', date_format(dateTime, 'yyyy-MM-dd'))").alias("key")
        frame = events.groupBy(key).agg(count, *names, F.min("price"), F.max("price"), F.sum("price"))
    elif view == "q5":
        frame = events.groupBy(F.window("dateTime", "10 seconds", "2 seconds").alias("w"), "auction").agg(count)
        start = F.expr("date_format(w.start, \"yyyy-MM-dd'T'HH:mm:ss\")")
        frame = frame.select(F.concat(start, F.lit(" "), "auction").alias("key"), "n")
    else:
        views = events.where("event_type = 'view'").withColumn("campaign", F.expr("cast(ad_id / 10 as int)"))
        start = F.expr("date_format(window(event_time, '10 seconds').start, \"yyyy-MM-dd'T'HH:mm:ss\")")
        frame = views.groupBy(F.concat("campaign", F.lit(" "), start).alias("key")).agg(count)
    seconds, rows = _run({view: frame})
    began = time.monotonic()
    found: dict[str, list[Any]] = {}
    for (_, key), row in rows[view].items():
        if view == "q5":
            start = key.partition(" ")[0]
            found[start] = [max(row["n"], *found.get(start, [0]))]
        else:
            found[key] = [value for name, value in row.items() if name != "key"]
    seconds += time.monotonic() - began
    Path(answers).write_text(json.dumps({view: found}), "utf-8")
    return {"seconds": seconds}


PUBLISHED_SCHEMAS = {
    "nexmark": "auction bigint, bidder bigint, price bigint, channel string, url string, dateTime timestamp, "
    "extra string",
    "ysb": "user_id string, page_id string, ad_id int, ad_type string, event_type string, event_time timestamp, "
    "ip_address string",
}
RANGES = ((0, 10_000), (10_000, 1_000_000), (1_000_000, 1 << 62))
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
    serve(read=read, workload=workload, drain=drain, drain_together=drain_together, upsert=upsert)
finally:
    spark.stop()
