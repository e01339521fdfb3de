"""The laws on Spark's side: its fold is the plain one, its merge is serving's, a row's error is a reject."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from cases import (
    Answers,
    count_events,
    differences,
    encode,
    make_events,
    make_source,
    make_views,
    naive_answers,
    same_state,
)
from chispa import assert_df_equality
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from tideline import (
    ApproxDistinct,
    Count,
    CountBy,
    First,
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
from tideline.arrow_terms import NotPlain
from tideline.catalog import collect_catalog
from tideline.collect import Folded, by_view, collect
from tideline.definition import ViewDefinition
from tideline.fold_plan import PlannedView
from tideline.runtime.reading import Record
from tideline.segment_table import can_merge, merge_tables
from tideline.source import SourceDefinition
from tideline.spark.events import decode
from tideline.spark.fold import Fold
from tideline.spark.ranges import MASTER_COLUMNS
from tideline.spark.resolve import resolve_catalog
from tideline.spark.states import merge_states, rows_of, segment_rows

PARTITIONS = 3
NOON = dt.datetime(2011, 12, 9, 12, tzinfo=dt.timezone.utc)
RECORDS = (
    "_partition int, _offset bigint, _timestamp timestamp, _hash bigint, _key binary, "
    "_headers array<struct<key:string,value:binary>>, _value binary"
)


@dataclass
class Folds:
    """Folds values, as if they were a topic's records, for some views."""

    spark: SparkSession
    source: SourceDefinition
    views: tuple[ViewDefinition, ...]

    @classmethod
    def of(cls, spark: SparkSession, *views: View) -> Folds:
        resolved = resolve_catalog(spark, collect_catalog(list(views), "a test"))
        return cls(spark, *resolved.sources.values(), tuple(resolved.views.values()))

    @staticmethod
    def records(values: Sequence[bytes], first: int = 0) -> list[Record]:
        return [
            Record(number % PARTITIONS, number // PARTITIONS, NOON, None, value)
            for number, value in enumerate(values, first)
        ]

    def frame(self, values: Sequence[bytes], first: int = 0) -> DataFrame:
        """The values folded: one row for every group and its slots' results."""
        rows = [(r.partition, r.offset, r.at, 1, None, None, r.value) for r in self.records(values, first)]
        raw = self.spark.createDataFrame(rows, RECORDS)
        events = decode(raw, self.source, MASTER_COLUMNS).selectExpr("*", "false as _duplicate")
        return Fold(self.source, self.views).aggregate(events)

    def collect(self, values: Sequence[bytes], first: int = 0) -> Folded:
        return collect(Fold(self.source, self.views), by_view(self.frame(values, first).toArrow()))

    @staticmethod
    def present(view: ViewDefinition, states: Sequence[Any]) -> dict[str, Any]:
        return {n: m.present(state) for (n, m), state in zip(view.measures.items(), states, strict=True)}

    def answers(self, folded: Folded, view: ViewDefinition) -> Answers:
        rows = folded.rows.get(view.fingerprint, ())
        return {(key, bucket): self.present(view, states) for key, bucket, states in rows}


@pytest.fixture(scope="module")
def shop(spark: SparkSession) -> Folds:
    return Folds.of(spark, *make_views(make_source("shop", event_id=None)))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fold_is_what_counting_one_by_one_gives(shop: Folds, seed: int) -> None:
    values = [encode(event) for event in make_events(600, seed)]
    values[::50] = [b"no JSON"] * len(values[::50])
    folded = shop.collect(values)
    facts = count_events(shop.records(values))
    for view in shop.views:
        assert differences(naive_answers(view.name, facts), shop.answers(folded, view)) == []
    assert sum(stats.dead.get("not JSON", 0) for stats in folded.log.values()) == 12
    assert sum(stats.records for stats in folded.log.values()) == 600
    assert sum(stats.events for stats in folded.log.values()) == len(facts) == 588


def test_headers_come_out_of_decoding_as_they_were(shop: Folds) -> None:
    """A record that has none keeps null."""
    headers = [None, [("h", b"v"), ("none", None)], None]
    rows = [(0, offset, NOON, 1, None, those, b"{}") for offset, those in enumerate(headers)]
    decoded = decode(shop.spark.createDataFrame(rows, RECORDS), shop.source, MASTER_COLUMNS).orderBy("_offset")
    found = [row["_headers"] for row in decoded.select("_headers").collect()]
    assert [those and [(one["key"], one["value"]) for one in those] for those in found] == headers


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(0, 60), min_size=2, max_size=3))
def test_parts_folded_apart_merge_to_the_whole_in_spark_as_in_serving(shop: Folds, seed: int, sizes: list[int]) -> None:
    values = [encode(event) for event in make_events(sum(sizes), seed)]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    planned = Fold(shop.source, shop.views).planned[0]
    view = planned.view
    parts = [
        segment_rows(_of(planned, shop.frame(values[start : start + size], start)), planned).toArrow()
        for start, size in zip(starts, sizes, strict=True)
    ]
    together = pa.concat_tables(parts).combine_chunks()  # Spark drops what follows an empty chunk
    merged = _states(view, merge_states(shop.spark.createDataFrame(together), view).toArrow())
    served: dict[Any, list[Any]] = {}
    for part in parts:
        for place, states in _states(view, part).items():
            served[place] = _merge(view, served.get(place), states)
    assert merged.keys() == served.keys()
    for place, states in merged.items():
        for (name, measure), mine, theirs in zip(view.measures.items(), states, served[place], strict=True):
            assert same_state(measure.canonical(mine), measure.canonical(theirs)), (place, name, mine, theirs)
    facts = count_events(shop.records(values))
    answers = {place: shop.present(view, states) for place, states in served.items()}
    assert differences(naive_answers(view.name, facts), answers) == []


