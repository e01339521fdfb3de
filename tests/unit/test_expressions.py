"""Row expressions: what is allowed, and derived columns put in place of their names."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideline.errors import DefinitionError
from tideline.expressions import (
    ROW_FUNCTIONS,
    check_row_expression,
    expand_columns,
    may_be_used,
    names_used,
    normalise,
    substitute,
)

ALLOWED = [
    "a + b * 2",
    "a / nullif(b, 0)",
    "case when a > 0 then 'x' else 'y' end",
    "a in (1, 2) and not b is null",
    "a between 1 and (2)",
    "upper(trim(s)) like 'A%'",
    "cast(a as decimal(10, 2))",
    "if (a > 0, a, -a)",
    "`a b` + 1",
    "'sum(x)'",
    "'now()'",
    "date_trunc('HOUR', at)",
    "_timestamp > at",
    "sum",
    "x.count",
    "'a -- b'",
    "timestamp '2020-01-01 00:00:00'",
]

REFUSED = [
    ("sum(a)", "NOT_A_ROW_EXPRESSION"),
    ("1 + COUNT (a)", "NOT_A_ROW_EXPRESSION"),
    ("row_number() over (order by a)", "FUNCTION_NOT_ALLOWED"),
    ("a over (partition by b)", "NOT_A_ROW_EXPRESSION"),
    ("(select 1)", "NOT_A_ROW_EXPRESSION"),
    ("rand()", "FUNCTION_NOT_ALLOWED"),
    ("uuid()", "FUNCTION_NOT_ALLOWED"),
    ("now()", "FUNCTION_NOT_ALLOWED"),
    ("current_timestamp", "NOT_DETERMINISTIC"),
    ("at > CURRENT_DATE", "NOT_DETERMINISTIC"),
    ("s = user", "NOT_DETERMINISTIC"),
    ("concat(s, Current_User)", "NOT_DETERMINISTIC"),
    ("localtimestamp", "NOT_DETERMINISTIC"),
    ("at > timestamp 'now'", "NOT_DETERMINISTIC"),
    ("at < date ' Tomorrow '", "NOT_DETERMINISTIC"),
    ("cast('yesterday' as date)", "NOT_DETERMINISTIC"),
    ("to_timestamp('today')", "NOT_DETERMINISTIC"),
    ("java_method('a', 'b')", "FUNCTION_NOT_ALLOWED"),
    ("explode(a)", "FUNCTION_NOT_ALLOWED"),
    ("a; b", "BAD_EXPRESSION"),
    ("", "BAD_EXPRESSION"),
    ("'open", "BAD_EXPRESSION"),
    ("a -- all of it", "BAD_EXPRESSION"),
    ("a /* really */ + 1", "BAD_EXPRESSION"),
]


QUOTED = [
    ("`rand`()", "FUNCTION_NOT_ALLOWED"),
    ("`current_date`()", "FUNCTION_NOT_ALLOWED"),
    ("`sum` (a)", "NOT_A_ROW_EXPRESSION"),
]


@pytest.mark.parametrize("sql", ALLOWED)
def test_functions_of_one_event_are_allowed(sql: str) -> None:
    check_row_expression(sql)


@pytest.mark.parametrize(("sql", "condition"), REFUSED)
def test_all_else_is_refused_and_named(sql: str, condition: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_row_expression(sql)
    assert caught.value.condition == condition
    assert caught.value.params["expression"] == sql


@pytest.mark.parametrize(("sql", "condition"), QUOTED)
def test_a_quoted_function_is_still_a_function(sql: str, condition: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_row_expression(sql)
    assert caught.value.condition == condition


def test_a_column_may_bear_the_name_of_a_bare_function() -> None:
    check_row_expression("user = 'now' and now is not null", ["User", "now"])


def test_a_function_spelled_almost_right_is_suggested() -> None:
    with pytest.raises(DefinitionError) as caught:
        check_row_expression("uper(s)")
    assert "upper" in caught.value.params["similar"]


@pytest.mark.parametrize("function", sorted(ROW_FUNCTIONS))
def test_no_function_of_the_list_depends_on_more_than_its_row(function: str) -> None:
    assert function not in {"rand", "randn", "uuid", "now", "current_date", "current_timestamp", "shuffle"}


SUBSTITUTED: list[tuple[str, dict[str, str], str]] = [
    ("amount + 1", {"amount": "a * b"}, "(a * b) + 1"),
    ("AMOUNT", {"amount": "a"}, "(a)"),
    ("`amount` + 1", {"amount": "a"}, "(a) + 1"),
    ("amount(1) + x.amount", {"amount": "a"}, "amount(1) + x.amount"),
    ("'amount' || amount", {"amount": "a"}, "'amount' || (a)"),
    ("'é中😀' || amount || 'é'", {"amount": "'é'"}, "'é中😀' || ('é') || 'é'"),
    ("amounts + amount", {"amount": "a"}, "amounts + (a)"),
    ("a + b", {"a": "b", "b": "a"}, "(b) + (a)"),
    ("amount  +\n amount", {"amount": "a"}, "(a)  +\n (a)"),
]


@pytest.mark.parametrize(("sql", "columns", "expected"), SUBSTITUTED)
def test_derived_columns_take_the_place_of_their_names(sql: str, columns: dict[str, str], expected: str) -> None:
    assert substitute(sql, columns) == expected


def test_a_derived_column_may_use_those_before_it() -> None:
    columns = expand_columns({"net": "price - tax", "total": "net * quantity", "tax": "total"})
    assert columns == {
        "net": "price - tax",
        "total": "(price - tax) * quantity",
        "tax": "((price - tax) * quantity)",
    }


def test_names_are_found_whatever_their_case_and_not_in_texts() -> None:
    sqls = ["Quantity * price", "'customer'", "upper(`country`)"]
    assert names_used(sqls, ["quantity", "Price", "customer", "Country"]) == {"quantity", "Price", "Country"}


@pytest.mark.parametrize(
    ("sql", "column", "used"),
    [
        ("quantity * 2", "quantity", True),
        ("QUANTITY * 2", "Quantity", True),
        ("`quantity` * 2", "quantity", True),
        ("q.quantity", "quantity", True),
        ("price * 2", "quantity", False),
        ("price * 2", "größe", True),  # in doubt
        ("`\u212aind` = 1", "kind", True),  # the Kelvin sign, which Spark takes for a k
        ("`\u0131d` = 1", "id", True),  # a dotless i
        ("`\u017fort` = 1", "sort", True),  # a long s
    ],
)
def test_a_column_is_left_out_only_where_no_expression_can_mean_it(sql: str, column: str, used: bool) -> None:
    assert (column in may_be_used([sql, "true"], [column])) == used


def test_spelling_does_not_count_but_texts_do() -> None:
    assert normalise("A  +\n b") == normalise("a + B")
    assert normalise("Upper( s )") == normalise("upper(s)")
    assert normalise("'A'") != normalise("'a'")
    assert normalise("a") != normalise("'a'")
    assert normalise("'it''s'") != normalise("'it' 's'")  # Spark reads it's, and its


@given(st.text(max_size=30))
def test_any_text_is_judged_without_another_error(sql: str) -> None:
    for judge in (check_row_expression, normalise, lambda text: substitute(text, {"a": "b"})):
        call: Any = judge
        with contextlib.suppress(DefinitionError):
            call(sql)


@given(st.lists(st.sampled_from(["a", "b", "+", "'a'", "(", ")", "x.a", " ", "1.5"]), min_size=1, max_size=12))
def test_without_names_to_replace_nothing_changes(parts: list[str]) -> None:
    sql = " ".join(parts)
    if sql.strip():
        assert substitute(sql, {"c": "d"}) == sql
