"""The laws of section 7 that need no Spark, for every measure."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Row, fold

from tideline.codec import pack_row, unpack_row
from tideline.errors import DefinitionError
from tideline.measures import (
    ApproxDistinct,
    Count,
    CountBy,
    First,
    Last,
    Max,
    Mean,
    Measure,
    Min,
    Quantiles,
    StdDev,
    Sum,
    TopK,
    Variance,
    measure_from_json,
    quantile_name,
)
from tideline.types import from_wire, parse_type

DOUBLES = st.one_of(st.floats(-1e12, 1e12), st.sampled_from([0.0, 1.0, 0.1, 1e-9]))
STRANGE = st.one_of(st.floats().map(lambda x: x + 0.0), st.sampled_from([math.nan, math.inf, -math.inf]))
INTS, DECIMALS = st.integers(-(2**63), 2**63 - 1), st.integers(-(10**28) + 1, 10**28 - 1)
WORDS = st.sampled_from(["", "a", "b", "é", "中", "a" * 40])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "bigint": INTS,
    "decimal(28,3)": DECIMALS,
    "double": DOUBLES,
    "string": WORDS,
    "timestamp": INTS.map(lambda n: n // 1000),
    "date": st.integers(-700_000, 2_900_000),
    "boolean": st.booleans(),
}

CASES: list[tuple[Measure, str]] = [
    (Count(), "int"),
    (Count(where="x > 0"), "int"),
    (Count("x"), "string"),
    *((Sum("x"), kind) for kind in ("int", "bigint", "decimal(28,3)", "double")),
    *((Mean("x", where="x > 0"), kind) for kind in ("bigint", "decimal(28,3)", "double")),
    *((Variance("x"), kind) for kind in ("int", "double")),
    (Variance("x", population=True), "double"),
    (StdDev("x"), "double"),
    *((kind_of("x"), kind) for kind_of in (Min, Max) for kind in VALUES),
    *((kind_of("x"), kind) for kind_of in (First, Last) for kind in ("decimal(28,3)", "string", "double")),
    (CountBy("x"), "string"),
    (TopK("x", k=2), "string"),
    (TopK("x", weight="w"), "string"),
    *((Quantiles("x", at=[0, 0.5, 0.99, 1]), kind) for kind in ("bigint", "decimal(28,3)", "double")),
    (ApproxDistinct("x"), "bigint"),
    (ApproxDistinct("x", lg_k=4), "bigint"),
    (ApproxDistinct("x", lg_k=14), "string"),
]
RESOLVED = [(measure.resolve(parse_type(kind)), kind) for measure, kind in CASES]
NAMES = [f"{measure.kind}-{kind}-{index}" for index, (measure, kind) in enumerate(CASES)]
every_measure = pytest.mark.parametrize(("measure", "kind"), RESOLVED, ids=NAMES)
EXAMPLES = settings(max_examples=30, deadline=None)


def rows_of(kind: str) -> st.SearchStrategy[list[Row]]:
    """Rows, each with a place of its own in the log."""
    one = st.builds(
        Row,
        st.one_of(st.none(), VALUES[kind]),
        st.sampled_from([True, True, False, None]),
        st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        st.integers(0, 3),
        st.integers(0, 2),
    )
    return st.lists(one, max_size=12).map(lambda rows: [replace(row, offset=index) for index, row in enumerate(rows)])


def states_of(measure: Measure, kind: str) -> st.SearchStrategy[Any]:
    return rows_of(kind).map(lambda rows: fold(measure, rows))


def close(measure: Measure, left: Any, right: Any, rows: list[Row]) -> bool:
    """Equality of states; of sums of doubles and moments within the stated bound."""
    sizes = [abs(row.value) for row in rows if isinstance(row.value, (int, float))]
    if isinstance(measure, (Sum, Mean)) and measure.resolved.is_floating:
        return left[0] == right[0] and abs(left[1] - right[1]) <= 1e-9 * math.fsum(sizes)
    if isinstance(measure, Variance):
        squares = math.fsum(size * size for size in sizes)
        return (
            left[0] == right[0]
            and abs(left[1] - right[1]) <= 1e-9 * max(sizes, default=0)
            and abs(left[2] - right[2]) <= 1e-9 * squares
        )
    if isinstance(measure, ApproxDistinct):
        return bool(measure.canonical(left) == measure.canonical(right))
    return bool(left == right)


@every_measure
def test_zero_is_the_identity_of_merge(measure: Measure, kind: str) -> None:
    @EXAMPLES
    @given(rows_of(kind))
    def law(rows: list[Row]) -> None:
        state = fold(measure, rows)
        assert close(measure, measure.merge(measure.zero(), state), state, rows)
        assert close(measure, measure.merge(state, measure.zero()), state, rows)
        assert fold(measure, []) == measure.zero()

    law()


@every_measure
def test_merge_is_associative_and_commutative(measure: Measure, kind: str) -> None:
    @EXAMPLES
    @given(rows_of(kind), rows_of(kind), rows_of(kind))
    def law(a: list[Row], b: list[Row], c: list[Row]) -> None:
        # Three parts of one log: no two rows stand at the same place.
        b, c = ([replace(row, partition=row.partition + shift) for row in part] for part, shift in ((b, 10), (c, 20)))
        x, y, z = (fold(measure, part) for part in (a, b, c))
        left, right = measure.merge(measure.merge(x, y), z), measure.merge(x, measure.merge(y, z))
        assert close(measure, left, right, a + b + c)
        assert close(measure, measure.merge(x, y), measure.merge(y, x), a + b)

    law()


@every_measure
def test_folding_all_is_merging_the_folds_of_parts(measure: Measure, kind: str) -> None:
    @EXAMPLES
    @given(rows_of(kind), st.integers(0, 12))
    def law(rows: list[Row], cut: int) -> None:
        parts = measure.merge(fold(measure, rows[:cut]), fold(measure, rows[cut:]))
        assert close(measure, parts, fold(measure, rows), rows)

    law()


@every_measure
def test_merging_all_is_merging_one_by_one(measure: Measure, kind: str) -> None:
    @EXAMPLES
    @given(rows_of(kind), st.sampled_from([1, 2, 5]))
    def law(rows: list[Row], size: int) -> None:
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        states = [measure.zero(), *(fold(measure, part) for part in parts)]
        before = repr(states)
        assert close(measure, measure.merge_all(states), reduce(measure.merge, states), rows)
        assert repr(states) == before

    law()


@every_measure
def test_merge_leaves_its_inputs_alone_and_shares_nothing(measure: Measure, kind: str) -> None:
    @EXAMPLES
    @given(states_of(measure, kind), states_of(measure, kind))
    def law(x: Any, y: Any) -> None:
        before = copy.deepcopy((x, y))
        merged = measure.merge(x, y)
        measure.present(merged)
        assert (x, y) == before
        if isinstance(merged, dict):
            merged["new"] = 1
            assert (x, y) == before

    law()


@every_measure
def test_a_stored_state_comes_back_equal(measure: Measure, kind: str) -> None:
    @EXAMPLES
    @given(states_of(measure, kind))
    def law(state: Any) -> None:
        key, bucket, [back] = unpack_row(pack_row(("k", None), 5, [state]))
        assert (tuple(key), bucket, back) == (("k", None), 5, state)
        assert measure.present(back) == measure.present(state)

    law()


@every_measure
def test_many_are_presented_as_one_by_one(measure: Measure, kind: str) -> None:
    @EXAMPLES
    @given(st.lists(states_of(measure, kind), max_size=3))
    def law(states: list[Any]) -> None:
        assert repr(list(measure.present_many(states))) == repr([measure.present(state) for state in states])

    law()


@every_measure
def test_canonical_forms_are_equal_whatever_the_order(measure: Measure, kind: str) -> None:
    @EXAMPLES
    @given(rows_of(kind))
    def law(rows: list[Row]) -> None:
        one_by_one, backwards = measure.zero(), measure.zero()
        for row in rows:
            one_by_one = measure.merge(one_by_one, fold(measure, [row]))
        for row in reversed(rows):
            backwards = measure.merge(fold(measure, [row]), backwards)
        if measure.bound["exact"] or isinstance(measure, (Quantiles, ApproxDistinct)):
            assert measure.canonical(one_by_one) == measure.canonical(backwards)
        assert close(measure, one_by_one, fold(measure, rows), rows)

    law()


@every_measure
def test_a_definition_round_trips_through_json(measure: Measure, kind: str) -> None:
    assert measure_from_json(measure.to_json()) == measure
    assert measure.input == parse_type(kind)


@every_measure
def test_the_answer_of_no_rows_is_null_or_empty(measure: Measure, kind: str) -> None:
    answer = measure.present(measure.zero())
    if isinstance(measure, Quantiles):
        assert set(answer.values()) == {None}
    else:
        assert answer in (None, 0, {}, [])


PRESENT: list[tuple[Measure, str, list[Any], Any]] = [
    (Sum("x"), "bigint", [2**63 - 1, 2**63 - 1], 2**64 - 2),
    (Sum("x"), "decimal(28,3)", [10**28 - 1, 1], from_wire(parse_type("decimal(28,3)"), 10**28)),
    (Mean("x"), "bigint", [2**53, 2**53 + 2, 2**53 + 1], float(2**53 + 1)),
    (Mean("x"), "decimal(28,3)", [100, 200], 0.15),
    (Variance("x"), "double", [1.0, 2.0, 3.0, 4.0], 5 / 3),
    (Variance("x", population=True), "double", [3.0], 0.0),
    (Variance("x"), "double", [3.0], None),
    (StdDev("x"), "double", [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], math.sqrt(32 / 7)),
    (Min("x"), "double", [math.nan, 1.0], 1.0),
    (Max("x"), "string", ["b", "", "a"], "b"),
    (CountBy("x"), "string", ["b", "a", "b", None], {"a": 1, "b": 2}),
    (TopK("x", k=2), "string", ["b", "a", "c", "b", "c"], [["b", 2], ["c", 2]]),
]


@pytest.mark.parametrize(("measure", "kind", "values", "expected"), PRESENT)
def test_answers(measure: Measure, kind: str, values: list[Any], expected: Any) -> None:
    measure = measure.resolve(parse_type(kind))
    assert measure.present(fold(measure, [Row(value, offset=i) for i, value in enumerate(values)])) == expected


def test_nan_is_the_largest_number_on_either_side_of_a_merge() -> None:
    low, high = Min("x", input=parse_type("double")), Max("x", input=parse_type("double"))
    for x in (-math.inf, 1.0, math.inf):
        assert low.merge(x, math.nan) == low.merge(math.nan, x) == x
        assert math.isnan(high.merge(x, math.nan))
        assert math.isnan(high.merge(math.nan, x))
    for measure in (low, high):
        assert math.isnan(measure.merge(math.nan, None))
        assert math.isnan(measure.merge(None, math.nan))


def test_ties_in_time_go_by_partition_then_offset() -> None:
    rows = [
        Row(value, at=5, partition=p, offset=o) for value, p, o in (("a", 1, 9), ("b", 0, 7), ("c", 1, 2), ("d", 0, 8))
    ]
    for measure, expected in ((First("x"), "b"), (Last("x"), "a")):
        resolved = measure.resolve(parse_type("string"))
        state = resolved.zero()
        for row in rows:
            state = resolved.merge(state, fold(resolved, [row]))
        assert resolved.present(state) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(STRANGE, min_size=1, max_size=40), st.sampled_from([0, 0.01, 0.25, 0.5, 0.9, 0.99, 1]))
def test_a_quantile_is_within_one_percent_of_the_value_of_its_rank(values: list[float], q: float) -> None:
    measure = Quantiles("x", at=[q]).resolve(parse_type("double"))
    [found] = measure.present(fold(measure, [Row(value) for value in values])).values()
    ordered = sorted(values, key=lambda x: (math.isnan(x), 0 if math.isnan(x) else x))
    exact = ordered[max(1, math.ceil(q * len(values))) - 1]
    same = found == exact or (math.isnan(found) and math.isnan(exact))
    assert same or abs(found - exact) <= abs(exact) * 0.01 * (1 + 1e-9)


def test_sketches_of_many_keys_stay_within_their_standard_error_together() -> None:
    measure = ApproxDistinct("x", lg_k=10).resolve(parse_type("bigint"))
    errors = []
    for key in range(60):
        parts = [
            fold(measure, [Row(f"{key}-{value}") for value in range(start, start + 1500)]) for start in (0, 1000, 2500)
        ]
        state = measure.zero()
        for part in parts:
            state = measure.merge(state, part)
        errors.append(measure.present(state) / 4000 - 1)
    assert math.sqrt(sum(error**2 for error in errors) / len(errors)) <= measure.bound["bound"] * (
        1 + 4 / math.sqrt(120)
    )


WRONG: list[tuple[Callable[[], Any], str]] = [
    (Sum, "MISSING_EXPRESSION"),
    (lambda: Sum("x").resolve(parse_type("string")), "TYPE_MISMATCH"),
    (lambda: Sum("x").resolve(parse_type("decimal(38,2)")), "TYPE_MISMATCH"),
    (lambda: Max("x").resolve(parse_type("binary")), "TYPE_MISMATCH"),
    (lambda: TopK("x", k=0), "BAD_OPTION"),
    (lambda: Quantiles("x", at=[2]), "BAD_OPTION"),
    (lambda: Quantiles("x", at=[]), "BAD_OPTION"),
    (lambda: ApproxDistinct("x", lg_k=3), "BAD_OPTION"),
    (lambda: Sum("x").zero(), "UNRESOLVED_MEASURE"),
    (lambda: measure_from_json({"kind": "mode"}), "UNKNOWN_MEASURE"),
]


@pytest.mark.parametrize(("make", "condition"), WRONG)
def test_a_wrong_measure_is_refused(make: Callable[[], Any], condition: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert caught.value.condition == condition


def test_names_of_quantiles() -> None:
    assert [quantile_name(q) for q in (0, 0.5, 0.999, 0.07, 1)] == ["p0", "p50", "p99_9", "p7", "p100"]
