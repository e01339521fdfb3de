"""Spark's real-time mode: each event is decoded and its contributions to three views are sent on, one by one."""

from __future__ import annotations

import tempfile
from typing import Any

import plain_spark
from engine import serve
from pyspark.sql import functions as F
from sales import SCHEMA

# Each partition has a task that does not end, so there are more of them than processors.
spark = plain_spark.start(6, {"spark.driver.memory": "1g"})
FIELDS = ("offset", "e.quantity", "e.price", "e.product", "e.customer")
HOUR = "concat(e.country, ' ', date_format(e.sold_at, \"yyyy-MM-dd'T'HH\"))"


def contribute(bootstrap: str, topic: str, target: str) -> dict[str, Any]:
    """Starts a query that sends on what each record of `topic` contributes, to the same partition of `target`: its
    offset, quantity, price and three keys, with `|` between them."""
    rows = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
    )
    events = rows.select("partition", "offset", F.from_json(F.col("value").cast("string"), SCHEMA).alias("e"))
    fields = [F.col(name).cast("string") for name in FIELDS]
    sent = events.select("partition", F.concat_ws("|", *fields, F.expr(HOUR)).cast("binary").alias("value"))
    writer = sent.writeStream.format("kafka").outputMode("update").option("kafka.bootstrap.servers", bootstrap)
    folder = tempfile.mkdtemp(prefix="tideline-bench-")
    writer.option("topic", target).option("checkpointLocation", folder).trigger(realTime="5 seconds").start()
    return {}


try:
    serve(contribute=contribute)
finally:
    spark.stop()
