"""Tideline's speed layer on a backlog: from the start of its query to the commit that covers the topic."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from cycle_parts import timed
from deltalake import DeltaTable
from engine import serve
from sales import answer, answered, many_views, source, views

from batch_layer.engine import SparkEngine
from batch_layer.run import BatchLayer
from serving_layer.query import Query
from serving_layer.reader import Reader
from speed_layer.fold import FEW, SparkFolder
from speed_layer.layer import SpeedLayer
from speed_layer.stream import SpeedQuery
from tideline import Count, View
from tideline.apply import apply_catalog
from tideline.catalog import collect_catalog, load_catalog
from tideline.cut import Cut
from tideline.oracle import verify
from tideline.runtime.home import Home
from tideline.runtime.installation import layer_session
from tideline.runtime.topics import log_end_offsets
from tideline.settings import Settings
from tideline.spark.resolve import resolve_catalog
from tideline.stores.lmdb import LmdbStore

EXAMPLES = Path(__file__).parents[2] / "examples"
scratch = Path(tempfile.mkdtemp(prefix="tideline-bench-"))
spark = layer_session("bench", Home(scratch / "session").prepare(), Settings())


def _speed(
    bootstrap: str, home: Home, store: LmdbStore, shown: Sequence[View], most: int, few: int = FEW
) -> list[float]:
    """Runs the speed layer from the topic's start to its end; seconds from its start to each commit."""
    resolved = resolve_catalog(spark, collect_catalog(list(shown), "bench"))
    apply_catalog(store, resolved, bootstrap, 4, home.master)
    topic = shown[0].source.topic
    end, stop = Cut(log_end_offsets(bootstrap, [topic])), threading.Event()
    moments: list[float] = []

    def committed(_: object) -> None:
        moments.append(time.monotonic())
        with store.snapshot() as snapshot:
            if snapshot.ledger.committed.covers(end):
                stop.set()

    folder = SparkFolder(spark, bootstrap, home.master, home.tmp, few)
    query = SpeedQuery(SpeedLayer(store, folder, committed), folder, home.tmp, "0 seconds", most)
    began = time.monotonic()
    query.run(stop)
    return [moment - began for moment in moments]


@contextlib.contextmanager
def _installation() -> Iterator[tuple[Home, LmdbStore]]:
    home = Home(scratch / str(time.monotonic_ns())).prepare()
    with LmdbStore.open(home.path, create=True) as store:
        yield home, store
    shutil.rmtree(home.path)


def drain(bootstrap: str, topic: str, answers: str, most: int, identified: bool = False) -> dict[str, Any]:
    """A new installation each time; `most` offsets a micro-batch."""
    shown = views(source(topic, identified))
    with _installation() as (home, store):
        moments = _speed(bootstrap, home, store, shown, most)
        with Reader(home, store=store) as reader:
            found = answered(reader)
    Path(answers).write_text(json.dumps(found), "utf-8")
    return {"seconds": moments[-1]}


def workload(bootstrap: str, topic: str, answers: str, most: int, example: str, view: str) -> dict[str, Any]:
    """One view of an example's catalog, as `published.py` writes its answers; the query for them counts too."""
    declared = load_catalog(EXAMPLES / f"{example}.py").views[view]
    shown = replace(declared, source=replace(declared.source, topic=topic))
    with _installation() as (home, store):
        moments = _speed(bootstrap, home, store, [shown], most)
        began = time.monotonic()
        with Reader(home, store=store) as reader:
            rows = reader.query(PUBLISHED[view]).rows
        seconds = moments[-1] + time.monotonic() - began
    Path(answers).write_text(json.dumps({view: dict(_PUBLISHED_ROW[view](row) for row in rows)}), "utf-8")
    return {"seconds": seconds}


PUBLISHED = {
    "q17": Query("q17"),
    "q5": Query("q5", window="10s", slide="2s", order="-bids", limit_by="window:1"),
    "campaigns": Query("campaigns"),
}
_OF_Q17 = ("total_bids", "rank1_bids", "rank2_bids", "rank3_bids", "min_price", "max_price", "sum_price")
_PUBLISHED_ROW: dict[str, Callable[[dict[str, Any]], tuple[str, list[Any]]]] = {
    "q17": lambda row: (f"{row['auction']} {row['bucket']:%Y-%m-%d}", [row[name] for name in _OF_Q17]),
    "q5": lambda row: (f"{row['window']:%Y-%m-%dT%H:%M:%S}", [row["bids"]]),
    "campaigns": lambda row: (f"{row['campaign']} {row['bucket']:%Y-%m-%dT%H:%M:%S}", [row["views"]]),
}


def cycles(bootstrap: str, topic: str, most: int, count: int, few: int = FEW, checked: bool = True) -> dict[str, Any]:
    """Seconds of each micro-batch of `most` events, over `count` views with keys, hours, filters and measures of all
    kinds; up to `few` records of one are decoded in the driver."""
    with _installation() as (home, store):
        moments = _speed(bootstrap, home, store, many_views(source(topic, identified=True), count), most, few)
        equal = verify(home, bootstrap=bootstrap).ok if checked else None
    return {"cycles": [later - sooner for sooner, later in pairwise(moments)], "equal": equal}


