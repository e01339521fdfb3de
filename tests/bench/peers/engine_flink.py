"""PyFlink SQL on a backlog: three views in one job, into topics that keep the last value of each key."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from engine import serve
from pyflink.table import EnvironmentSettings, TableEnvironment

JAR = Path(sys.prefix) / "kafka.jar"
SOURCE = """
create table sales (line_id string, product string, quantity int, price double, customer string, country string,
                    sold_at string)
with ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}',
      'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json')
"""
SINK = """
create table {view} (k string, lines bigint, quantity bigint, largest double, primary key (k) not enforced)
with ('connector' = 'upsert-kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}',
      'key.format' = 'json', 'value.format' = 'json')
"""
KEYS = {"by_product": "product", "by_customer": "customer", "by_hour": "country || ' ' || substring(sold_at, 1, 13)"}


def drain(bootstrap: str, topic: str, sinks: dict[str, str], commit_ms: int, mini_batch: bool) -> dict[str, Any]:
    """`sinks` are the topics of the views. With `mini_batch` rows are kept back for `commit_ms` and folded together."""
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    options = {
        "pipeline.jars": JAR.resolve().as_uri(),
        "parallelism.default": "2",
        "pipeline.object-reuse": "true",
        "execution.checkpointing.interval": f"{commit_ms} ms",
        "table.exec.mini-batch.enabled": str(mini_batch).lower(),
        "table.exec.mini-batch.allow-latency": f"{commit_ms} ms",
        "table.exec.mini-batch.size": "100000",
        "taskmanager.memory.process.size": "2g",
    }
    for name, value in options.items():
        table.get_config().set(name, value)
    table.execute_sql(SOURCE.format(topic=topic, bootstrap=bootstrap))
    together = table.create_statement_set()
    for view, key in KEYS.items():
        table.execute_sql(SINK.format(view=view, topic=sinks[view], bootstrap=bootstrap))
        together.add_insert_sql(
            f"insert into {view} select {key}, count(*), sum(cast(quantity as bigint)), max(price) "
            f"from sales group by {key}"
        )
    began = time.monotonic()
    together.execute().wait()
    return {"seconds": time.monotonic() - began}


serve(drain=drain)
