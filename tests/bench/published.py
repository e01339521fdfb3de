"""The events of two published benchmarks, and what the queries over them must answer.

Bids as Nexmark makes them (https://github.com/nexmark/nexmark): half of them on an auction that is hot for a while,
prices spread over six powers of ten. Ad events as the Yahoo streaming benchmark has them: a thousand ads in a hundred
campaigns, a third of the events are views.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

from tideline.eventfiles import Event

START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
A_SECOND = 10_000  # events in a second of event time
AUCTIONS, HOT = 10_000, 20_000  # auctions; bids until another one is hot
ADS, CAMPAIGNS = 1_000, 100
Answers = dict[str, dict[str, list[Any]]]
"""query -> key -> values."""


class Stream(Protocol):
    """Events, and the answers over all that were drawn."""

    def events(self, count: int) -> Iterator[Event]: ...

    def answers(self) -> Answers: ...


def _moment(number: int) -> str:
    return (START + dt.timedelta(microseconds=number * 1_000_000 // A_SECOND)).isoformat(timespec="milliseconds")[:23]


class Bids:
    """For q17, by auction and day: bids, those of three price ranges, least, most and sum of the prices. For q5, by
    window of ten seconds every two: the most bids on one auction."""

    def __init__(self) -> None:
        self._dice = random.Random(17)
        self._by_auction: dict[str, list[Any]] = {}
        self._by_bucket: Counter[tuple[int, int]] = Counter()

    def events(self, count: int) -> Iterator[Event]:
        draw = self._dice.random
        for number in range(count):
            auction = 1000 + (number // HOT if draw() < 0.5 else int(draw() * AUCTIONS))
            price, second = int(10 ** (draw() * 6) * 100), number // A_SECOND
            self._take(auction, price)
            self._by_bucket[second // 2 * 2, auction] += 1
            text = (
                f'{{"auction":{auction},"bidder":{1000 + int(draw() * 1000)},"price":{price},"channel":"Google",'
                f'"url":"https://www.nexmark.com/item.htm?query=1","dateTime":"{_moment(number)}Z","extra":""}}'
            )
            yield Event(b"%d" % number, text.encode())

    def _take(self, auction: int, price: int) -> None:
        found = self._by_auction.setdefault(f"{auction} 2026-01-01", [0, 0, 0, 0, price, price, 0])
        found[0] += 1
        found[1 + (price >= 10_000) + (price >= 1_000_000)] += 1
        found[4], found[5], found[6] = min(found[4], price), max(found[5], price), found[6] + price

    def answers(self) -> Answers:
        windows: Counter[tuple[int, int]] = Counter()
        for (second, auction), count in self._by_bucket.items():
            for start in range(second - 8, second + 1, 2):
                windows[start, auction] += count
        most: dict[str, list[Any]] = {}
        for (start, _), count in windows.items():
            key = (START + dt.timedelta(seconds=start)).isoformat()[:19]
            most[key] = [max(count, *most.get(key, [0]))]
        return {"q17": self._by_auction, "q5": most}


class Ads:
    """For `campaigns`, by campaign and ten seconds: the views."""

    def __init__(self) -> None:
        self._dice = random.Random(18)
        self._views: dict[str, list[Any]] = {}

    def events(self, count: int) -> Iterator[Event]:
        draw = self._dice.random
        for number in range(count):
            ad, kind, moment = int(draw() * ADS), ("view", "click", "purchase")[int(draw() * 3)], _moment(number)
            if kind == "view":
                self._views.setdefault(f"{ad // 10} {moment[:18]}0", [0])[0] += 1
            text = (
                f'{{"user_id":"u{int(draw() * 100)}","page_id":"p{int(draw() * 100)}","ad_id":{ad},"ad_type":"banner",'
                f'"event_type":"{kind}","event_time":"{moment}Z","ip_address":"1.2.3.4"}}'
            )
            yield Event(b"%d" % number, text.encode())

    def answers(self) -> Answers:
        return {"campaigns": self._views}