@pytest.fixture(scope="module")
def plain(spark: SparkSession) -> Folds:
    """A view of every measure and key that Arrow merges."""
    source, where = make_source("shop", event_id=None), "quantity > 3"
    measures = {
        "lines": Count(),
        "units": Sum("quantity", where=where),
        "revenue": Sum("amount"),
        "score": Sum("score"),
        "least": Min("at"),
        "most": Max("score", where=where),
        "kind": Max("kind"),
        "day": Min("cast(at as date)"),
        "mean": Mean("amount"),
    }
    columns = {"on": "cast(at as date)", "even": "quantity % 2 = 0", "hour": "date_trunc('hour', at)"}
    view = View("plain", source=source, columns=columns, key=("country", *columns), bucket=hours(1), measures=measures)
    return Folds.of(spark, view, View("all", source=source, measures=measures))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(0, 60), min_size=1, max_size=3))
def test_arrow_merges_segments_as_spark_does(plain: Folds, seed: int, sizes: list[int]) -> None:
    values = [encode(event) for event in make_events(sum(sizes), seed)]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    fold = Fold(plain.source, plain.views)
    for planned in fold.planned:
        assert can_merge(planned.view)
        parts = [
            segment_rows(_of(planned, plain.frame(values[start : start + size], start)), planned).toArrow()
            for start, size in zip(starts, sizes, strict=True)
        ]
        together = plain.spark.createDataFrame(pa.concat_tables(parts).combine_chunks())
        by_spark = merge_states(together, planned.view).toArrow()
        by_arrow = merge_tables(planned.view, parts)
        assert by_arrow.column_names == by_spark.column_names
        found, expected = _states(planned.view, by_arrow), _states(planned.view, by_spark)
        assert found.keys() == expected.keys()
        for place, states in found.items():
            for measure, mine, theirs in zip(planned.view.measures.values(), states, expected[place], strict=True):
                assert same_state(measure.canonical(mine), measure.canonical(theirs)), (place, mine, theirs)


def test_segments_that_arrow_may_merge_otherwise_are_left_to_spark(shop: Folds, spark: SparkSession) -> None:
    assert [view.name for view in shop.views if can_merge(view)] == ["totals"], "others have maps, edges, sketches"
    odd = Folds.of(spark, View("odd", source=ODD, key="n", measures={"most": Max("if(n = 1, double('NaN'), x)")}))
    (planned,) = Fold(odd.source, odd.views).planned
    values = [b'{"n":%d,"x":1.5,"at":"2011-12-09T12:00:00Z"}' % n for n in (1, 2)]
    table = segment_rows(_of(planned, odd.frame(values)), planned).toArrow()
    with pytest.raises(NotPlain):
        merge_tables(planned.view, [table])


def _of(planned: PlannedView, folded: DataFrame) -> DataFrame:
    return folded.where(f"view = {planned.index}")


def _states(view: ViewDefinition, table: pa.Table) -> dict[Any, list[Any]]:
    return {(key, bucket): states for key, bucket, states in rows_of(view, table)}


