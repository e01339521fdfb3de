"""Typed terms that compare and choose: comparisons, `and`, `or`, `case`, `coalesce`, and casts."""

from __future__ import annotations

from collections.abc import Sequence

from tideline.oracle.arithmetic import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    NULL,
    STRING,
    TIMESTAMP,
    VOID,
    Term,
    Untranslatable,
    common,
    duck_type,
    to_double,
)
from tideline.types import ColumnType


def compare(operator: str, left: Term, right: Term) -> Term:
    """A comparison of two values of one kind."""
    kind, [a, b] = common(left, right)
    if kind.name == "float":
        raise Untranslatable("a comparison of float")
    duck_type(kind)
    return left.to(f"({a.sql} {operator} {b.sql})", BOOLEAN, right)


def both(conjunction: bool, left: Term, right: Term) -> Term:
    """`and`, `or`. Where the right side may fail it is left alone once the left side has decided, as in
    Spark.
    """
    for term in (left, right):
        if term is not NULL:
            term.needs(BOOLEAN)
    word, decided = ("AND", "FALSE") if conjunction else ("OR", "TRUE")
    sql = f"({left.sql} {word} {right.sql})"
    if right.fallible:
        sql = f"(CASE WHEN {left.sql} IS NOT DISTINCT FROM {decided} THEN {decided} ELSE {sql} END)"
    return left.to(sql, BOOLEAN, right)


def choose(pairs: Sequence[tuple[Term, Term]], default: Term | None) -> Term:
    """`case`: the value of the first test that holds, else the default or null."""
    default = default or NULL
    kind, values = common(*(value for _, value in pairs), default)
    tests = [test.needs(BOOLEAN) for test, _ in pairs]
    branches = " ".join(f"WHEN {test.sql} THEN {value.sql}" for test, value in zip(tests, values[:-1], strict=True))
    return NULL.to(f"(CASE {branches} ELSE CAST({values[-1].sql} AS {duck_type(kind)}) END)", kind, *tests, *values)


def coalesce(terms: Sequence[Term]) -> Term:
    """The first value that is not null."""
    kind, values = common(*terms)
    if any(term.fallible for term in terms[1:]):
        raise Untranslatable("coalesce with a part that may fail")
    return NULL.to(f"COALESCE({', '.join(value.sql for value in values)})", kind, *values)


def cast(inner: Term, kind: ColumnType) -> Term:
    """`cast` among plain types, where both systems agree."""
    source, name = inner.type, duck_type(kind)
    if source in (kind, VOID):
        return inner.to(inner.sql if source == kind else f"CAST(NULL AS {name})", kind)
    if source.is_numeric and kind == DOUBLE:
        return to_double(inner)
    if source.is_integer and (kind.is_integer or kind.is_decimal):
        return inner.to(f"CAST({inner.sql} AS {name})", kind, fallible=True)
    if source.is_decimal and kind.is_decimal:
        return inner.to(f"CAST({inner.sql} AS {name})", kind, fallible=True)
    if (source.is_decimal and kind.is_integer) or (source == DOUBLE and kind.is_integer and kind != BIGINT):
        return inner.to(f"CAST(trunc({inner.sql}) AS {name})", kind, fallible=True)
    if kind == STRING and (source.is_integer or source in (BOOLEAN, DATE)):
        return inner.to(f"CAST({inner.sql} AS VARCHAR)", STRING)
    if (source == BOOLEAN and kind.is_integer) or {source, kind} == {DATE, TIMESTAMP}:
        return inner.to(f"CAST({inner.sql} AS {name})", kind)
    raise Untranslatable(f"cast of {source.sql} to {kind.sql}")
