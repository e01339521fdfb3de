"""A shop whose customers browse, fill carts and buy: an endless stream of events, the same for the same seed.

Some events arrive late, some arrive twice, a few are broken, in the ways that real producers break them.
"""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from threading import Event as Flag
from typing import Any

from tideline.eventfiles import Event
from tideline.produce import Progress, Summary, send_all

CATEGORIES = ("books", "garden", "kitchen", "lighting", "music", "toys")
COUNTRIES = (
    "Belgium",
    "Chile",
    "Denmark",
    "France",
    "Germany",
    "Japan",
    "Kenya",
    "Norway",
    "Spain",
    "United Kingdom",
)
SCHEMA = (
    "event_id string, kind string, product string, category string, customer string, country string, "
    "price decimal(10,2), quantity int, at timestamp"
)
_RECENT = 5_000  # events; a repeat is one of the latest so many


@dataclass(frozen=True)
class Shop:
    """What the stream looks like. Probabilities are per event; `start` (aware) is the time of the first one.

    `rate`, in events per second, is also how fast the events' own clock runs: event n happens at start + n /
    rate, but for late ones, which happened up to three days before.
    """

    start: dt.datetime
    seed: int = 1
    rate: float = 200.0
    customers: int = 2_000
    products: int = 120
    late: float = 0.02
    repeated: float = 0.01
    broken: float = 0.001

    def events(self) -> Iterator[tuple[Event, bool]]:
        """Events keyed by their id, without end; the flag marks the repeats."""
        return _Stream(self).run()


class _Stream:
    """The state of one pass over a shop's events."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.chance = random.Random(f"shop-{shop.seed}")
        self.prefix = f"{int(shop.start.timestamp() * 1000):x}-{shop.seed}"
        names = random.Random(f"catalog-{shop.seed}")
        self.prices = [round(10 ** names.uniform(0.3, 2.4), 2) for _ in range(shop.products)]
        self.categories = [names.choice(CATEGORIES) for _ in range(shop.products)]
        self.countries = names.choices(COUNTRIES, [3, 1, 2, 9, 12, 4, 1, 2, 5, 14], k=shop.customers)
        self.popularity = list(accumulate(1 / (rank + 3) for rank in range(shop.products)))
        self.browsed: deque[tuple[int, int]] = deque(maxlen=500)  # (customer, product)
        self.carts: deque[tuple[int, int, int]] = deque(maxlen=500)  # (customer, product, quantity)

    def run(self) -> Iterator[tuple[Event, bool]]:
        shop, chance = self.shop, self.chance
        recent: deque[Event] = deque(maxlen=_RECENT)
        number = broken = 0
        while True:
            fields = self.step(number)
            number += 1
            if chance.random() < shop.broken:
                event = BREAKS[broken % len(BREAKS)](fields)
                broken += 1
            else:
                event = Event(fields["event_id"].encode(), _dump(fields))
                recent.append(event)
            yield event, False
            if recent and chance.random() < shop.repeated:
                yield chance.choice(recent), True

    def step(self, number: int) -> dict[str, Any]:
        """The fields of event `number`: a browse, or a step onward from one."""
        chance, draw = self.chance, self.chance.random()
        quantity = 1
        if draw < 0.12 and self.carts:
            kind = "purchase"
            customer, product, quantity = self._take(self.carts)
        elif draw < 0.35 and self.browsed:
            kind = "cart"
            customer, product = self._take(self.browsed)
            quantity = 1 + int(chance.expovariate(0.9))
            self.carts.append((customer, product, quantity))
        else:
            kind = "browse"
            customer = int(chance.betavariate(1, 3) * self.shop.customers)
            product = chance.choices(range(self.shop.products), cum_weights=self.popularity)[0]
            self.browsed.append((customer, product))
        at = self.shop.start + dt.timedelta(seconds=number / self.shop.rate)
        if chance.random() < self.shop.late:
            at -= dt.timedelta(seconds=min(60 + chance.expovariate(1 / 7200), 3 * 86400))
        return {
            "event_id": f"{self.prefix}-{number:08d}",
            "kind": kind,
            "product": f"product-{product:03d}",
            "category": self.categories[product],
            "customer": f"customer-{customer:05d}",
            "country": self.countries[customer],
            "price": f"{self.prices[product]:.2f}",
            "quantity": quantity,
            "at": at.astimezone(dt.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def _take(self, queue: deque[Any]) -> Any:
        queue.rotate(-self.chance.randrange(len(queue)))
        return queue.popleft()


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _broken(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], Event]:
    return lambda fields: Event(fields["event_id"].encode(), _dump(change(fields)))


def _without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda fields: {key: value for key, value in fields.items() if key != name}


# What can be wrong with an event, in turn.
BREAKS: tuple[Callable[[dict[str, Any]], Event], ...] = (
    lambda fields: Event(fields["event_id"].encode(), _dump(fields)[:-20]),  # cut off
    _broken(lambda fields: {**fields, "price": "twelve"}),
    _broken(_without("at")),
    _broken(_without("event_id")),
    _broken(lambda fields: {**fields, "quantity": 2**40}),
    lambda fields: Event(fields["event_id"].encode(), b""),
    lambda fields: Event(fields["event_id"].encode(), _dump(fields).replace(b"customer-", b"\xff\xfe", 1)),
    _broken(lambda fields: {**fields, "at": "2099-01-01T00:00:00.000Z"}),
)


def run_shop(
    shop: Shop,
    topic: str,
    bootstrap: str,
    stop: Flag,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Send the shop's events to a topic at its rate until `stop` is set."""
    return send_all(shop.events(), topic, bootstrap, rate=shop.rate, progress=progress, stop=stop)
