"""Pathway on a backlog: from `pw.run` to the commit in which the last record is in."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from pathlib import Path
from typing import Any

import pathway as pw
from engine import serve


class Sale(pw.Schema):
    line_id: str
    product: str
    quantity: int
    price: float
    customer: str
    country: str
    sold_at: str


def drain(bootstrap: str, topic: str, answers: str, records: int, commit_ms: int, static: bool) -> dict[str, Any]:
    """Once a process. `static` reads what is there and ends; else it commits every `commit_ms`."""
    sales = pw.io.kafka.read(
        {"bootstrap.servers": bootstrap, "group.id": f"bench-{time.time_ns()}", "auto.offset.reset": "earliest"},
        topic=topic,
        schema=Sale,
        format="json",
        mode="static" if static else "streaming",
        autocommit_duration_ms=commit_ms,
    )
    hours = sales.select(
        key=sales.country + " " + sales.sold_at.str.slice(0, 13), quantity=sales.quantity, price=sales.price
    )
    lines, quantity = pw.reducers.count(), pw.reducers.sum(pw.this.quantity)
    largest = pw.reducers.max(pw.this.price)
    tables = {
        "by_product": sales.groupby(sales.product).reduce(
            key=pw.this.product, lines=lines, quantity=quantity, largest=largest
        ),
        "by_customer": sales.groupby(sales.customer).reduce(key=pw.this.customer, lines=lines, quantity=quantity),
        "by_hour": hours.groupby(hours.key).reduce(key=pw.this.key, lines=lines, quantity=quantity, largest=largest),
    }
    found: dict[str, dict[str, list[Any]]] = {name: {} for name in tables}
    whole = threading.Event()

    def watch(rows: dict[str, list[Any]], table: pw.Table) -> None:
        def change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
            if is_addition:
                rows[row["key"]] = [row[name] for name in ("lines", "quantity", "largest") if name in row]

        def committed(_: int) -> None:
            if all(sum(row[0] for row in view.values()) == records for view in found.values()):
                whole.set()

        pw.io.subscribe(table, on_change=change, on_time_end=committed)

    for name, table in tables.items():
        watch(found[name], table)
    run = threading.Thread(target=pw.run, kwargs={"monitoring_level": pw.MonitoringLevel.NONE}, daemon=True)
    began = time.monotonic()
    run.start()
    whole.wait()
    seconds = time.monotonic() - began
    Path(answers).write_text(json.dumps(found), "utf-8")
    return {"seconds": seconds}


class Bid(pw.Schema):
    auction: int
    price: int
    dateTime: str


class AdEvent(pw.Schema):
    ad_id: int
    event_type: str
    event_time: str


def workload(bootstrap: str, topic: str, answers: str, example: str, view: str) -> dict[str, Any]:
    """A published query over what the topic holds, as `published.py` writes its answers; once a process."""
    events = pw.io.kafka.read(
        {"bootstrap.servers": bootstrap, "group.id": f"bench-{time.time_ns()}", "auto.offset.reset": "earliest"},
        topic=topic,
        schema=Bid if example == "nexmark" else AdEvent,
        format="json",
        mode="static",
    )
    this, found = pw.this, {}
    if view == "q17":
        keyed = events.select(this.price, key=this.auction.to_string() + " " + this.dateTime.str.slice(0, 10))
        counts = {
            f"rank{number}": pw.reducers.sum(pw.cast(int, (this.price >= low) & (this.price < high)))
            for number, (low, high) in enumerate(RANGES)
        }
        edges = {"least": pw.reducers.min(this.price), "most": pw.reducers.max(this.price)}
        total = pw.reducers.sum(this.price)
        table = keyed.groupby(this.key).reduce(this.key, n=pw.reducers.count(), **counts, **edges, total=total)
    elif view == "q5":
        timed = events.select(this.auction, at=this.dateTime.dt.strptime("%Y-%m-%dT%H:%M:%S%.fZ"))
        window = pw.temporal.sliding(hop=dt.timedelta(seconds=2), duration=dt.timedelta(seconds=10))
        counted = timed.windowby(timed.at, window=window, instance=timed.auction).reduce(
            key=this._pw_window_start, n=pw.reducers.count()
        )
        most = counted.groupby(this.key).reduce(this.key, n=pw.reducers.max(this.n))
        table = most.select(this.n, key=this.key.dt.strftime("%Y-%m-%dT%H:%M:%S"))
    else:
        views = events.filter(this.event_type == "view")
        start = this.event_time.str.slice(0, 18) + "0"
        keyed = views.select(key=(this.ad_id // 10).to_string() + " " + start)
        table = keyed.groupby(this.key).reduce(this.key, n=pw.reducers.count())

    def change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if is_addition:
            found[row["key"]] = [value for name, value in row.items() if name != "key"]

    pw.io.subscribe(table, on_change=change)
    began = time.monotonic()
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    seconds = time.monotonic() - began
    Path(answers).write_text(json.dumps({view: found}), "utf-8")
    return {"seconds": seconds}


RANGES = ((0, 10_000), (10_000, 1_000_000), (1_000_000, 1 << 62))
serve(drain=drain, workload=workload)
