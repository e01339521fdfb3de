"""Small and large micro-batches: decoded in the driver or by workers, they fold to the same states."""

from __future__ import annotations

from typing import Any

import pytest
from cases import SCHEMA, few_views, make_events, make_source, make_views, same_state
from installed import Installed

from speed_layer.fold import FEW, SparkFolder
from tideline import Count, CountBy, Last, Max, Mean, Sum, View, hours
from tideline.cut import Cut
from tideline.definition import ViewDefinition
from tideline.merge import merger
from tideline.plans import Folded, Row

DEAD = [b"no JSON", b'{"id":null}', b'{"id":"x","at":7}']


def fold(installed: Installed, few: int, begin: Cut | None = None, end: Cut | None = None) -> list[Folded]:
    """What a folder makes of a range of the log, by default of all of it; what lies before it is committed."""
    folder = SparkFolder(installed.spark, installed.bootstrap, installed.home.master, installed.home.tmp, few)
    ledger = installed.ledger
    folder.start(ledger)
    start, end = begin or ledger.committed, end or installed.log_end
    if begin is not None:
        folder.folded(ledger, ledger.committed, begin, ledger.open.definitions)
        folder.committed()
    return [part for _, part in folder.folded(ledger, start, end, ledger.open.definitions)]


def plain(installed: Installed, folded: list[Folded]) -> list[Any]:
    return [
        [
            sorted(part.log.items()),
            sorted(part.rejects.items()),
            sorted((view, sorted(merged(installed, view, rows), key=repr)) for view, rows in part.rows.items()),
        ]
        for part in folded
    ]


def merged(installed: Installed, view: str, rows: list[Row]) -> list[Row]:
    """The rows, those of one key and bucket merged as the store merges them, in their canonical form."""
    definition = ViewDefinition.from_json(installed.ledger.definition(view))
    merge, measures = merger(definition), definition.measures.values()
    found: dict[Any, list[Any]] = {}
    for key, bucket, states in rows:
        found[key, bucket] = merge(found[key, bucket], states) if (key, bucket) in found else states
    return [
        (key, bucket, [measure.canonical(state) for measure, state in zip(measures, states, strict=True)])
        for (key, bucket), states in found.items()
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"event_id": None},
        {"event_id": "quantity"},
        {"schema": f"{SCHEMA}, op string", "operation": "op"},
    ],
    ids=["text id", "no id", "number id", "operation"],
)
def test_both_ways_of_decoding_a_micro_batch_fold_to_the_same(installed: Installed, options: dict[str, Any]) -> None:
    installed.apply(*few_views(make_source(installed.topic, **options)))
    events = make_events(200, 3)
    signed = [{**event, "op": "retract" if n % 3 else "insert"} for n, event in enumerate(events)]
    installed.send([*signed, *DEAD, *signed[50:90], *events[:20], {**events[0], "country": "\\ud800"}])
    end = installed.log_end
    middle = Cut(
        {installed.topic: {partition: offset // 2 for partition, offset in end.offsets(installed.topic).items()}}
    )
    for begin, stop in ((None, None), (None, middle), (middle, end), (middle, middle)):
        small, large = (plain(installed, fold(installed, few, begin, stop)) for few in (FEW, 0))
        assert same_state(small, large)
    (log,) = (dict(part.log) for part in fold(installed, FEW))
    assert sum(stats.records for stats in log.values()) == sum(end.offsets(installed.topic).values())
    assert (sum(stats.duplicates for stats in log.values()) > 0) == (
        "event_id" not in options or options["event_id"] is not None
    )


def test_two_tasks_fold_to_what_one_does_for_every_measure(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.apply(make_views(make_source(installed.topic))[0])
    installed.send([*make_events(300, 6), *DEAD])
    one = plain(installed, fold(installed, FEW))
    monkeypatch.setattr("speed_layer.fold._ONE_TASK", 0)
    assert same_state(plain(installed, fold(installed, FEW)), one)


def test_records_too_large_for_the_driver_are_decoded_by_the_workers(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.apply_few()
    installed.send(make_events(20, 4))
    expected = plain(installed, fold(installed, FEW))
    monkeypatch.setattr("speed_layer.fold.SparkFolder._decoded_here", None)
    monkeypatch.setattr("speed_layer.fold._FEW_BYTES", 1000)
    assert same_state(plain(installed, fold(installed, FEW)), expected)


def test_records_that_spark_does_not_hand_to_the_driver_are_decoded_by_the_workers(installed: Installed) -> None:
    """As when records suddenly are a thousand times as large: they are within the guess, and beyond Spark's limit."""
    installed.apply_few()
    installed.send([{**event, "padding": "x" * 20_000} for event in make_events(40, 5)])
    expected = plain(installed, fold(installed, 0))
    settings = installed.spark.sparkContext._jsc.sc().conf()
    before = settings.get("spark.driver.maxResultSize", "1g")
    settings.set("spark.driver.maxResultSize", "400k")
    try:
        assert same_state(plain(installed, fold(installed, FEW)), expected)
    finally:
        settings.set("spark.driver.maxResultSize", before)


def plain_views(installed: Installed, **options: Any) -> list[View]:
    """Views that Arrow folds."""
    source = make_source(installed.topic, **options)
    measures = {"lines": Count(), "units": Sum("quantity"), "most": Max("score"), "last": Last("amount")}
    sold = View("sold", source=source, key="country", bucket=hours(1), where="quantity > 0", measures=measures)
    return [sold, View("kinds", source=source, measures={"kinds": CountBy("kind"), "amount": Mean("amount")})]


@pytest.mark.parametrize("event_id", ["id", None])
def test_plain_views_fold_to_the_same_wherever_they_are_folded(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, event_id: str | None
) -> None:
    installed.apply(*plain_views(installed, event_id=event_id))
    installed.send([*make_events(300, 8), *DEAD, *make_events(20, 8)])
    with monkeypatch.context() as everything:
        everything.setattr("speed_layer.fold.plain_views", lambda source, views: [])
        by_spark = plain(installed, fold(installed, FEW))
    with monkeypatch.context() as nothing:
        nothing.setattr("speed_layer.fold._SparkFold.of_few", None)
        assert same_state(plain(installed, fold(installed, FEW)), by_spark)
    monkeypatch.setattr("speed_layer.fold._SparkFold.of_many", None)
    assert same_state(plain(installed, fold(installed, 0)), by_spark)
    assert not list(installed.home.tmp.rglob("spool-*")), "nothing is left of what was spooled"


@pytest.mark.parametrize("event_id", ["id", None])
def test_an_overflow_among_plain_views_rejects_its_events_alone(installed: Installed, event_id: str | None) -> None:
    source = make_source(installed.topic, event_id=event_id)
    large = View("large", source=source, measures={"units": Sum("quantity * 100000000"), "lines": Count()})
    installed.apply(large, View("lines", source=source, key="kind", measures={"lines": Count()}))
    events = make_events(100, 9)
    installed.send(events)
    over = sum(event["quantity"] is not None and abs(event["quantity"]) > 21 for event in events)
    small, many = fold(installed, FEW), fold(installed, 0)
    assert same_state(plain(installed, small), plain(installed, many))
    assert over > 0
    assert list(small[0].rejects.values()) == [over]
