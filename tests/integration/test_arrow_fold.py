"""Arrow's fold is Spark's: each expression that it takes gives the same values, each view the same states."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import row_expressions
from cases import make_source, make_views, same_state
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

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
    minutes,
)
from tideline.arrow_expressions import Compiler
from tideline.arrow_fold import ArrowFold, combined, plain_views
from tideline.arrow_terms import NotPlain, Term, plainly
from tideline.arrow_types import arrow_type
from tideline.catalog import collect_catalog
from tideline.collect import by_view, collect
from tideline.definition import ViewDefinition
from tideline.fold_plan import FoldPlan
from tideline.plans import Folded
from tideline.spark.columns import try_eval
from tideline.spark.fold import Fold
from tideline.spark.resolve import resolve_catalog
from tideline.types import Column, parse_schema, parse_type

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
TIMES = ["at", "until", "day", "unix_micros(at)", "unix_date(day)", "timestamp_millis(n)", "timestamp_seconds(o)"]
OTHERS = ["cast(price as double)", "flag", "true", "tiny", "small", "null"]
leaves = st.sampled_from(
    [*NUMBERS, *NUMBERS, *TEXTS, *TIMES, "cast(price as double)", "flag", "true", "tiny", "small", "null"]
)
comparisons = st.builds("({} {} {})".format, leaves, st.sampled_from("= <> < <= > >=".split()), leaves)


def _more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    nulls = st.builds("({} is {})".format, inner, st.sampled_from(["null", "not null"]))
    test = st.one_of(comparisons, nulls)
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+ - *".split()), inner),
        st.builds("({} / {})".format, inner, st.sampled_from(["x", "n", "3", "0.25D"])),
        st.builds("({} {} {})".format, test, st.sampled_from(["and", "or"]), test),
        st.builds("(not {})".format, test),
        st.builds("if({}, {}, {})".format, test, inner, inner),
        st.builds("(case when {} then {} when {} then {} end)".format, test, inner, test, inner),
        st.builds("coalesce({}, {})".format, inner, inner),
        st.builds("nullif({}, {})".format, inner, inner),
        st.builds("({} in ({}, {}))".format, inner, leaves, leaves),
        st.builds("({} between {} and {})".format, inner, leaves, leaves),
        st.builds("{}({})".format, st.sampled_from("abs sign ln ceil isnan hour dayofweek second".split()), inner),
        st.builds("ceil(ln({}) / 0.02D)".format, inner),
        st.builds("concat({}, {})".format, inner, inner),
        st.builds("{}({}, {})".format, st.sampled_from(["pmod", "mod"]), inner, st.sampled_from("3 7".split())),
        st.builds("({} % {})".format, inner, st.sampled_from("3 2".split())),
        st.builds("try_element_at(array(5, 6, 7), {})".format, inner),
        st.builds("({} like {})".format, inner, st.sampled_from(["'a%'", "'%Z'", "' %'", "'_a%'"])),
        st.builds("({} not like {})".format, inner, st.sampled_from(["'a%'", "'%Z'"])),
        st.builds("({} not in ({}, {}))".format, inner, leaves, leaves),
        st.builds("({} not between {} and {})".format, inner, leaves, leaves),
        st.builds("ceil({}, 1)".format, inner),
        st.builds("cast({} as {})".format, inner, st.sampled_from("bigint double int decimal(20,0) string".split())),
        test,
    )


expressions = st.recursive(leaves, _more, max_leaves=6)


LEFT = "left to Spark"


def _by_row(term: Term, table: pa.Table) -> list[Any]:
    """What Arrow makes of each row by itself; LEFT where it does not."""
    found: list[Any] = []
    for row in range(len(table)):
        columns = {name: table[name].slice(row, 1).combine_chunks() for name in table.column_names}
        try:
            with plainly():
                values = term.evaluate(columns)
        except NotPlain:
            found.append(LEFT)
            continue
        values = pa.repeat(values, 1) if isinstance(values, pa.Scalar) else values
        assert values.type == arrow_type(term.typed), (values.type, term)
        found += values.to_pylist()
    return found


def _compiled(sqls: Sequence[str], columns: tuple[Column, ...] = COLUMNS) -> dict[str, Term]:
    compiler, found = Compiler(columns), {}
    for sql in sqls:
        with contextlib.suppress(NotPlain):
            found[sql] = compiler.term(sql)
    return {sql: term for sql, term in found.items() if term.kind is not None and not term.rounded}


def _plain(value: Any) -> Any:
    """A time as Spark's rows and Arrow's have it: the one without its zone, which is the machine's."""
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, dt.datetime) and value.tzinfo else value


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    return type(left) is type(right) and bool(left == right)


def _differences(spark: SparkSession, table: pa.Table, terms: Mapping[str, Term]) -> list[Any]:
    """Where a row's value is neither Spark's nor left to it; an error of Spark's always is."""
    of_one = [try_eval(spark, f"struct({sql} as v)").alias(f"v{number}") for number, sql in enumerate(terms)]
    frame = spark.createDataFrame(table).select(*of_one)
    wrong: list[Any] = []
    rows = table.to_pylist()
    theirs_by_row = frame.collect()
    for place, (sql, kind) in enumerate(zip(terms, frame.schema, strict=True)):
        wanted = parse_type(kind.dataType["v"].dataType.simpleString())
        if terms[sql].kind != wanted:  # `compile` refuses it
            wrong += [] if wanted.is_decimal else [(sql, wanted, terms[sql])]
            continue
        found = _by_row(terms[sql], table)
        for row, theirs, right in zip(rows, theirs_by_row, found, strict=True):
            left = theirs[place]
            if right != LEFT and (left is None or not _same(_plain(left["v"]), _plain(right))):
                wrong.append((sql, row, left, right))
                break
    return wrong


