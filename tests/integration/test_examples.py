"""The catalogs of `examples/` can be applied, their views are exact, and they answer what their benchmarks ask."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from installed import Installed
from pyspark.sql import SparkSession

from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.catalog import load_catalog
from tideline.spark.resolve import resolve_catalog
from tideline.testing import check_views

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["nexmark", "ysb"])
def test_the_laws_hold_of_every_view(spark: SparkSession, name: str) -> None:
    outcomes = list(check_views(spark, resolve_catalog(spark, load_catalog(EXAMPLES / f"{name}.py")), None, None, None))
    # Of the made-up ads some have no place in the array of campaigns: those events are left to Spark.
    for law in ("split", "spark", *(["arrow"] if name == "nexmark" else [])):
        assert {outcome.view for outcome in outcomes if outcome.law == law} == {outcome.view for outcome in outcomes}
    assert [outcome for outcome in outcomes if not outcome.holds] == []


def answers(installed: Installed, name: str, events: list[dict[str, Any]], *queries: Query) -> list[Any]:
    """What an example's installation answers after these events, half of them from its batch layer."""
    catalog = load_catalog(EXAMPLES / f"{name}.py")
    (source,) = (replace(source, topic=installed.topic) for source in catalog.sources.values())
    installed.apply(*(replace(view, source=source) for view in catalog.views.values()))
    values = [json.dumps(event).encode() for event in events]
    installed.send(values[::2])
    installed.batch()
    installed.send(values[1::2])
    with installed.speed():
        installed.wait_committed()
    with Reader(installed.home, store=installed.store) as reader:
        return [result.rows for result in reader.query_many(list(queries))]


def test_nexmarks_auctions_a_day_and_its_hot_items(installed: Installed) -> None:
    dice = random.Random(5)
    bids = [
        {
            "auction": 1000 + dice.randrange(5),
            "bidder": n,
            "price": dice.choice([5, 9_999, 10_000, 999_999, 1_000_000]),
            "dateTime": f"2026-01-0{dice.randrange(1, 3)}T00:00:{dice.randrange(30):02}Z",
        }
        for n in range(400)
    ]
    q17, q5 = answers(
        installed,
        "nexmark",
        bids,
        Query("q17"),
        Query("q5", window="10s", slide="2s", order="-bids", limit_by="window:1"),
    )
    days = {(row["auction"], f"{row['bucket']:%Y-%m-%d}"): row for row in q17}
    assert set(days) == {(bid["auction"], bid["dateTime"][:10]) for bid in bids}
    for (auction, day), row in days.items():
        prices = [bid["price"] for bid in bids if bid["auction"] == auction and bid["dateTime"][:10] == day]
        assert (row["total_bids"], row["rank1_bids"], row["rank3_bids"], row["sum_price"]) == (
            len(prices),
            sum(price < 10_000 for price in prices),
            sum(price >= 1_000_000 for price in prices),
            sum(prices),
        )
        assert (row["rank2_bids"], row["min_price"], row["max_price"]) == (
            sum(10_000 <= price < 1_000_000 for price in prices),
            min(prices),
            max(prices),
        )
        assert row["avg_price"] == pytest.approx(sum(prices) / len(prices))
    counts: Counter[tuple[dt.datetime, int]] = Counter()
    for bid in bids:
        at = dt.datetime.fromisoformat(bid["dateTime"].replace("Z", "+00:00"))
        for back in range(5):
            counts[at - dt.timedelta(seconds=at.second % 2 + 2 * back), bid["auction"]] += 1
    most = {start: max(n for (begin, _), n in counts.items() if begin == start) for start, _ in counts}
    assert {row["window"]: row["bids"] for row in q5} == most


def test_views_of_ads_by_campaign_and_ten_seconds(installed: Installed) -> None:
    dice = random.Random(6)
    events = [
        {
            "ad_id": dice.randrange(-1, 1_001),
            "event_type": dice.choice(["view", "click", "purchase"]),
            "event_time": f"2026-01-01T00:00:{dice.randrange(60):02}Z",
        }
        for _ in range(400)
    ]
    (found,) = answers(installed, "ysb", events, Query("campaigns"))
    expected = Counter(
        (event["ad_id"] // 10 if event["ad_id"] < 1_000 else None, event["event_time"][:-2])
        for event in events
        if event["event_type"] == "view" and event["ad_id"] >= 0
    )
    assert {(row["campaign"], f"{row['bucket']:%Y-%m-%dT%H:%M:%S}"[:-1]): row["views"] for row in found} == expected
