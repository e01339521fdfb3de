"""Measures over rows that may be retracted: whatever the order, the answer is that of the rows that are left."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Row, fold
from test_measures import CASES, STRANGE, VALUES, WORDS

from tideline.codec import pack_row, unpack_row
from tideline.errors import DefinitionError
from tideline.measures import (
    ApproxDistinct,
    Count,
    First,
    Last,
    Max,
    Mean,
    Measure,
    Min,
    StdDev,
    Sum,
    TopK,
    Variance,
    measure_from_json,
)
from tideline.measures.kept import KeptSum
from tideline.measures.net import NetSum
from tideline.types import parse_type

STRANGE_KIND = "strange double"
KINDS = {**VALUES, STRANGE_KIND: STRANGE}
MORE: list[tuple[Measure, str]] = [
    *((kind_of("x"), STRANGE_KIND) for kind_of in (Sum, Mean, Min, Max, Variance, First, Last)),
    *((kind_of("x"), kind) for kind_of in (First, Last) for kind in ("boolean", "date", "timestamp", "int")),
    (ApproxDistinct("x"), "boolean"),
]
PLAIN = [(m.resolve(parse_type(kind.removeprefix("strange "))), kind) for m, kind in [*CASES, *MORE]]
every_measure = pytest.mark.parametrize(
    ("plain", "kind"), PLAIN, ids=[f"{m.kind}-{kind}-{i}" for i, (m, kind) in enumerate(PLAIN)]
)
EXAMPLES = settings(max_examples=25, deadline=None)
Signed = list[tuple[Row, int]]


def logs_of(kind: str) -> st.SearchStrategy[tuple[list[Row], Signed]]:
    """Rows that are left, and a log that leaves them: insertions and retractions in any order."""
    one = st.builds(
        Row,
        st.one_of(st.none(), KINDS[kind], WORDS if kind == "string" else KINDS[kind]),
        st.sampled_from([True, True, False, None]),
        st.one_of(st.none(), st.integers(-3, 3)),
        st.integers(0, 3),
    )

    def log(rows: list[Row], again: list[int], taken: list[bool], seed: int) -> tuple[list[Row], Signed]:
        rows = rows + [rows[place % len(rows)] for place in again if rows]
        left = [row for place, row in enumerate(rows) if not (place < len(taken) and taken[place])]
        signed = [(row, 1) for row in rows]
        signed += [(row, -1) for place, row in enumerate(rows) if place < len(taken) and taken[place]]
        random.Random(seed).shuffle(signed)
        return left, signed

    return st.builds(
        log,
        st.lists(one, max_size=8),
        st.lists(st.integers(0, 7), max_size=4),
        st.lists(st.booleans(), max_size=12),
        st.integers(0, 1000),
    )


def text_of(measure: Measure, value: Any) -> Any:
    """A value as an entry, as Spark's casts spell it."""
    kind = measure.resolved
    if isinstance(measure, Variance):
        exact = float(Decimal(value).scaleb(-kind.scale)) if kind.is_decimal else float(value)
        return repr(exact + 0.0)
    if kind.is_decimal:
        return str(Decimal(value).scaleb(-kind.scale))
    if kind.name == "boolean":
        return "true" if value else "false"
    return repr(value + 0.0) if kind.is_floating else value


def state_of(measure: Any, row: Row, sign: int) -> Any:
    """The state of one row with its sign."""
    if not row.holds or (row.value is None and measure.expression is not None):
        return measure.zero()
    if measure.entries() is None:
        return measure.states([[sign], [_signed(measure, row.value, sign)]] if measure.expression else [[sign]])[0]
    if isinstance(measure, (First, Last)):
        return {f"{row.at} {text_of(measure, row.value)}": sign}
    if isinstance(measure, TopK) and measure.weight:
        return {f"{row.weight or 0} {row.value}": sign}
    if "keeps" not in measure.bound:
        [entry] = fold(measure.plain(measure.expression, input=measure.input), [replace(row, holds=True)])
        return {entry: sign}
    return {text_of(measure, row.value): sign}


def _signed(measure: Measure, value: Any, sign: int) -> Any:
    if isinstance(measure, Count):
        return None
    return Decimal(value * sign).scaleb(-measure.resolved.scale) if measure.resolved.is_decimal else value * sign


def state(measure: Measure, signed: Signed) -> Any:
    total = measure.zero()
    for row, sign in signed:
        total = measure.merge(total, state_of(measure, row, sign))
    return total


def expected(plain: Measure, left: list[Row]) -> Any:
    """The plain measure's answer over the rows that are left; between equal times the values' order decides."""
    kept = [row for row in left if row.holds and row.value is not None]
    if isinstance(plain, ApproxDistinct):
        return len({repr(row.value) for row in kept})
    if isinstance(plain, (First, Last)):
        left = sorted(kept, key=lambda row: (isinstance(row.value, float) and math.isnan(row.value), row.value))
        left = [replace(row, offset=place) for place, row in enumerate(left)]
    return plain.present(fold(plain, left))


