"""A catalog that uses every measure, events for it, and what a plain fold in Python says of them.

The fold here shares nothing with the layers: it reads the records back from Kafka and counts one by one.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tideline import (
    ApproxDistinct,
    Count,
    CountBy,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantiles,
    Source,
    StdDev,
    Sum,
    TopK,
    Variance,
    View,
    hours,
)
from tideline.runtime.reading import Record

SCHEMA = "id string, kind string, country string, amount decimal(10,2), quantity int, score double, at timestamp"
START = dt.datetime(2011, 12, 9, tzinfo=dt.timezone.utc)
HOUR = 3_600_000_000
Event = dict[str, Any]
Key = tuple[tuple[Any, ...], "int | None"]
Answers = dict[Key, dict[str, Any]]


def make_source(topic: str, name: str = "events", **options: Any) -> Source:
    """A source over a topic."""
    return Source(
        name,
        **{
            "schema": SCHEMA,
            "event_time": "at",
            "event_id": "id",
            "topic": topic,
            "max_ahead": None,
            **options,
        },
    )


def make_views(source: Source) -> list[View]:
    """Three views: with two keys and a bucket, with one key, with neither."""
    everything = View(
        "everything",
        source=source,
        columns={"total": "amount * quantity", "parity": "pmod(quantity, 3)"},
        where="kind <> 'skip' or kind is null",
        key=("country", "parity"),
        bucket=hours(1),
        measures={
            "lines": Count(),
            "scored": Count("score"),
            "returned": Count(where="quantity < 0"),
            "units": Sum("quantity"),
            "revenue": Sum("total", where="quantity > 0"),
            "scores": Sum("score"),
            "least": Min("amount"),
            "earliest": Min("at"),
            "most": Max("score"),
            "mean": Mean("amount"),
            "mean_score": Mean("score"),
            "spread": Variance("score"),
            "deviation": StdDev("amount", population=True),
            "first": First("id"),
            "last": Last("amount"),
            "kinds": CountBy("kind"),
            "ids": ApproxDistinct("id"),
            "quantiles": Quantiles("score", at=[0, 0.5, 0.99]),
            "top": TopK("kind", k=2, weight="quantity"),
        },
    )
    countries = View(
        "countries",
        source=source,
        key="country",
        measures={"lines": Count(), "kinds": ApproxDistinct("kind"), "latest": Last("score")},
        answers={"double": "lines * 2"},
    )
    totals = View("totals", source=source, measures={"lines": Count(), "amount": Sum("amount")})
    return [everything, countries, totals]


def few_views(source: Source) -> list[View]:
    """The two small ones, for tests that are not about measures: each new fold costs Spark seconds."""
    return make_views(source)[1:]


def make_events(count: int, seed: int, first: int = 0) -> list[Event]:
    """Events with ids `first` and on, over a day in no order, nulls in every column but id and time."""
    dice = random.Random(seed)
    return [
        {
            "id": f"e{first + number}",
            "kind": dice.choice(["browse", "cart", "buy", "skip", "", None]),
            "country": dice.choice(["FR", "DE", "", None, "Ελλάδα"]),
            "amount": dice.choice([None, dice.randrange(-10_000, 10_000) / 100]),
            "quantity": dice.choice([None, dice.randrange(-5, 60)]),
            "score": dice.choice([None, 0, -0.0, dice.uniform(-1e3, 1e3), dice.uniform(0, 1e-3)]),
            "at": (START + dt.timedelta(seconds=dice.randrange(86_400))).isoformat(),
        }
        for number in range(count)
    ]


def encode(event: Event | bytes) -> bytes:
    """An event as a record's value; bytes stay as they are."""
    return event if isinstance(event, bytes) else json.dumps(event).encode()


@dataclass(frozen=True)
class Fact:
    """An event that counts, and its place in the log."""

    order: tuple[int, int, int]
    fields: Event

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


def count_events(records: Iterable[Record], horizon: int = 1_000_000) -> list[Fact]:
    """The events that count: those that are JSON, without the ids seen in the `horizon` offsets before."""
    seen: dict[tuple[int, str], int] = {}
    facts = []
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        try:
            fields = json.loads(record.value or b"", parse_float=Decimal)
        except ValueError:
            continue
        place = (record.partition, fields["id"])
        before, seen[place] = seen.get(place), record.offset
        if before is not None and record.offset - before <= horizon:
            continue
        at = dt.datetime.fromisoformat(fields["at"]) - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
        micros = at // dt.timedelta(microseconds=1)
        amount = None if fields["amount"] is None else Decimal(fields["amount"]).quantize(Decimal("0.01"))
        score = None if fields["score"] is None else float(fields["score"]) + 0.0
        facts.append(Fact((micros, record.partition, record.offset), {**fields, "amount": amount, "score": score}))
    return facts


