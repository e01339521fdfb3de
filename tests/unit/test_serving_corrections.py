"""Answers where rows may be retracted: a group without rows is none, at the level of the query's groups."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import serving_case
from serving_case import DAY, HOUR, REVENUE, START, Event, Installation, make_events, moment

from serving_layer.query import Query
from serving_layer.reader import Reader
from tideline.definition import ROWS, ViewDefinition
from tideline.errors import UsageError
from tideline.ledger import Ledger
from tideline.measures import Count
from tideline.stores.memory import MemoryStore


@dataclass(frozen=True)
class Signed(Event):
    sign: int = 1


def corrected(plain: ViewDefinition) -> ViewDefinition:
    kept = {name: plain.measures[name] for name in ("lines", "items", "largest", "products")}
    measures = {name: measure.retractable() for name, measure in {**kept, ROWS: Count()}.items()}
    return replace(plain, measures=measures, answers={"mean_items": "items / lines"}, fingerprint="9" * 16)


VIEW = corrected(REVENUE)


def rows_of(definition: ViewDefinition, events: Iterable[Signed]) -> list[Any]:
    """One row for each event: the stores merge them."""
    rows = []
    for event in events:
        n, amount = event.sign, f"{Decimal(event.amount) / 100:.2f}"
        states = [n, [n, n * event.quantity], {amount: n}, {event.product: n}, n]
        rows.append(((event.country, event.product), event.at // HOUR * HOUR, states))
    merged: dict[Any, Any] = {}
    for key, bucket, states in rows:
        old = merged.get((key, bucket))
        measures = definition.measures.values()
        merged[key, bucket] = (
            states if old is None else [m.merge(a, b) for m, a, b in zip(measures, old, states, strict=True)]
        )
    return [(*place, states) for place, states in merged.items()]


def history(seed: int) -> tuple[list[Signed], list[Event]]:
    """A log in which two thirds of all rows are taken back, some before they come, and the rows that are left."""
    dice = random.Random(seed)
    rows = make_events(90, seed)
    taken = set(dice.sample(range(90), 60))
    taken |= {place for place, row in enumerate(rows) if row.country == "Norway" or row.at >= START + 3 * DAY}
    log = [Signed(**asdict(row)) for row in rows] + [Signed(**asdict(rows[place]), sign=-1) for place in taken]
    dice.shuffle(log)
    placed = [replace(event, partition=0, offset=offset) for offset, event in enumerate(log)]
    return placed, [row for place, row in enumerate(rows) if place not in taken]


def naive(rows: list[Event], group: Callable[[Event], Any]) -> list[tuple[Any, ...]]:
    groups: dict[Any, list[Event]] = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    return [
        (
            *key,
            len(found),
            sum(e.quantity for e in found),
            max(Decimal(e.amount) / 100 for e in found),
            {name: sum(e.product == name for e in found) for name in sorted({e.product for e in found})},
            sum(e.quantity for e in found) / len(found),
        )
        for key, found in groups.items()
    ]


@pytest.fixture(params=[(), (0,), (0, 1, 2)], ids=["speed", "batch and speed", "batch"])
def asked(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[..., list[tuple[Any, ...]]], list[Event]]:
    """Asks an installation into which a history came in three pieces, and says what is left."""
    monkeypatch.setattr(serving_case, "rows_of", rows_of)
    installation = Installation(MemoryStore(Ledger.create("test")), [VIEW])
    log, left = history(len(request.param))
    third = len(log) // 3
    for number, piece in enumerate((log[:third], log[third : 2 * third], log[2 * third :])):
        installation.commit(piece)
        if number in request.param:
            installation.publish()
    reader = Reader(tmp_path, store=installation.store)

    def ask(**options: Any) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in reader.query(Query("revenue", **options)).rows]

    vars(ask)["installation"] = installation
    return ask, left


def ordered(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


def test_every_shape_of_query_answers_for_the_rows_that_are_left(asked: Any) -> None:
    ask, left = asked
    by_row = naive(left, lambda e: (e.country, e.product, moment(e.at // HOUR * HOUR)))
    assert ordered(ask()) == ordered(by_row)
    by_country = naive(left, lambda e: (e.country,))
    assert ordered(ask(group_by="country", window="all")) == ordered(by_country)
    assert "Norway" not in [row[0] for row in by_country]
    assert ask(key={"country": "Norway"}) == ask(key={"country": "Norway"}, group_by="none", window="all") == []
    days = naive(left, lambda e: (moment(e.at // DAY * DAY),))
    assert ordered(ask(group_by="none", window="1d")) == ordered(days)
    assert ask(group_by="none", window="all") == naive(left, lambda e: ())
    slid = [
        (moment(start), *row)
        for start in range(START - DAY, START + 4 * DAY, HOUR)
        for row in naive([e for e in left if start <= e.at < start + DAY], lambda e: ())
    ]
    assert ordered(ask(group_by="none", window="1d", slide="1h")) == ordered(slid)


def test_limits_and_orders_count_the_groups_that_are_there(asked: Any) -> None:
    ask, left = asked
    rows = ask()
    assert rows[:5] == ask(limit=5)
    assert len(ask(limit=5)) == 5
    top = sorted((row[3] for row in rows), reverse=True)[:3]
    assert [row[3] for row in ask(order="-lines", limit=3)] == top
    countries = {e.country for e in left}
    assert len(ask(order="-items", limit_by="country:1")) == len(countries)


def test_a_group_of_less_than_no_rows_is_in_no_answer_and_lowers_a_wider_one(asked: Any) -> None:
    ask, left = asked
    before = {row[0]: row[1:3] for row in ask(group_by="country", window="all")}
    early = Signed(0, 270, START, "Chile", "cup", 5, 100, sign=-1)
    installation = ask.installation
    installation.commit([early])
    assert {row[0]: row[1:3] for row in ask(group_by="country", window="all")} == before
    assert ask(key={"country": "Chile"}) == []
    [whole] = ask(group_by="none", window="all")
    assert whole[:2] == (len(left) - 1, sum(e.quantity for e in left) - 5)
    installation.commit([replace(early, offset=271, sign=1), replace(early, offset=272, sign=1)])
    assert ask(key={"country": "Chile"}) == [("Chile", "cup", moment(START), 1, 5, Decimal(1), {"cup": 1}, 5.0)]


def test_the_hidden_count_is_not_to_be_asked_for(asked: Any) -> None:
    ask, _ = asked
    for options in ({"measures": ROWS}, {"order": ROWS}):
        with pytest.raises(UsageError) as caught:
            ask(**options)
        assert ROWS not in caught.value.params["known"]
    assert {len(row) for row in ask(measures="largest")} == {4}