def same(plain: Measure, want: Any, found: Any, left: list[Row]) -> bool:
    """Equal; sums and moments of doubles within their stated bound."""
    if not isinstance(want, float) or not isinstance(found, float):
        return bool(want == found)
    if math.isnan(want) or math.isinf(want):
        return math.isnan(found) if math.isnan(want) else want == found
    sizes = [abs(row.value) for row in left if row.holds and row.value is not None]
    bound = sum(sizes)  # beyond a double it is infinite
    if isinstance(plain, Variance):
        bound = 2 * sum(size * size for size in sizes)
        want, found = (want * want, found * found) if isinstance(plain, StdDev) else (want, found)
    return want == found or abs(want - found) <= 1e-9 * bound


@every_measure
def test_the_answer_is_that_of_the_rows_that_are_left(plain: Measure, kind: str) -> None:
    measure = plain.retractable()

    @EXAMPLES
    @given(logs_of(kind), st.integers(0, 24))
    def law(log: tuple[list[Row], Signed], cut: int) -> None:
        left, signed = log
        batch, speed = state(measure, signed[:cut]), state(measure, signed[cut:])
        found = measure.merge(batch, speed)
        if isinstance(plain, Variance) and kind == STRANGE_KIND and any(abs(r.value or 0) > 1e150 for r in left):
            return  # squares beyond a double
        assert same(plain, expected(plain, left), measure.present(found), left)
        assert measure.canonical(found) == measure.canonical(state(measure, [(row, 1) for row in left]))
        assert found == measure.merge(speed, batch)
        merged = measure.merge_all([measure.zero(), *(state_of(measure, row, sign) for row, sign in signed)])
        assert measure.canonical(merged) == measure.canonical(found)

    law()


@every_measure
def test_a_log_and_its_opposite_leave_nothing_and_merging_changes_no_input(plain: Measure, kind: str) -> None:
    measure = plain.retractable()

    @EXAMPLES
    @given(logs_of(kind))
    def law(log: tuple[list[Row], Signed]) -> None:
        _, signed = log
        there, opposite = state(measure, signed), state(measure, [(row, -sign) for row, sign in signed])
        before = pack_row((), None, [there, opposite])
        assert measure.merge(there, opposite) == measure.zero()
        assert pack_row((), None, [there, opposite]) == before
        assert unpack_row(before)[2] == [there, opposite]

    law()


@every_measure
def test_a_retraction_without_an_insertion_is_no_row(plain: Measure, kind: str) -> None:
    measure = plain.retractable()

    @EXAMPLES
    @given(logs_of(kind))
    def law(log: tuple[list[Row], Signed]) -> None:
        left, _ = log
        opposite = state(measure, [(row, -1) for row in left])
        nothing = measure.present(measure.zero())
        counted = sum(bool(row.holds) and (row.value is not None or not plain.expression) for row in left)
        assert measure.present(opposite) == (-counted if isinstance(plain, Count) else nothing)
        assert repr(list(measure.present_many([opposite]))) == repr([measure.present(opposite)])

    law()


@every_measure
def test_a_twin_round_trips_through_json_and_is_not_the_plain_measure(plain: Measure, kind: str) -> None:
    measure = plain.retractable()
    again = measure_from_json(measure.to_json())
    assert (again, type(again)) == (measure, type(measure))
    assert type(measure_from_json(plain.to_json())) is type(plain)
    assert isinstance(measure, type(plain))
    assert measure.answer_type == plain.answer_type
    assert measure.bound["exact"] == (plain.bound["exact"] or isinstance(plain, ApproxDistinct))
    assert "retracts" not in plain.to_json()


def test_sums_keep_their_values_only_where_they_would_round() -> None:
    assert type(Sum("x").resolve(parse_type("bigint")).retractable()) is NetSum
    double = Sum("x").resolve(parse_type("double")).retractable()
    assert type(double) is KeptSum
    total = double.zero()
    for value, sign in ((1e16, 1), (1.0, 1), (math.inf, 1), (1e16, -1), (math.inf, -1)):
        total = double.merge(total, {repr(value): sign})
    assert double.present(total) == 1.0, "adding and taking away would have left 0.0, or NaN"


def test_a_spread_with_an_infinity_is_nan_until_that_is_retracted() -> None:
    spread = Variance("x", population=True).resolve(parse_type("double")).retractable()
    both = spread.merge({"Infinity": 2}, {"1.0": 1, "3.0": 1})
    assert math.isnan(spread.present(both))
    assert math.isnan(spread.present({"Infinity": 2}))
    assert spread.present(spread.merge(both, {"Infinity": -2})) == 1.0


def test_a_measure_without_a_twin_is_refused() -> None:
    class Mode(Count):
        kind = "mode_of_a_retraction"

    try:
        with pytest.raises(DefinitionError) as caught:
            Mode().retractable()
    finally:
        del Measure.registry["mode_of_a_retraction"]
    assert (caught.value.condition, caught.value.params["measure"]) == ("NOT_RETRACTABLE", "mode_of_a_retraction")


def test_every_measure_has_a_twin_or_several() -> None:
    assert set(Measure.twins) == set(Measure.registry)
