"""A small installation of hand-made events, for tests of serving: real ledger, real store, real measures.

Events reach the store as one state per event, merged there; `naive` computes answers from the events.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.ledger import LogStats, Segment
from tideline.measures import Count, CountBy, Last, Max, Mean, Measure, Quantiles, Sum, TopK
from tideline.merge import merge_into, segment_items
from tideline.source import Source
from tideline.stores import Store
from tideline.types import EPOCH, parse_schema, parse_type

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = int(dt.datetime(2011, 12, 1, tzinfo=dt.timezone.utc).timestamp()) * 1_000_000
COUNTRIES = ["France", "Norway", None, ""]
PRODUCTS = ["cup", "lamp", "säge"]
MONEY = parse_type("decimal(10,2)")
SALES = Source(
    "sales",
    schema="country string, product string, quantity int, amount decimal(10,2), sold_at timestamp",
    event_time="sold_at",
).resolve()


@dataclass(frozen=True)
class Event:
    """One sale; `amount` is unscaled, `at` in microseconds."""

    partition: int
    offset: int
    at: int
    country: str | None
    product: str
    quantity: int
    amount: int


def make_events(count: int, seed: int = 7) -> list[Event]:
    """Events over four days, in the order of the log, their times in none."""
    dice = random.Random(seed)
    offsets = [0, 0]
    found = []
    for _ in range(count):
        partition = dice.randrange(2)
        at = START + dice.randrange(4 * DAY // 1_000_000) * 1_000_000
        country, product = dice.choice(COUNTRIES), dice.choice(PRODUCTS)
        found.append(
            Event(
                partition,
                offsets[partition],
                at,
                country,
                product,
                dice.randint(-3, 9),
                dice.randint(-500, 90_000),
            )
        )
        offsets[partition] += 1
    return found


Make = Callable[[Measure, Event], Any]


def _count_where_negative(measure: Measure, event: Event) -> Any:
    return int(event.quantity < 0)


MEASURES: dict[str, tuple[Measure, Make]] = {
    "lines": (Count(), lambda m, e: 1),
    "returns": (Count(where="quantity < 0"), _count_where_negative),
    "revenue": (Sum("amount").resolve(MONEY), lambda m, e: [1, e.amount]),
    "items": (Sum("quantity").resolve(parse_type("int")), lambda m, e: [1, e.quantity]),
    "largest": (Max("amount").resolve(MONEY), lambda m, e: e.amount),
    "mean": (Mean("quantity").resolve(parse_type("int")), lambda m, e: [1, e.quantity]),
    "last": (
        Last("product").resolve(parse_type("string")),
        lambda m, e: [e.at, e.partition, e.offset, e.product],
    ),
    "products": (CountBy("product").resolve(parse_type("string")), lambda m, e: {e.product: 1}),
    "best": (
        TopK("product", k=2, weight="quantity").resolve(parse_type("string")),
        lambda m, e: {e.product: e.quantity},
    ),
    "spread": (Quantiles("quantity", at=(0.5,)).resolve(parse_type("int")), lambda m, e: _bins(e.quantity)),
}
ANSWERS = {"return_rate": "returns / lines", "double": "revenue * 2", "median": "spread.p50"}


def _bins(value: int) -> dict[int, int]:
    """The DDSketch bin of a whole number, as `Quantiles.entries` has Spark compute it."""
    import math

    gamma = math.log(1.01 / 0.99)
    return {0 if value == 0 else int(math.copysign(100_000 + math.ceil(math.log(abs(value)) / gamma), value)): 1}


def view(name: str, key: str, bucket: int | None, digits: str, keep: int | None = None) -> ViewDefinition:
    """A view over sales with all of MEASURES; `digits` make its fingerprint."""
    return ViewDefinition(
        name,
        "sales",
        (digits * 16)[:16],
        parse_schema(key) if key else (),
        bucket,
        keep,
        {name: measure for name, (measure, _) in MEASURES.items()},
        ANSWERS,
        {},
        None,
    )


REVENUE = view("revenue", "country string, product string", HOUR, "a")
TOTALS = view("totals", "country string", None, "b")
ALL = view("everything", "", None, "c")
HOURLY = view("hourly", "", HOUR, "d")
TYPED = view("typed", "quantity int, amount decimal(10,2), sold_at timestamp", None, "e")
VIEWS = [REVENUE, TOTALS, ALL, HOURLY, TYPED]


def key_of(definition: ViewDefinition, event: Event) -> tuple[Any, ...]:
    """The wire key of an event."""
    values = {
        "country": event.country,
        "product": event.product,
        "quantity": event.quantity,
        "amount": event.amount,
        "sold_at": event.at,
    }
    return tuple(values[column.name] for column in definition.key)


def rows_of(definition: ViewDefinition, events: Iterable[Event]) -> list[tuple[Any, int | None, list[Any]]]:
    """The view's rows of these events, merged by the measures."""
    rows: dict[tuple[Any, int | None], list[Any]] = {}
    for event in events:
        bucket = None if definition.bucket is None else event.at // definition.bucket * definition.bucket
        states = [make(measure, event) for measure, make in MEASURES.values()]
        place = (key_of(definition, event), bucket)
        old = rows.get(place)
        measures = definition.measures.values()
        rows[place] = states if old is None else [m.merge(a, b) for m, a, b in zip(measures, old, states, strict=True)]
    return [(key, bucket, states) for (key, bucket), states in rows.items()]


def cut_of(events: Sequence[Event]) -> Cut:
    """The cut after these events, which begin at the start of the log."""
    offsets = {0: 0, 1: 0}
    for event in events:
        offsets[event.partition] = event.offset + 1
    return Cut({"sales": offsets})