def _merge(view: ViewDefinition, left: list[Any] | None, right: list[Any]) -> list[Any]:
    start = left or [measure.zero() for measure in view.measures.values()]
    return [m.merge(a, b) for m, a, b in zip(view.measures.values(), start, right, strict=True)]


def test_merging_one_state_of_each_key_leaves_them_as_they_are(shop: Folds) -> None:
    planned = Fold(shop.source, shop.views).planned[0]
    rows = segment_rows(_of(planned, shop.frame([encode(event) for event in make_events(30, 3)])), planned)
    columns = ["country", "parity", "bucket", "lines", "units", "revenue", "least", "earliest", "most", "mean"]
    merged = merge_states(rows, planned.view).select(columns)
    assert_df_equality(merged, rows.select(columns), ignore_row_order=True, ignore_nullable=True)


ODD = Source("odd", schema="name string, n int, big bigint, x double, at timestamp", event_time="at")


@pytest.fixture
def fold_odd(spark: SparkSession) -> Callable[..., Any]:
    """Folds events given as (name, n, big, x) for one view; answers by key, and how many it rejected."""

    def fold(events: Sequence[tuple[Any, ...]], **options: Any) -> tuple[dict[Any, Any], int]:
        folds = Folds.of(spark, View("view", source=ODD, **options))
        names = ("name", "n", "big", "x")
        values = [encode({**dict(zip(names, event, strict=True)), "at": NOON.isoformat()}) for event in events]
        folded = folds.collect(values)
        found = folds.answers(folded, folds.views[0])
        return {key: answer for (key, _), answer in found.items()}, sum(folded.rejects.values())

    return fold


