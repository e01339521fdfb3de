"""Arrow's fold is Spark's: each expression that it takes gives the same values, each view the same states."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from cases import make_source, make_views, same_state
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from tideline import Count, CountBy, First, Last, Max, Mean, Min, Source, StdDev, Sum, TopK, Variance, View, minutes
from tideline.arrow_expressions import Compiler, NotPlain, Term
from tideline.arrow_fold import ArrowFold, plain_views
from tideline.arrow_types import arrow_type
from tideline.catalog import collect_catalog
from tideline.collect import by_view, collect
from tideline.definition import ViewDefinition
from tideline.fold_plan import FoldPlan
from tideline.plans import Folded
from tideline.spark.columns import try_eval
from tideline.spark.fold import Fold
from tideline.spark.resolve import resolve_catalog
from tideline.types import parse_schema, parse_type

SCHEMA = (
    "flag boolean, tiny tinyint, small smallint, n int, o int, big bigint, single float, x double, y double, "
    "price decimal(10,2), rate decimal(4,3), word string, other string, day date, at timestamp, until timestamp"
)
COLUMNS = parse_schema(SCHEMA)
UTC = dt.timezone.utc
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False],
    "tinyint": [0, -128, 127],
    "smallint": [0, -(2**15), 7],
    "int": [0, 1, -1, 2, 3, 2**31 - 1, -(2**31), 50_000],
    "bigint": [0, 1, -5, 2**53 + 1, 2**63 - 1, -(2**63)],
    "float": [0.0, 0.1, -2.5],
    "double": [0.0, -0.0, 0.1, 2.5, -1e308, 1e308, float("inf"), 5e-324],
    "decimal": [Decimal("0.00"), Decimal("1.25"), Decimal("-3.00"), Decimal("9.99")],
    "string": ["", "a", "b", "Z", "Ελλάδα", "\U0001f600", "a\0b", "2", " a"],
    "date": [dt.date(1970, 1, 1), dt.date(1969, 12, 31), dt.date(2011, 12, 9)],
    "timestamp": [dt.datetime(2011, 12, 9, 12, 0, 0, 1, UTC), dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)],
}


def make_table(seed: int, rows: int) -> pa.Table:
    """Rows of values that are where types end, and nulls."""
    dice = random.Random(seed)
    columns = [[dice.choice([None, *VALUES[column.type.name]]) for _ in range(rows)] for column in COLUMNS]
    kinds = [arrow_type(column.type) for column in COLUMNS]
    return pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], [c.name for c in COLUMNS])


NUMBERS = "n o big x y price rate 0 1 3 50000 0.5 2.25 7L 0D (-n) (-3) (-0.5) single".split()
TEXTS = ["word", "other", "'a'", "''", "'Ελλάδα'", "'it''s'"]
TIMES = ["at", "until", "day", "unix_micros(at)", "unix_date(day)"]
leaves = st.sampled_from([*NUMBERS, *NUMBERS, *TEXTS, *TIMES, "flag", "true", "tiny", "small", "null"])
comparisons = st.builds("({} {} {})".format, leaves, st.sampled_from("= <> < <= > >=".split()), leaves)


def _more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    nulls = st.builds("({} is {})".format, inner, st.sampled_from(["null", "not null"]))
    test = st.one_of(comparisons, nulls)
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+ - *".split()), inner),
        st.builds("({} {} {})".format, test, st.sampled_from(["and", "or"]), test),
        st.builds("(not {})".format, test),
        st.builds("if({}, {}, {})".format, test, inner, inner),
        st.builds("(case when {} then {} when {} then {} end)".format, test, inner, test, inner),
        st.builds("coalesce({}, {})".format, inner, inner),
        st.builds("nullif({}, {})".format, inner, inner),
        st.builds("({} in ({}, {}))".format, inner, leaves, leaves),
        st.builds("({} between {} and {})".format, inner, leaves, leaves),
        st.builds("cast({} as {})".format, inner, st.sampled_from("bigint double int decimal(20,0) string".split())),
        test,
    )


expressions = st.recursive(leaves, _more, max_leaves=6)


def _plain(terms: Mapping[str, Term], table: pa.Table) -> dict[str, list[Any]]:
    """What Arrow makes of those that it does not leave to Spark once it sees the values."""
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    found = {}
    for sql, term in terms.items():
        with contextlib.suppress(NotPlain, pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values = term.evaluate(columns)
            values = pa.repeat(values, len(table)) if isinstance(values, pa.Scalar) else values
            assert values.type == arrow_type(term.typed), (sql, values.type, term)
            found[sql] = values.to_pylist()
    return found


def _compiled(sqls: Sequence[str]) -> dict[str, Term]:
    compiler, found = Compiler(COLUMNS), {}
    for sql in sqls:
        with contextlib.suppress(NotPlain):
            found[sql] = compiler.term(sql)
    return {sql: term for sql, term in found.items() if term.kind is not None}


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    return type(left) is type(right) and bool(left == right)


@settings(max_examples=8, deadline=None)
@given(sqls=st.lists(expressions, min_size=60, max_size=60), seed=st.integers(0, 1000))
def test_what_is_plain_is_what_spark_says(spark: SparkSession, sqls: list[str], seed: int) -> None:
    table = make_table(seed, 12)
    terms = _compiled(sqls)
    found = _plain(terms, table)
    frame = spark.createDataFrame(table).select(
        *(try_eval(spark, sql).alias(f"v{number}") for number, sql in enumerate(found))
    )
    kinds = [parse_type(kind) for _, kind in frame.dtypes]
    assert kinds == [terms[sql].kind for sql in found]
    rows = table.to_pylist()
    for sql, theirs, mine in zip(found, frame.toArrow().columns, found.values(), strict=True):
        for row, left, right in zip(rows, theirs.to_pylist(), mine, strict=True):
            assert _same(left, right), (sql, row, left, right)


SOURCE = Source("odd", schema=SCHEMA, event_time="at", max_ahead=None)
MEASURES: dict[str, Any] = {
    "rows": Count(),
    "words": Count("word"),
    "few": Count(where="n < 100 and flag"),
    "whole": Sum("n"),
    "long": Sum("big", where="n is not null"),
    "exact": Sum("price"),
    "product": Sum("price * rate"),
    "real": Sum("x", where="x between -10 and 10"),
    "half": Sum("n * 0.5"),
    "mean": Mean("small"),
    "mean_price": Mean("price"),
    "spread": Variance("small"),
    "deviation": StdDev("n", population=True),
    "least": Min("x"),
    "most": Max("word"),
    "latest": Max("until"),
    "earliest": Min("day"),
    "dearest": Max("price"),
    "first": First("n"),
    "last": Last("word", where="flag"),
    "last_price": Last("price"),
    "by_word": CountBy("case when n > 1 then word when flag then 'flag' end"),
    "top": TopK("other", k=2, weight="small"),
}
SHAPES: list[dict[str, Any]] = [
    {},
    {"key": "word", "bucket": minutes(1)},
    {"key": ["flag", "n", "big"], "where": "word <> 'a' or word is null"},
    {"key": ["day", "until"], "columns": {"more": "n * price"}, "where": "more > 2"},
    {"bucket": minutes(60), "where": "n > 1 and n < 0"},
]


@pytest.fixture(scope="module")
def odd_views(spark: SparkSession) -> list[ViewDefinition]:
    """Views of every shape with every measure that is plain."""
    views = [View(f"v{place}", source=SOURCE, **shape, measures=MEASURES) for place, shape in enumerate(SHAPES)]
    return list(resolve_catalog(spark, collect_catalog(views, "a test")).views.values())


def _events(seed: int, rows: int) -> pa.Table:
    """Decoded events of three partitions, of which some are dead, and some repeated."""
    dice = random.Random(seed)
    table = make_table(seed, rows)
    times = [value or VALUES["timestamp"][0] for value in table["at"].to_pylist()]
    reasons = [dice.choice([None, None, None, "not JSON", "no object"]) for _ in range(rows)]
    columns = {name: table[name] for name in table.column_names}
    columns["at"] = pa.chunked_array([pa.array(times, arrow_type(parse_type("timestamp")))])
    alive = pa.array([reason is None for reason in reasons])
    events = {name: pc.if_else(alive, values, pa.scalar(None, values.type)) for name, values in columns.items()}
    places = {
        "_partition": pa.array([number % 3 for number in range(rows)], pa.int32()),
        "_offset": pa.array([number // 3 for number in range(rows)], pa.int64()),
        "_hash": pa.array([dice.randrange(-(2**63), 2**63) for _ in range(rows)], pa.int64()),
    }
    repeated = [reason is None and dice.random() < 0.2 for reason in reasons]
    return pa.table(
        {**places, **events, "_reason": pa.array(reasons, pa.string()), "_duplicate": pa.array(repeated, pa.bool_())}
    )


def _states(plan: FoldPlan, folded: Folded) -> dict[Any, Any]:
    return {
        (view.name, key, bucket): [m.canonical(s) for m, s in zip(view.measures.values(), states, strict=True)]
        for view in plan.views
        for key, bucket, states in folded.rows.get(view.fingerprint, ())
    }


def test_every_shape_with_every_measure_is_plain(odd_views: list[ViewDefinition]) -> None:
    ArrowFold(FoldPlan(SOURCE.resolve(), odd_views))  # or it says why not
    assert plain_views(SOURCE.resolve(), odd_views) == odd_views


@pytest.mark.parametrize("seed, rows", [(1, 0), (2, 1), (3, 7), (4, 400)])
def test_a_plain_fold_is_that_of_spark(
    spark: SparkSession, odd_views: list[ViewDefinition], seed: int, rows: int
) -> None:
    events = _events(seed, rows)
    fold = Fold(SOURCE.resolve(), odd_views)
    mine = collect(fold, ArrowFold(fold).fold(events))
    theirs = collect(fold, by_view(fold.aggregate(spark.createDataFrame(events)).toArrow()))
    assert (mine.log, mine.rejects) == (theirs.log, theirs.rejects)
    expected, found = _states(fold, theirs), _states(fold, mine)
    assert found.keys() == expected.keys()
    for place, states in expected.items():
        for name, left, right in zip(MEASURES, states, found[place], strict=True):
            assert same_state(left, right), (place, name, left, right)


def test_events_that_are_not_plain_are_left_to_spark(odd_views: list[ViewDefinition]) -> None:
    events = _events(5, 20)
    fold = ArrowFold(FoldPlan(SOURCE.resolve(), odd_views))
    fold.fold(events)
    nan = events.set_column(events.column_names.index("x"), "x", pa.array([math.nan] * 20))
    with pytest.raises(NotPlain, match="NaN"):
        fold.fold(nan)


def test_what_is_not_plain_is_told_by_the_view(spark: SparkSession) -> None:
    """Of the views with every measure, one with none but plain ones."""
    views = make_views(make_source("shop", event_id=None))
    resolved = resolve_catalog(spark, collect_catalog(views, "a test"))
    (source,) = resolved.sources.values()
    assert [view.name for view in plain_views(source, list(resolved.views.values()))] == ["totals"]
