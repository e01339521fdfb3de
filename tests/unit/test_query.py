"""What a query answers, compared with a plain computation over the events themselves."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from serving_case import (
    COUNTRIES,
    DAY,
    HOUR,
    START,
    Event,
    Installation,
    make_events,
    moment,
    naive,
)

import tideline
from serving_layer.fold import _Pile
from serving_layer.query import Query
from serving_layer.reader import NotReadyError, Reader
from serving_layer.windows import Windows
from tideline.cut import Cut
from tideline.stores import Store

Group = Callable[[Event], tuple[Any, ...]]


def same(row: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each measure and answer equals the naive one; the quantile within its bound."""
    for name, value in expected.items():
        if name == "median":
            assert row[name] == pytest.approx(value, rel=0.011), name
        elif isinstance(value, float):
            assert row[name] == pytest.approx(value, rel=1e-12), name
        else:
            assert row[name] == value, name


def check(rows: list[dict[str, Any]], events: list[Event], columns: list[str], group: Group) -> None:
    """The rows are exactly the groups of the events, each with the naive answers."""
    groups: dict[tuple[Any, ...], list[Event]] = {}
    for event in events:
        groups.setdefault(group(event), []).append(event)
    places = [tuple(row[column] for column in columns) for row in rows]
    assert sorted(places, key=repr) == sorted(groups, key=repr)
    for row in rows:
        same(row, naive(groups[tuple(row[column] for column in columns)]))