@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(sqls=st.lists(expressions, min_size=60, max_size=60), seed=st.integers(0, 1000))
def test_what_is_plain_is_what_spark_says(spark: SparkSession, sqls: list[str], seed: int) -> None:
    assert _differences(spark, make_table(seed, 12), _compiled(sqls)) == []


def test_expressions_of_all_kinds_are_what_spark_says_or_left_to_it(spark: SparkSession) -> None:
    table = row_expressions.events().select([column.name for column in row_expressions.SOURCE.schema])
    table = table.cast(pa.schema([(c.name, arrow_type(c.type)) for c in row_expressions.SOURCE.schema]))
    others = [text.strip() for text in row_expressions.LEFT_TO_SPARK.split(";") if text.strip()]
    terms = _compiled([*row_expressions.EXPRESSIONS, *others], row_expressions.SOURCE.schema)
    terms.pop("ts")  # before year 1, which Python cannot show
    assert len(terms) > 130
    assert "cast(ln(x) as bigint)" not in terms
    assert _differences(spark, table, terms) == []


WITHOUT_BRACKETS = """
flag = n < o; n < o = flag; n = o = flag; flag = n in (1, 2); flag = n not in (1, 2); n in (1, 2) = flag;
flag <> n is null; flag = word like 'a%'; flag = n between 0 and 3; n between 0 and 3 = flag; not flag = flag;
flag = n < o is null; n + 1 < o * 2; n < 1 or o < 1 and flag; flag = (n < o);
(flag = flag) in (true); n in (1, 2) in (true); flag = flag in (true, false)
"""
TO_ONE_TYPE = """
big in (9007199254740993, 0D); big in (9007199254740992D, 7L); big in (9007199254740993, 1.5); n in (1, 2.5D);
n in (1L, 7); price in (1, 1.25, 9.990000); price in (1.25, 0D); -(-2147483648); -(-(-2147483648)); -2147483648 = n;
-(-9223372036854775808); - -2147483647; big = -(-9223372036854775807)
"""


def test_what_belongs_together_without_brackets_is_what_spark_says(spark: SparkSession) -> None:
    sqls = [sql.strip() for sql in (WITHOUT_BRACKETS + ";" + TO_ONE_TYPE).split(";") if sql.strip()]
    table = make_table(3, 60)
    big = pa.array([2**53, 2**53 + 1, None] * 20, pa.int64())
    table = table.set_column(table.column_names.index("big"), "big", big)
    understood = []
    for sql in sqls:
        with contextlib.suppress(PySparkException):
            spark.createDataFrame(table).selectExpr(sql)
            understood.append(sql)
    terms = _compiled(understood)
    assert {"n + 1 < o * 2", "flag = (n < o)", "n in (1L, 7)", "price in (1, 1.25, 9.990000)"} <= terms.keys()
    assert _differences(spark, table, terms) == []


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
    "words_seen": ApproxDistinct("word"),
    "days_seen": ApproxDistinct("day", lg_k=6),
    "sizes": Quantiles("price", at=[0.5]),
    "spreads": Quantiles("n", at=[0.1], where="flag"),
    "tiny_sizes": Quantiles("n * 1e-3D * 1.0000001D", at=[0.1]),
    "hours": CountBy("cast(hour(at) * 60 + minute(at) as string)"),
    "by_word": CountBy("case when n > 1 then word when flag then 'flag' end"),
    "top": TopK("other", k=2, weight="small"),
}
COMBINED = "rows words few whole long exact product real mean least most earliest dearest".split()
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


def test_parts_of_a_range_combine_to_the_whole(odd_views: list[ViewDefinition]) -> None:
    simple = [replace(view, measures={name: view.measures[name] for name in COMBINED}) for view in odd_views]
    plan = FoldPlan(SOURCE.resolve(), simple)
    fold, events = ArrowFold(plan), _events(6, 400)
    parts = [fold.fold(events.slice(first, 130)) for first in range(0, 400, 130)]
    found, expected = collect(plan, *combined(plan, parts)), collect(plan, fold.fold(events))
    assert found.log == expected.log
    assert {view: len(rows) for view, rows in found.rows.items()} == {v: len(r) for v, r in expected.rows.items()}
    mine, theirs = _states(plan, found), _states(plan, expected)
    assert mine.keys() == theirs.keys()
    assert all(same_state(states, theirs[place]) for place, states in mine.items())


def test_events_that_are_not_plain_are_left_to_spark(odd_views: list[ViewDefinition]) -> None:
    events = _events(5, 20)
    fold = ArrowFold(FoldPlan(SOURCE.resolve(), odd_views))
    fold.fold(events)
    nan = events.set_column(events.column_names.index("x"), "x", pa.array([math.nan] * 20))
    with pytest.raises(NotPlain, match="NaN"):
        fold.fold(nan)


def test_views_that_are_not_plain_are_told_from_those_that_are(spark: SparkSession) -> None:
    source = make_source("shop", event_id=None)
    text = View("text", source=source, columns={"of": "cast(id as int)"}, measures={"of": Sum("of")})
    resolved = resolve_catalog(spark, collect_catalog([*make_views(source), text], "a test"))
    found = plain_views(*resolved.sources.values(), list(resolved.views.values()))
    assert [view.name for view in found] == ["everything", "countries", "totals"]