def parts(bootstrap: str, topic: str, most: int, count: int, few: int = FEW) -> dict[str, Any]:
    """Milliseconds of a micro-batch by part, the same otherwise; timing them takes some time too."""
    with timed(spark) as found:
        cycles(bootstrap, topic, most, count, few)
        return found()


class Installed:
    """The installation of the batch runs, from `install` on."""

    home: Home
    store: LmdbStore
    layer: BatchLayer


def install(bootstrap: str, topic: str, by_line: bool = False) -> dict[str, Any]:
    """A home whose topic is archived from its start, with ids, so that repeats are looked for; where it is.

    `by_line` has one view in which every event is a key of its own, instead of the three.
    """
    sales = source(topic, identified=True)
    shown = [View("by_line", source=sales, key="line_id", measures={"lines": Count()})] if by_line else views(sales)
    home = Installed.home = Home(scratch / "installed").prepare()
    store = Installed.store = LmdbStore.open(home.path, create=True)
    resolved = resolve_catalog(spark, collect_catalog(shown, "bench"))
    apply_catalog(store, resolved, bootstrap, 4, home.master)
    Installed.layer = BatchLayer(store, home, SparkEngine(spark, store, home, bootstrap))
    return {"home": str(home.path)}


def batch(full: bool) -> dict[str, Any]:
    """One batch run, and its steps."""
    began = time.monotonic()
    report = Installed.layer.run(full=full) or {}
    return {
        "seconds": time.monotonic() - began,
        "steps": {step["name"]: step["seconds"] for step in report.get("steps", ())},
    }


_LINES = "count(*) lines, cast(sum(quantity) as bigint) quantity"
SQL = {
    "by_product": f"select product, {_LINES}, max(price) largest from events group by product",
    "by_customer": f"select customer, {_LINES} from events group by customer",
    "by_hour": f"select country, {{hour}} bucket, {_LINES}, max(price) largest from events group by country, {{hour}}",
}


def plain_spark() -> dict[str, Any]:
    """The same aggregates by Spark SQL on the master's Delta table, each written to Parquet."""
    spark.read.format("delta").load(str(Installed.home.master / "sales")).createOrReplaceTempView("all_events")
    spark.sql("select * from all_events where _reason is null and not _duplicate").createOrReplaceTempView("events")
    began = time.monotonic()
    for view, text in SQL.items():
        rows = spark.sql(text.format(hour="date_trunc('hour', sold_at)"))
        rows.write.mode("overwrite").parquet(str(scratch / f"plain-{view}"))
    return {"seconds": time.monotonic() - began}


def plain_duckdb() -> dict[str, Any]:
    """The same by DuckDB on the table's files, with two threads."""
    files = DeltaTable(str(Installed.home.master / "sales")).file_uris()
    with duckdb.connect(config={"threads": 2}) as database:
        database.execute("set TimeZone = 'UTC'")
        began = time.monotonic()
        for view, text in SQL.items():
            table = text.format(hour="date_trunc('hour', sold_at)").replace(
                "from events", "from read_parquet(?) where _reason is null and not _duplicate"
            )
            rows = database.execute(table, [files]).to_arrow_table()
            pq.write_table(rows, scratch / f"duckdb-{view}.parquet")
        return {"seconds": time.monotonic() - began}


def answers(of: str, path: str) -> dict[str, Any]:
    """Writes what `tideline`, `spark` or `duckdb` found last."""
    if of == "tideline":
        with Reader(Installed.home, store=Installed.store) as reader:
            found = answered(reader)
    else:
        file = "plain-{}" if of == "spark" else "duckdb-{}.parquet"
        tables = {view: pq.read_table(scratch / file.format(view)) for view in SQL}
        found = {view: dict(map(answer, table.to_pylist())) for view, table in tables.items()}
    Path(path).write_text(json.dumps(found), "utf-8")
    return {}


def lines(ids: Sequence[str]) -> dict[str, Any]:
    """How many lines the installation holds in all, and the sum over some ids."""
    with Reader(Installed.home, store=Installed.store) as reader:
        result = reader.query(Query("by_line", key={"line_id": list(ids)}))
        held = Cut.from_json(result.proof["committed_cut"]).count_since(reader.ledger().origin)
    return {"held": held, "sum": sum(row["lines"] for row in result.rows)}


try:
    serve(
        drain=drain,
        workload=workload,
        cycles=cycles,
        parts=parts,
        install=install,
        batch=batch,
        plain_spark=plain_spark,
        plain_duckdb=plain_duckdb,
        answers=answers,
        lines=lines,
    )
finally:
    spark.stop()
    shutil.rmtree(scratch, ignore_errors=True)