def naive_answers(view: str, facts: Iterable[Fact]) -> Answers:
    """What a view of `make_views` answers, counted one by one."""
    keep, key, measures = _VIEWS[view]
    groups: dict[Key, list[Fact]] = defaultdict(list)
    for fact in facts:
        if keep(fact):
            groups[key(fact)].append(fact)
    return {group: measures(rows) for group, rows in groups.items()}


def _present(rows: Sequence[Fact], name: str) -> list[Any]:
    return [value for row in rows if (value := row.fields[name]) is not None]


def _sum(values: Sequence[Any]) -> Any:
    return (math.fsum(values) if isinstance(values[0], float) else sum(values)) if values else None


def _mean(values: Sequence[Any]) -> float | None:
    return float(sum(map(Fraction, values)) / len(values)) if values else None


def _edge(rows: Sequence[Fact], name: str, pick: Callable[..., Fact]) -> Any:
    found = [row for row in rows if row.fields[name] is not None]
    return pick(found, key=lambda row: row.order).fields[name] if found else None


def _quantile(values: Sequence[float], q: float) -> float | None:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1] if values else None


def _top(rows: Sequence[Fact]) -> list[list[Any]]:
    weights: Counter[str] = Counter()
    for row in rows:
        if row.kind is not None:
            weights[row.kind] += row.quantity or 0
    return [list(item) for item in sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:2]]


def _everything(rows: Sequence[Fact]) -> dict[str, Any]:
    scores, amounts = _present(rows, "score"), _present(rows, "amount")
    quantities = _present(rows, "quantity")
    sold = [r.amount * r.quantity for r in rows if r.amount is not None and (r.quantity or 0) > 0]
    return {
        "lines": len(rows),
        "scored": len(scores),
        "returned": sum(quantity < 0 for quantity in quantities),
        "units": _sum(quantities),
        "revenue": _sum(sold),
        "scores": _sum(scores),
        "least": min(amounts, default=None),
        "earliest": min(dt.datetime.fromisoformat(row.at) for row in rows),
        "most": max(scores, default=None),
        "mean": _mean(amounts),
        "mean_score": _mean(scores),
        "spread": statistics.variance(scores) if len(scores) > 1 else None,
        "deviation": float(statistics.pstdev(amounts)) if amounts else None,
        "first": _edge(rows, "id", min),
        "last": _edge(rows, "amount", max),
        "kinds": dict(Counter(_present(rows, "kind"))),
        "ids": len({row.id for row in rows}),
        "quantiles": {f"p{q * 100:g}": _quantile(scores, q) for q in (0, 0.5, 0.99)},
        "top": _top(rows),
    }


def _countries(rows: Sequence[Fact]) -> dict[str, Any]:
    kinds = len(set(_present(rows, "kind")))
    return {"lines": len(rows), "kinds": kinds, "latest": _edge(rows, "score", max)}


def _totals(rows: Sequence[Fact]) -> dict[str, Any]:
    return {"lines": len(rows), "amount": _sum(_present(rows, "amount"))}


def _parity(fact: Fact) -> int | None:
    return None if fact.quantity is None else fact.quantity % 3


_VIEWS: dict[str, tuple[Callable[[Fact], bool], Callable[[Fact], Key], Callable[[Sequence[Fact]], Any]]] = {
    "everything": (
        lambda fact: fact.kind != "skip",
        lambda fact: ((fact.country, _parity(fact)), fact.order[0] // HOUR * HOUR),
        _everything,
    ),
    "countries": (lambda fact: True, lambda fact: ((fact.country,), None), _countries),
    "totals": (lambda fact: True, lambda fact: ((), None), _totals),
}
VIEWS = tuple(_VIEWS)


def close_enough(measure: str, expected: Any, found: Any) -> bool:
    """Equal; doubles within 1e-9 of a thousand values' size, quantiles within 1 %."""
    if measure == "quantiles":
        return expected.keys() == found.keys() and all(
            _near(expected[q], found[q], relative=0.01, absolute=0.0) for q in expected
        )
    return _near(expected, found, relative=1e-9, absolute=1e-6)


def _near(expected: Any, found: Any, relative: float, absolute: float) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(expected, found, rel_tol=relative * 1.0001, abs_tol=absolute)
    return type(expected) is type(found) and expected == found


def same_state(left: Any, right: Any) -> bool:
    """Whether two canonical states are equal, doubles within 1e-9."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-6)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same_state, left, right))
    return type(left) is type(right) and bool(left == right)


def differences(expected: Answers, found: Answers) -> list[tuple[Any, ...]]:
    """(key, measure, expected, found) of the first answers that differ; empty where all agree."""
    missing = [(key, "(row)", expected.get(key), found.get(key)) for key in expected.keys() ^ found.keys()]
    wrong = [
        (key, name, value, found[key][name])
        for key in expected.keys() & found.keys()
        for name, value in expected[key].items()
        if not close_enough(name, value, found[key][name])
    ]
    return (missing + wrong)[:5]