@pytest.mark.parametrize(
    "measure, bad",
    [
        (Sum("100 / n"), ("a", 0, 1, 1.0)),
        (Sum("n % 0"), ("a", 5, 1, 1.0)),
        (Sum("big + 1L"), ("a", 1, 2**63 - 1, 1.0)),
        (Max("n * 2"), ("a", 2**31 - 1, 1, 1.0)),
        (Mean("cast(name as int)"), ("word", 1, 1, 1.0)),
        (Count(where="n * 2 between 0 and 50"), ("a", 2**31 - 1, 1, 1.0)),
        (Sum("nullif(-n, 7)"), ("a", -(2**31), 1, 1.0)),
        (CountBy("split(name, ',')[n - 1]"), ("a", 9, 1, 1.0)),
        (TopK("name", weight="n * 2"), ("a", 2**31 - 1, 1, 1.0)),
        (Quantiles("1 / x"), ("a", 1, 1, 0.0)),
        (Count(where="1 / n > 0"), ("a", 0, 1, 1.0)),
        (ApproxDistinct("cast(name as date)"), ("word", 1, 1, 1.0)),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_an_error_in_a_row_rejects_that_event_from_that_view_alone(
    spark: SparkSession, measure: Any, bad: tuple[Any, ...]
) -> None:
    failing = View("failing", source=ODD, key="name", measures={"m": measure, "lines": Count()})
    fine = View("fine", source=ODD, measures={"lines": Count(), "names": CountBy("name")})
    folds = Folds.of(spark, failing, fine)
    good = ("1", 1, 1, 1.0)
    good = ("2011-12-09", 1, 1, 1.0) if isinstance(measure, ApproxDistinct) else good
    good = ("5", 1, 1, 1.0) if measure.expression == "n % 0" else good
    names = ("name", "n", "big", "x")
    rows = [bad, *([] if measure.expression == "n % 0" else [good])]
    values = [encode({**dict(zip(names, row, strict=True)), "at": NOON.isoformat()}) for row in rows]
    folded = folds.collect(values)
    failing_view, fine_view = folds.views
    assert folded.rejects == {failing_view.fingerprint: 1}
    assert set(folds.answers(folded, failing_view)) == {((row[0],), None) for row in rows[1:]}
    assert folds.answers(folded, fine_view)[(), None]["lines"] == len(rows)


def test_two_views_that_fail_on_the_same_expression_reject_the_event_each(spark: SparkSession) -> None:
    first = View("first", source=ODD, measures={"m": Sum("100 / n"), "lines": Count()})
    second = View("second", source=ODD, key="name", where="100 / n > 0", measures={"m": Sum("100 / n")})
    folds = Folds.of(spark, first, second)
    values = [encode({"name": "a", "n": n, "at": NOON.isoformat()}) for n in (0, 4, 5)]
    folded = folds.collect(values)
    assert folded.rejects == {view.fingerprint: 1 for view in folds.views}
    assert folds.answers(folded, folds.views[0])[(), None] == {"m": 45.0, "lines": 2}


def test_an_event_that_a_filter_leaves_out_is_not_rejected_for_its_measures(fold_odd: Any) -> None:
    options = {"where": "n <> 0", "measures": {"m": Sum("100 / n")}}
    assert fold_odd([("a", 0, 1, 1.0), ("a", 4, 1, 1.0)], **options) == ({(): {"m": 25.0}}, 0)


def test_nan_is_one_key_and_the_largest_number(fold_odd: Any) -> None:
    events = [("a", 1, 1, -1.0), ("b", 2, 1, -4.0), ("c", 3, 1, 4.0)]
    answers, _ = fold_odd(events, columns={"root": "sqrt(x)"}, key="root", measures={"lines": Count()})
    assert sorted((str(key), answer["lines"]) for (key,), answer in answers.items()) == [
        ("2.0", 1),
        ("nan", 2),
    ]
    answers, _ = fold_odd(
        events,
        columns={"root": "sqrt(x)"},
        measures={
            "max": Max("root"),
            "min": Min("root"),
            "p": Quantiles("root", at=[0, 1]),
            "n": Count("root"),
        },
    )
    found = answers[()]
    assert (str(found["max"]), found["min"], found["n"]) == ("nan", 2.0, 3)
    assert found["p"]["p0"] == pytest.approx(2.0, rel=0.01)
    assert math.isnan(found["p"]["p100"])


def test_minus_zero_is_zero_as_a_key_and_as_a_value(fold_odd: Any) -> None:
    events = [("a", 1, 1, 0.0), ("b", 1, 1, -0.0)]
    options = {"columns": {"minus": "-x", "either": "if(name = 'a', x, -x)"}}
    for key in ("minus", "either"):
        answers, _ = fold_odd(events, **options, key=key, measures={"lines": Count(), "kinds": ApproxDistinct(key)})
        assert [(str(k), answer) for (k,), answer in answers.items()] == [("0.0", {"lines": 2, "kinds": 1})]
    answers, _ = fold_odd(events, **options, measures={"max": Max("minus"), "min": Min("minus"), "sum": Sum("minus")})
    assert [str(value) for value in answers[()].values()] == ["0.0", "0.0", "0.0"]


def test_the_empty_text_is_a_value_and_null_is_none(fold_odd: Any) -> None:
    events = [("", 1, 1, 1.0), (None, 1, 1, 1.0), ("a", 1, 1, 1.0)]
    measures = {
        "names": ApproxDistinct("name"),
        "by": CountBy("name"),
        "top": TopK("name"),
        "n": Count("name"),
    }
    answers, _ = fold_odd(events, measures=measures)
    expected = {"names": 2, "by": {"": 1, "a": 1}, "top": [["", 1], ["a", 1]], "n": 2}
    assert answers == {(): expected}
    answers, _ = fold_odd(events, key="name", measures={"lines": Count()})
    assert answers == {("",): {"lines": 1}, (None,): {"lines": 1}, ("a",): {"lines": 1}}


def test_measures_of_nothing_but_nulls_present_their_zero(fold_odd: Any) -> None:
    measures = {
        "sum": Sum("big"),
        "mean": Mean("x"),
        "max": Max("name"),
        "variance": Variance("x"),
        "deviation": StdDev("n"),
        "first": First("x"),
        "by": CountBy("name"),
        "names": ApproxDistinct("name"),
        "p": Quantiles("x", at=[0.5]),
    }
    answers, _ = fold_odd([(None, None, None, None)], measures=measures)
    nothing = dict.fromkeys(["sum", "mean", "max", "variance", "deviation", "first"])
    assert answers == {(): {**nothing, "by": {}, "names": 0, "p": {"p50": None}}}


def test_sums_of_whole_numbers_grow_past_64_bits(fold_odd: Any) -> None:
    events = [("a", 1, 2**63 - 1, 1.0)] * 3
    answers, _ = fold_odd(events, measures={"sum": Sum("big"), "mean": Mean("big")})
    assert answers == {(): {"sum": 3 * (2**63 - 1), "mean": float(2**63 - 1)}}