def log_of(events: Iterable[Event], duplicates: int = 0) -> dict[str, dict[int, LogStats]]:
    """The statistics of these events."""
    log: dict[int, LogStats] = {}
    for event in events:
        one = LogStats(1, hash((event.partition, event.offset)), 1, {}, 0, event.at)
        log[event.partition] = log.get(event.partition, LogStats()).merge(one)
    if log and duplicates:
        first = min(log)
        log[first] = log[first].merge(LogStats(duplicates=duplicates, dead={"BAD_JSON": duplicates}))
    return {"sales": log}


class Installation:
    """Events reach `store` by `commit`, and `publish` hands everything committed over to batch segments."""

    def __init__(self, store: Store, views: Sequence[ViewDefinition] = VIEWS) -> None:
        self.store = store
        self.views = views
        self.events: list[Event] = []
        self.published: list[Event] = []
        with store.write() as txn:
            ledger = txn.ledger.apply(
                {"sales": SALES.to_json()},
                {one.fingerprint: one.to_json() for one in views},
                {one.name: one.fingerprint for one in views},
                {"sales": "topic-1"},
                Cut({"sales": {0: 0, 1: 0}}),
            )
            ledger, self.speed = ledger.take_fence("speed")
            ledger, self.batch = ledger.take_fence("batch")
            txn.put_ledger(ledger.seal(self.batch))

    def commit(self, events: Sequence[Event], duplicates: int = 0) -> None:
        """A micro-batch of the speed layer."""
        with self.store.write() as txn:
            begin, end = txn.ledger.committed, cut_of([*self.events, *events])
            log = log_of(events, duplicates)
            rejects = {REVENUE.fingerprint: duplicates}
            after = txn.ledger.commit(self.speed, begin, end, txn.ledger.open.definitions, log, rejects)
            for one in self.views:
                if one.fingerprint in after.open.definitions:
                    merge_into(txn, after.open.space(one.fingerprint), one, rows_of(one, events))
            txn.put_ledger(after)
        self.events += events

    def redefine(self, changed: ViewDefinition) -> None:
        """A catalog with this view, which may be another definition of one or have a new name, is applied."""
        with self.store.write() as txn:
            ledger = txn.ledger
            definitions = {**ledger.definitions, changed.fingerprint: changed.to_json()}
            wanted = {**ledger.wanted, changed.name: changed.fingerprint}
            origin = Cut({"sales": {0: 0, 1: 0}})
            txn.put_ledger(ledger.apply(ledger.sources, definitions, wanted, {"sales": "topic-1"}, origin))

    def publish(self, floors: dict[str, int] | None = None, keep_versions: int = 3) -> None:
        """An incremental batch run over everything committed."""
        with self.store.write() as txn:
            txn.put_ledger(txn.ledger.seal(self.batch))
        with self.store.write() as txn:
            ledger = txn.ledger.archive(self.batch, txn.ledger.sealed, txn.ledger.sources)
            ledger, ids = ledger.allot(self.batch, len(self.views))
            txn.put_ledger(ledger)
        fresh = self.events[len(self.published) :]
        with self.store.write() as txn:
            ledger = txn.ledger
            segments, views = [], {}
            for one, id in zip(self.views, ids, strict=True):
                items = segment_items(one, rows_of(one, fresh))
                segment = Segment(id, one.fingerprint, ledger.version.cut, ledger.sealed, len(items), "incremental")
                txn.load(segment.space, items)
                segments.append(segment)
                views[one.fingerprint] = (*ledger.version.views.get(one.fingerprint, ()), id)
            total, rejects = ledger.log(), {REVENUE.fingerprint: ledger.rejects(REVENUE.fingerprint)}
            txn.put_ledger(
                ledger.publish(
                    self.batch,
                    ledger.sealed,
                    views,
                    segments,
                    total,
                    rejects=rejects,
                    floors=floors or {},
                    published_at=1_700_000_000.0,
                    last_batch={
                        "mode": "incremental",
                        "seconds": 1.5,
                        "rows": 3,
                        "steps": [{"name": "archive", "seconds": 0.5}],
                    },
                    keep_versions=keep_versions,
                )
            )
        self.published = list(self.events)


def installed(store: Store, count: int = 600) -> Installation:
    """Two versions and a speed layer beyond them, with a third of the events each."""
    events = make_events(count)
    installation = Installation(store)
    third = count // 3
    installation.commit(events[:third], duplicates=2)
    installation.publish()
    installation.commit(events[third : 2 * third])
    installation.publish()
    installation.commit(events[2 * third :], duplicates=1)
    return installation


def naive(events: Iterable[Event]) -> dict[str, Any]:
    """Every measure and answer over these events, computed from the values themselves."""
    found = list(events)
    amounts = [Decimal(event.amount) / 100 for event in found]
    quantities = [event.quantity for event in found]
    weights: dict[str, int] = {}
    products: dict[str, int] = {}
    for event in found:
        weights[event.product] = weights.get(event.product, 0) + event.quantity
        products[event.product] = products.get(event.product, 0) + 1
    returns = sum(1 for quantity in quantities if quantity < 0)
    return {
        "lines": len(found),
        "returns": returns,
        "revenue": sum(amounts, Decimal(0)),
        "items": sum(quantities),
        "largest": max(amounts),
        "mean": sum(quantities) / len(found),
        "last": max(found, key=lambda event: (event.at, event.partition, event.offset)).product,
        "products": dict(sorted(products.items())),
        "best": [list(item) for item in sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:2]],
        "median": sorted(quantities)[(len(quantities) + 1) // 2 - 1],
        "return_rate": returns / len(found),
        "double": sum(amounts, Decimal(0)) * 2,
    }


def moment(micros: int) -> dt.datetime:
    """A time as rows have it."""
    return EPOCH + dt.timedelta(microseconds=micros)
