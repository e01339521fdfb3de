"""The events of the benchmark, 145 bytes each, and what three views of them must answer."""

from __future__ import annotations

import datetime as dt
import random
from collections import deque
from collections.abc import Iterator
from typing import Any

from contestants import EngineFault

from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline import Count, Last, Max, Mean, Min, Source, Sum, View, hours
from tideline.eventfiles import Event

SCHEMA = (
    "line_id string, product string, quantity int, price double, customer string, country string, sold_at timestamp"
)
START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
COUNTRIES = ("United Kingdom", "France", "Germany", "Spain", "Norway")
PRODUCTS, CUSTOMERS, SECONDS = 4_000, 20_000, 86_400
VIEWS = ("by_product", "by_customer", "by_hour")
Answers = dict[str, dict[str, list[Any]]]
"""view -> key -> measures; the hour of `by_hour` stands behind its country, as `France 2026-01-01T07`."""


def source(topic: str, identified: bool = False) -> Source:
    """The source over a topic; with ids of events, so that repeats are looked for, or without."""
    return Source(
        "sales",
        schema=SCHEMA,
        topic=topic,
        event_time="sold_at",
        event_id="line_id" if identified else None,
        max_ahead=None,
    )


def views(sales: Source) -> list[View]:
    """Three views: 4,000 products, 20,000 customers, 5 countries by 24 hours."""
    lines, quantity = {"lines": Count()}, {"quantity": Sum("quantity")}
    most = {"largest": Max("price")}
    return [
        View("by_product", source=sales, key="product", measures={**lines, **quantity, **most}),
        View("by_customer", source=sales, key="customer", measures={**lines, **quantity}),
        View("by_hour", source=sales, key="country", bucket=hours(1), measures={**lines, **quantity, **most}),
    ]


def many_views(sales: Source, count: int) -> list[View]:
    """Views of many shapes: with keys of few and of many values, with and without hours and filters."""
    keys = (("product",), ("customer",), ("country",), ("country", "product"), ("line_id",))
    measures = (
        {"lines": Count(), "quantity": Sum("quantity")},
        {"largest": Max("price"), "least": Min("price")},
        {"mean": Mean("price"), "last": Last("quantity")},
    )
    filters = (None, "quantity > 10", "country <> 'Norway'", "price < 50")
    return [
        View(
            f"view_{number}",
            source=sales,
            key=keys[number % len(keys)],
            bucket=hours(1) if number % 2 else None,
            where=filters[number % len(filters)],
            measures=measures[number % len(measures)],
        )
        for number in range(count)
    ]


class Sales:
    """A stream of invoice lines; `answers` are those over all that were drawn so far."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.answers: Answers = {view: {} for view in VIEWS}
        self._dice = random.Random(seed)
        self._drawn = 0

    def events(self, count: int) -> Iterator[Event]:
        """The next `count` lines, keyed by their ids."""
        draw = self._dice.random
        moments = [(START + dt.timedelta(seconds=second)).isoformat()[:19] for second in range(SECONDS)]
        by_product, by_customer, by_hour = self.answers.values()
        for number in range(self._drawn, self._drawn + count):
            product, customer = f"p{int(draw() * PRODUCTS)}", f"c{int(draw() * CUSTOMERS)}"
            quantity, price = 1 + int(draw() * 50), int(draw() * 10_000) / 100
            country, moment = COUNTRIES[int(draw() * len(COUNTRIES))], moments[int(draw() * SECONDS)]
            _take(by_product, product, quantity, price)
            _take(by_customer, customer, quantity)
            _take(by_hour, f"{country} {moment[:13]}", quantity, price)
            name = f"{self.seed}-{number}"
            text = (
                f'{{"line_id":"{name}","product":"{product}","quantity":{quantity},"price":{price},'
                f'"customer":"{customer}","country":"{country}","sold_at":"{moment}Z"}}'
            )
            yield Event(name.encode(), text.encode())
        self._drawn += count


def _take(view: dict[str, list[Any]], key: str, quantity: int, price: float | None = None) -> None:
    found = view.get(key)
    if found is None:
        view[key] = [1, quantity] if price is None else [1, quantity, price]
        return
    found[0] += 1
    found[1] += quantity
    if price is not None and price > found[2]:
        found[2] = price


def repeated(seed: int, pool: int, count: int) -> Answers:
    """The answers over the first `count` events where those of a seed come again after `pool` of them."""
    whole, rest = divmod(count, pool)
    every, last = Sales(seed), Sales(seed)
    deque(every.events(pool), 0)
    deque(last.events(rest), 0)
    found: Answers = {view: dict(rows) for view, rows in last.answers.items()}
    for view, rows in every.answers.items() if whole else ():
        for key, (lines, quantity, *largest) in rows.items():
            more = last.answers[view].get(key, [0, 0, *largest])
            most = [max(*pair) for pair in zip(largest, more[2:], strict=True)]
            found[view][key] = [whole * lines + more[0], whole * quantity + more[1], *most]
    return found


def answer(row: dict[str, Any]) -> tuple[str, list[Any]]:
    """A row of Tideline's as a key and its measures."""
    key = next(str(row[name]) for name in ("product", "customer", "country") if name in row)
    hour = row.get("sold_at") or row.get("bucket")
    measures = [row[name] for name in ("lines", "quantity", "largest") if name in row]
    return (f"{key} {hour.isoformat()[:13]}" if hour else key), measures


def answered(reader: Reader) -> Answers:
    """What an installation with the three views answers."""
    return {view: dict(answer(row) for row in reader.query(Query(view)).rows) for view in VIEWS}


def check(expected: Answers, found: Answers) -> None:
    """Raises EngineFault where answers differ, with at most ten places."""
    places = [
        f"{view} {key}: {found.get(view, {}).get(key)} instead of {expected[view].get(key)}"
        for view in expected
        for key in {**expected[view], **found.get(view, {})}
        if expected[view].get(key) != found.get(view, {}).get(key)
    ]
    if places:
        raise EngineFault(f"wrong answers: {'; '.join(places[:10])}")
