"""The simulated shop."""

from __future__ import annotations

import datetime as dt
import json
from itertools import islice

from tideline.eventfiles import Event
from tideline.produce import REPEAT_WINDOW, with_repeats
from tideline.simulate.shop import BREAKS, Shop
from tideline.types import parse_time

START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


def test_the_same_seed_and_start_give_the_same_events() -> None:
    first = list(islice(Shop(START).events(), 2000))
    assert first == list(islice(Shop(START).events(), 2000))
    assert first != list(islice(Shop(START, seed=2).events(), 2000))


def test_another_start_gives_other_ids_so_that_a_second_run_repeats_nothing() -> None:
    def ids(start: dt.datetime) -> set[bytes | None]:
        return {event.key for event, _ in islice(Shop(start).events(), 500)}

    assert not ids(START) & ids(START + dt.timedelta(seconds=1))


def test_customers_browse_then_fill_carts_then_buy_the_same_product() -> None:
    carts = set()
    kinds = set()
    for event, _ in islice(Shop(START, broken=0, repeated=0).events(), 3000):
        fields = json.loads(event.value)
        kinds.add(fields["kind"])
        if fields["kind"] == "cart":
            carts.add((fields["customer"], fields["product"], fields["quantity"]))
        if fields["kind"] == "purchase":
            assert (fields["customer"], fields["product"], fields["quantity"]) in carts
    assert kinds == {"browse", "cart", "purchase"}


def test_late_repeated_and_broken_events_come_as_often_as_asked() -> None:
    shop = Shop(START, late=0.1, repeated=0.05, broken=0.02, rate=100)
    seen: set[bytes | None] = set()
    late = repeats = unreadable = 0
    for number, (event, repeated) in enumerate(islice(shop.events(), 20_000)):
        repeats += repeated
        assert not repeated or event.key in seen
        seen.add(event.key)
        try:
            at = parse_time(json.loads(event.value)["at"])
        except (ValueError, KeyError):
            unreadable += 1
            continue
        late += not repeated and at < (START.timestamp() + number / 110) * 1e6 - 60e6
    assert 1600 < late < 2200
    assert 800 < repeats < 1150
    assert unreadable > 20_000 * 0.02 * 3 / len(BREAKS)


def test_repeats_pick_from_the_latest_events_only() -> None:
    events = [Event(b"%d" % number, b"v%d" % number) for number in range(3 * REPEAT_WINDOW)]
    stream = list(with_repeats(events, 0.2, seed=3))
    assert stream == list(with_repeats(events, 0.2, seed=3))
    assert [event for event, repeated in stream if not repeated] == events
    latest, at_once, repeats = -1, 0, 0
    for event, repeated in stream:
        number = int(event.key or b"")
        if repeated:
            assert latest - REPEAT_WINDOW < number <= latest
            at_once += number == latest
            repeats += 1
        else:
            latest = number
    assert 0.4 < at_once / repeats < 0.6