def bucket(event: Event, width: int = HOUR) -> dt.datetime:
    return moment(event.at // width * width)


def test_every_row_merges_batch_and_speed(reader: Reader, installation: Installation) -> None:
    rows = reader.view("revenue").get().rows
    group: Group = lambda e: (e.country, e.product, bucket(e))  # noqa: E731
    check(rows, installation.events, ["country", "product", "bucket"], group)


def test_rows_come_in_the_order_of_their_keys_with_null_first(reader: Reader) -> None:
    rows = reader.view("revenue").get().rows
    places = [(row["country"] is not None, row["country"] or "", row["product"], row["bucket"]) for row in rows]
    assert places == sorted(places)


@pytest.mark.parametrize("country", ["France", "Norway", None, ""])
def test_a_key_filter_keeps_exactly_its_rows(reader: Reader, installation: Installation, country: str | None) -> None:
    rows = reader.view("revenue").get(country=country).rows
    events = [event for event in installation.events if event.country == country]
    check(rows, events, ["country", "product", "bucket"], lambda e: (e.country, e.product, bucket(e)))


def test_a_filter_on_a_later_key_column_alone(reader: Reader, installation: Installation) -> None:
    rows = reader.view("revenue").get(product="säge", window="all").rows
    events = [event for event in installation.events if event.product == "säge"]
    check(rows, events, ["country"], lambda e: (e.country,))


def test_a_whole_key_and_one_bucket_is_one_row(reader: Reader, installation: Installation) -> None:
    one = installation.events[0]
    start = one.at // HOUR * HOUR
    rows = reader.view("revenue").get(country=one.country, product=one.product, start=start, end=start + HOUR).rows
    place = (one.country, one.product, start)
    same(rows[0], naive(e for e in installation.events if (e.country, e.product, e.at // HOUR * HOUR) == place))
    assert len(rows) == 1


def test_a_whole_key_and_a_range_is_half_open(reader: Reader, installation: Installation) -> None:
    low, high = START + 10 * HOUR, START + 50 * HOUR
    rows = reader.view("revenue").get(country="France", product="cup", start=moment(low), end=moment(high)).rows
    events = [e for e in installation.events if (e.country, e.product) == ("France", "cup") and low <= e.at < high]
    check(rows, events, ["bucket"], lambda e: (bucket(e),))


@pytest.mark.parametrize("options", [{}, {"start": "2011-12-01"}, {"end": "2011-12-09"}, {"group_by": []}])
def test_a_key_that_goes_on_with_a_nul_is_another(store: Store, tmp_path: Path, options: dict[str, Any]) -> None:
    installation = Installation(store)
    products = ["cup", "cup\0", "cup\0saucer", "cups", "c"]
    installation.commit([Event(0, at, START, "France", name, 1, 100) for at, name in enumerate(products)])
    with Reader(tmp_path, store=store) as reader:
        rows = reader.view("revenue").get(country="France", product="cup", **options).rows
    assert [row["lines"] for row in rows] == [1]


def test_time_text_without_a_zone_is_utc(reader: Reader) -> None:
    view = reader.view("revenue")
    assert (
        view.get(start="2011-12-02", end="2011-12-03T00:00").rows
        == view.get(start=START + DAY, end=START + 2 * DAY).rows
    )


def test_larger_windows_merge_buckets(reader: Reader, installation: Installation) -> None:
    rows = reader.view("revenue").get(window=tideline.days(1)).rows
    group: Group = lambda e: (e.country, e.product, bucket(e, DAY))  # noqa: E731
    check(rows, installation.events, ["country", "product", "window"], group)


def test_fewer_keys_merge_groups(reader: Reader, installation: Installation) -> None:
    rows = reader.view("revenue").get(group_by="product", window="1d").rows
    check(rows, installation.events, ["product", "window"], lambda e: (e.product, bucket(e, DAY)))


@pytest.mark.parametrize("nothing", [[], "", "none"])
def test_no_keys_merge_all(reader: Reader, installation: Installation, nothing: Any) -> None:
    rows = reader.view("revenue").get(group_by=nothing, window="all").rows
    assert len(rows) == 1
    same(rows[0], naive(installation.events))


def test_states_that_wait_for_others_are_merged_in_between(
    reader: Reader, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Pile, "MOST", 3)
    rows = reader.view("revenue").get(group_by="country", window="2d", slide="1d").rows
    for row in rows:
        start, inside = row["window"], dt.timedelta(days=2)
        same(
            row,
            naive(
                e for e in installation.events if e.country == row["country"] and start <= moment(e.at) < start + inside
            ),
        )
    parts = reader.view("revenue").get(group_by=[], window="all", parts=True).rows
    (only,) = parts
    same(only, naive(installation.events))
    batch, speed = only["parts"]["batch"], only["parts"]["speed"]
    assert batch["lines"] + speed["lines"] == only["lines"]
    assert batch["lines"] > 0 < speed["lines"]


@pytest.mark.parametrize(("window", "slide"), [("3h", "1h"), ("6h", "2h"), ("3h", "2h")])
def test_sliding_windows(reader: Reader, installation: Installation, window: str, slide: str) -> None:
    width, step = int(window[:-1]) * HOUR, int(slide[:-1]) * HOUR
    rows = reader.view("revenue").get(group_by=[], window=window, slide=slide).rows
    found = {row["window"]: row for row in rows}
    first = (START - width) // step * step
    expected = 0
    for start in range(first, START + 4 * DAY, step):
        inside = [event for event in installation.events if start <= event.at < start + width]
        if inside:
            same(found[moment(start)], naive(inside))
            expected += 1
    assert len(rows) == expected


def test_windows_of_a_range_lie_wholly_inside_it(reader: Reader, installation: Installation) -> None:
    low, high = START + 6 * HOUR, START + 12 * HOUR
    rows = reader.view("hourly").get(window="3h", slide="1h", start=low, end=high).rows
    starts = [row["window"] for row in rows]
    assert starts == [moment(START + hour * HOUR) for hour in range(6, 10)]
    for row, hour in zip(rows, range(6, 10), strict=True):
        begin = START + hour * HOUR
        same(row, naive(e for e in installation.events if begin <= e.at < begin + 3 * HOUR))


def test_windows_align_to_the_epoch_also_before_it() -> None:
    windows = Windows(6 * HOUR, 2 * HOUR)
    assert list(windows.of(-HOUR)) == [-6 * HOUR, -4 * HOUR, -2 * HOUR]
    assert list(windows.of(0)) == [-4 * HOUR, -2 * HOUR, 0]


def test_views_without_bucket_or_key(reader: Reader, installation: Installation) -> None:
    check(reader.view("totals").get().rows, installation.events, ["country"], lambda e: (e.country,))
    check(reader.view("everything").get().rows, installation.events, [], lambda e: ())
    check(reader.view("hourly").get().rows, installation.events, ["bucket"], lambda e: (bucket(e),))


def test_typed_keys_are_found_by_text_and_by_value(reader: Reader, installation: Installation) -> None:
    one = installation.events[5]
    amount, at = Decimal(one.amount).scaleb(-2), moment(one.at)
    for key in (
        {"quantity": one.quantity, "amount": amount, "sold_at": at},
        {"quantity": str(one.quantity), "amount": str(amount), "sold_at": at.isoformat()},
    ):
        rows = reader.view("typed").get(**key).rows
        assert [(row["quantity"], row["amount"], row["sold_at"]) for row in rows] == [(one.quantity, amount, at)]


def test_selected_measures_keep_the_order_of_the_selection(reader: Reader) -> None:
    result = reader.view("totals").get(measures="double,lines")
    assert result.columns == ["country", "double", "lines"]
    assert list(result.rows[0]) == ["country", "double", "lines"]


@pytest.mark.parametrize(
    "term", ["revenue", "-revenue", "-return_rate", "spread.p50", "-products.cup", "-country", "last"]
)
def test_order(reader: Reader, term: str) -> None:
    def value(row: dict[str, Any]) -> Any:
        name, _, field = term.lstrip("-").partition(".")
        return row[name].get(field) if field else row[name]

    rows = reader.view("totals").get(order=term).rows
    values = [value(row) for row in rows if value(row) is not None]
    assert values == sorted(values, reverse=term.startswith("-"))
    assert all(value(row) is None for row in rows[len(values) :])


def test_order_by_several_columns_then_limit(reader: Reader) -> None:
    every = reader.view("revenue").get().rows
    few = reader.view("revenue").get(order="-bucket,lines", limit=7, measures="lines").rows
    best = sorted(every, key=lambda row: (-row["bucket"].timestamp(), row["lines"]))[:7]
    assert [(row["bucket"], row["lines"]) for row in few] == [(row["bucket"], row["lines"]) for row in best]
    assert len(reader.view("revenue").get(limit=3).rows) == 3
    assert reader.view("revenue").get(limit=0).rows == []


def test_limit_by_is_the_top_of_each_group(reader: Reader) -> None:
    every = reader.view("revenue").get(window="all").rows
    top = reader.view("revenue").get(window="all", order="-revenue", limit_by="country:2").rows
    for country in {row["country"] for row in every}:
        best = sorted((row["revenue"] for row in every if row["country"] == country), reverse=True)[:2]
        assert [row["revenue"] for row in top if row["country"] == country] == best
    assert (
        reader.view("revenue").get(window="all", order="-revenue", limit_by=":2").rows
        == sorted(every, key=lambda row: row["revenue"], reverse=True)[:2]
    )
    both = reader.view("revenue").get(window="1d", order="-lines", limit_by="country,window:1").rows
    places = [(row["country"], row["window"]) for row in both]
    assert len(places) == len(set(places)) == len({(e.country, bucket(e, DAY)) for e in make_events(600)})


def test_parts_show_both_sides(reader: Reader, installation: Installation) -> None:
    fresh = installation.events[len(installation.published) :]
    for row in reader.view("totals").get(parts=True).rows:
        for side, events in (("batch", installation.published), ("speed", fresh)):
            same(row["parts"][side], naive(e for e in events if e.country == row["country"]))
    row = reader.view("revenue").get(parts=True, group_by=[], window="all").rows[0]
    same(row, naive(installation.events))
    same(row["parts"]["batch"], naive(installation.published))
    same(row["parts"]["speed"], naive(fresh))


def test_a_side_without_events_of_the_key_is_none(store: Store, tmp_path: Path) -> None:
    installation = Installation(store)
    installation.commit(make_events(3))
    reader = Reader(tmp_path, store=store)
    assert all(row["parts"]["batch"] is None for row in reader.view("totals").get(parts=True).rows)
    installation.publish()
    assert all(row["parts"]["speed"] is None for row in reader.view("totals").get(parts=True).rows)


def test_an_older_version_answers_at_its_own_cut(reader: Reader, installation: Installation) -> None:
    first = installation.events[:200]
    result = reader.view("totals").get(version=1)
    check(result.rows, first, ["country"], lambda e: (e.country,))
    assert result.proof["mode"] == "batch"
    assert result.proof["events"] == {"batch": 200, "speed": 0}
    assert Cut.from_json(result.proof["cut"]) == Cut.from_json(result.proof["batch_cut"])


def test_the_proof_counts_what_the_answer_stands_for(reader: Reader, installation: Installation) -> None:
    proof = reader.view("revenue").get(measures="lines,spread,median,return_rate").proof
    with installation.store.snapshot() as snapshot:
        ledger = snapshot.ledger
    assert (proof["view"], proof["fingerprint"], proof["mode"], proof["version"]) == (
        "revenue",
        "a" * 16,
        "live",
        2,
    )
    assert Cut.from_json(proof["cut"]) == Cut.from_json(proof["committed_cut"]) == ledger.committed
    assert Cut.from_json(proof["batch_cut"]) == ledger.version.cut
    assert Cut.from_json(proof["origin"]) == ledger.origin
    assert proof["events"] == {"batch": 400, "speed": 200}
    assert proof["rejects"] == {"batch": 2, "speed": 1}
    assert proof["duplicates"] == proof["dead_letters"] == {"batch": 2, "speed": 1}
    assert proof["floor"] is None
    assert proof["measures"]["lines"] == proof["measures"]["return_rate"] == {"exact": True}
    assert proof["measures"]["spread"]["bound"] == 0.01
    assert proof["measures"]["median"]["of"] == ["spread"]


def test_a_floor_hides_what_lies_before_it(store: Store, tmp_path: Path) -> None:
    installation = Installation(store)
    installation.commit(make_events(300))
    floor = START + 2 * DAY
    installation.publish(floors={"a" * 16: floor})
    result = Reader(tmp_path, store=store).view("revenue").get(group_by=[], window="all")
    same(result.rows[0], naive(e for e in installation.events if e.at >= floor))
    assert result.proof["floor"] == "2011-12-03T00:00:00Z"


def test_several_queries_share_one_snapshot(reader: Reader, installation: Installation) -> None:
    queries = [
        Query("revenue", window="all", group_by=()),
        Query("everything"),
        Query("hourly", window="all"),
    ]
    results = reader.query_many(queries)
    assert len({result.rows[0]["lines"] for result in results}) == 1
    assert len({str(result.proof["cut"]) for result in results}) == 1
    assert results[0].rows[0]["lines"] == len(installation.events)


def test_at_least_waits_for_a_commit(reader: Reader, installation: Installation) -> None:
    events = make_events(650)
    wanted = Cut({"sales": {p: max(e.offset for e in events if e.partition == p) + 1 for p in (0, 1)}})
    late = threading.Thread(target=lambda: installation.commit(events[600:]))
    late.start()
    result = reader.view("everything").get(at_least=wanted, timeout=60)
    late.join()
    assert result.rows[0]["lines"] == 650


def test_at_least_ends_after_its_bound(reader: Reader) -> None:
    with pytest.raises(NotReadyError) as caught:
        reader.view("totals").get(at_least="sales:0=100000", timeout=0.05)
    assert caught.value.condition == "AT_LEAST_TIMEOUT"
    assert caught.value.exit_code == 3
    assert caught.value.params["wanted"] == "sales:0=100000"
    assert caught.value.params["reached"].startswith("sales:0=")


def test_waiting_for_an_older_version_is_refused_at_once(reader: Reader) -> None:
    with pytest.raises(NotReadyError, match="does not grow"):
        reader.view("totals").get(at_least="sales:0=100000", version=1, timeout=300)


@pytest.mark.parametrize(
    "options", [{}, {"window": "1d"}, {"start": "2011-12-01T05:00:00Z", "end": "2011-12-01T06:00:00Z"}]
)
@pytest.mark.parametrize(
    "key",
    [
        {"country": ["France", None]},
        {"country": ["France"], "product": "cup"},
        {"country": ("Norway", "", "Norway"), "product": ["cup", "säge"]},
        {"product": ["lamp", "none"]},
        {"country": None, "product": ["lamp"]},
        {"country": []},
    ],
)
def test_a_list_of_values_is_any_of_them(reader: Reader, key: dict[str, Any], options: dict[str, Any]) -> None:
    def fits(row: dict[str, Any]) -> bool:
        return all(row[name] in (value if isinstance(value, (list, tuple)) else [value]) for name, value in key.items())

    found = reader.query(Query("revenue", key, **options))
    assert found.rows == [row for row in reader.query(Query("revenue", **options)).rows if fits(row)]


def test_many_keys_are_looked_up_together(reader: Reader) -> None:
    countries = ["nowhere", *COUNTRIES, "France"]
    found = reader.query(Query("totals", {"country": countries}))
    assert found.rows == reader.query(Query("totals")).rows
    assert reader.query(Query("totals", {"country": countries}, order="-lines", limit=2)).rows == (
        reader.query(Query("totals", order="-lines", limit=2)).rows
    )
