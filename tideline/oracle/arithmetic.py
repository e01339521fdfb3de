"""Typed terms of DuckDB SQL, and Spark's rules for the types of arithmetic, comparisons and choices."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tideline.types import ColumnType

BOOLEAN, STRING, DOUBLE = ColumnType("boolean"), ColumnType("string"), ColumnType("double")
INT, BIGINT, DATE, TIMESTAMP = (
    ColumnType("int"),
    ColumnType("bigint"),
    ColumnType("date"),
    ColumnType("timestamp"),
)
VOID = ColumnType("void")
_WIDTH = ("tinyint", "smallint", "int", "bigint")
_DIGITS = {"tinyint": 3, "smallint": 5, "int": 10, "bigint": 20}
_DUCK = {
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "tinyint": "TINYINT",
    "smallint": "SMALLINT",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "double": "DOUBLE",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
}


class Untranslatable(Exception):
    """An expression that DuckDB is not known to compute as Spark does."""


@dataclass(frozen=True)
class Term:
    """An expression for DuckDB with Spark's type of it.

    `fallible`: a row may make it fail. `guards`: conditions that must hold for every row, or the translation
    is not to be trusted.
    """

    sql: str
    type: ColumnType
    fallible: bool = False
    literal: bool = False
    guards: tuple[str, ...] = ()

    def to(self, sql: str, kind: ColumnType, *others: Term, fallible: bool = False) -> Term:
        """A term made of this one and others."""
        parts = (self, *others)
        guards = tuple(dict.fromkeys(guard for part in parts for guard in part.guards))
        return Term(sql, kind, fallible or any(part.fallible for part in parts), False, guards)

    def needs(self, *kinds: ColumnType) -> Term:
        """This term, if it has one of the types. Raises Untranslatable."""
        if self.type not in kinds:
            raise Untranslatable(f"{self.type.sql} where {' or '.join(kind.sql for kind in kinds)} is expected")
        return self


NULL = Term("NULL", VOID, literal=True)


def duck_type(kind: ColumnType) -> str:
    """The type's name in DuckDB. Raises Untranslatable."""
    if kind.is_decimal:
        return f"DECIMAL({kind.precision},{kind.scale})"
    if kind.name not in _DUCK:
        raise Untranslatable(f"type {kind.sql}")
    return _DUCK[kind.name]


def text(value: str) -> Term:
    return Term("'" + value.replace("'", "''") + "'", STRING, literal=True)


def number(spelled: str) -> Term:
    """A numeric literal by Spark's rules: int, bigint, decimal, or double if it has an exponent."""
    if re.fullmatch(r"\d+", spelled):
        if int(spelled) < 1 << 63:
            kind = INT if int(spelled) < 1 << 31 else BIGINT
            return Term(f"CAST({spelled} AS {duck_type(kind)})", kind, literal=True)
    elif found := re.fullmatch(r"(\d*)\.(\d+)", spelled):
        digits = len(found[1].lstrip("0")) + len(found[2])
        if digits <= 38:
            kind = ColumnType("decimal", digits, len(found[2]))
            return Term(f"CAST('{spelled}' AS {duck_type(kind)})", kind, literal=True)
    elif re.fullmatch(r"\d+(\.\d+)?[eE][-+]?\d+", spelled):
        return Term(f"CAST('{spelled}' AS DOUBLE)", DOUBLE, literal=True)
    raise Untranslatable(f"number {spelled}")


def _digits_of(term: Term) -> int:
    """How many digits Spark gives a whole number that meets a decimal; a literal has its own."""
    found = re.fullmatch(r"CAST\((\d+) AS \w+\)", term.sql) if term.literal else None
    return len(found[1]) if found else _DIGITS[term.type.name]


def _as_decimal(term: Term) -> Term:
    if term.type.is_decimal:
        return term
    kind = ColumnType("decimal", _digits_of(term), 0)
    return replace(term.to(f"CAST({term.sql} AS {duck_type(kind)})", kind), literal=term.literal)


def to_double(term: Term) -> Term:
    """The nearest double, as Spark rounds; DuckDB's own cast of a decimal may be one off in the last bit."""
    inner = f"CAST({term.sql} AS VARCHAR)" if term.type.is_decimal else term.sql
    return term if term.type == DOUBLE else term.to(f"CAST({inner} AS DOUBLE)", DOUBLE)


def common(*terms: Term) -> tuple[ColumnType, list[Term]]:
    """The one type that Spark brings these terms to, and the terms in it. Raises Untranslatable."""
    kinds = {term.type for term in terms} - {VOID}
    if not kinds:
        raise Untranslatable("nulls only")
    if len(kinds) == 1:
        kind = kinds.pop()
    elif all(kind.is_integer for kind in kinds):
        kind = max(kinds, key=lambda k: _WIDTH.index(k.name))
    elif not all(kind.is_numeric and kind.name != "float" for kind in kinds):
        raise Untranslatable(f"a mixture of {', '.join(sorted(kind.sql for kind in kinds))}")
    elif DOUBLE in kinds:
        return DOUBLE, [to_double(term) if term is not NULL else NULL for term in terms]
    else:
        # Spark lets a literal take its own digits in arithmetic only.
        shapes = [
            (t.type.precision, t.type.scale) if t.type.is_decimal else (_DIGITS[t.type.name], 0)
            for t in terms
            if t is not NULL
        ]
        scale = max(s for _, s in shapes)
        kind = ColumnType("decimal", max(p - s for p, s in shapes) + scale, scale)
        if kind.precision > 38:
            raise Untranslatable(kind.sql)
    return kind, [
        t if t is NULL or t.type == kind else t.to(f"CAST({t.sql} AS {duck_type(kind)})", kind) for t in terms
    ]


def _numbers(left: Term, right: Term) -> tuple[Term, Term]:
    for term in (left, right):
        if not term.type.is_numeric or term.type.name == "float":
            raise Untranslatable(f"arithmetic with {term.type.sql}")
    return left, right


def _binary(left: Term, right: Term, sql: str, kind: ColumnType, fallible: bool) -> Term:
    return left.to(sql, kind, right, fallible=fallible)


def plus(operator: str, left: Term, right: Term) -> Term:
    """Addition and subtraction."""
    _numbers(left, right)
    if left.type.is_decimal != right.type.is_decimal and DOUBLE not in (left.type, right.type):
        left, right = _as_decimal(left), _as_decimal(right)
    if left.type.is_decimal and right.type.is_decimal:
        (p1, s1), (p2, s2) = ((t.type.precision, t.type.scale) for t in (left, right))
        kind = ColumnType("decimal", max(p1 - s1, p2 - s2) + max(s1, s2) + 1, max(s1, s2))
        return _exact(operator, left, right, kind, widen=True)
    kind, [left, right] = common(left, right)
    return _binary(left, right, f"({left.sql} {operator} {right.sql})", kind, kind.is_integer)


def times(left: Term, right: Term) -> Term:
    """Multiplication."""
    _numbers(left, right)
    if left.type.is_decimal != right.type.is_decimal and DOUBLE not in (left.type, right.type):
        left, right = _as_decimal(left), _as_decimal(right)
    if left.type.is_decimal and right.type.is_decimal:
        kind = ColumnType("decimal", left.type.precision + right.type.precision + 1, left.type.scale + right.type.scale)
        return _exact("*", left, right, kind, widen=False)
    kind, [left, right] = common(left, right)
    return _binary(left, right, f"({left.sql} * {right.sql})", kind, kind.is_integer)


def _at_least_19(kind: ColumnType) -> ColumnType:
    return ColumnType("decimal", max(19, kind.precision), kind.scale)


def _exact(operator: str, left: Term, right: Term, kind: ColumnType, widen: bool) -> Term:
    """A decimal result that has room for every value; where Spark would have to round it, Spark shall."""
    if kind.precision > 38:
        raise Untranslatable(f"a result of {kind.precision} digits")
    name = duck_type(kind)
    # DuckDB would keep the product of two decimals of 64 bits in 64 bits.
    a, b = (f"CAST({t.sql} AS {name if widen else duck_type(_at_least_19(t.type))})" for t in (left, right))
    return _binary(left, right, f"CAST(({a} {operator} {b}) AS {name})", kind, False)


def _unless_zero(left: Term, right: Term, kind: ColumnType, sql: str) -> Term:
    """`sql`, failing where the divisor is 0; DuckDB allows no error() inside TRY, so a bad cast fails
    instead.

    Null divided by 0 is null.
    """
    zero = f"{right.sql} = 0 AND {left.sql} IS NOT NULL"
    failing = f"CAST('divided by ' || CAST({right.sql} AS VARCHAR) AS {duck_type(kind)})"
    return left.to(f"(CASE WHEN {zero} THEN {failing} ELSE {sql} END)", kind, right, fallible=True)


def divide(left: Term, right: Term) -> Term:
    """`/` of whole numbers and doubles, a double; of decimals it rounds, which is left to Spark."""
    _numbers(left, right)
    if DOUBLE not in (left.type, right.type) and (left.type.is_decimal or right.type.is_decimal):
        raise Untranslatable("division of decimals")
    left, right = to_double(left), to_double(right)
    return _unless_zero(left, right, DOUBLE, f"({left.sql} / {right.sql})")


def whole_divide(left: Term, right: Term) -> Term:
    """`div` of whole numbers, a bigint."""
    if not (left.type.is_integer and right.type.is_integer):
        raise Untranslatable("div of other than whole numbers")
    left, right = (t.to(f"CAST({t.sql} AS BIGINT)", BIGINT) for t in (left, right))
    return _unless_zero(left, right, BIGINT, f"({left.sql} // {right.sql})")


def modulo(left: Term, right: Term) -> Term:
    """`%` of whole numbers, with the sign of the dividend."""
    if not (left.type.is_integer and right.type.is_integer):
        raise Untranslatable("% of other than whole numbers")
    kind, [left, right] = common(left, right)
    # The lowest number overflows in DuckDB when it is divided by -1, whatever is asked of the result.
    rest = f"CASE WHEN {right.sql} = -1 THEN {left.sql} - {left.sql} ELSE {left.sql} % {right.sql} END"
    return _unless_zero(left, right, kind, f"({rest})")


def negate(inner: Term) -> Term:
    """Unary minus."""
    if not inner.type.is_numeric or inner.type.name == "float":
        raise Untranslatable(f"minus {inner.type.sql}")
    if inner.literal and inner.type == BIGINT and "2147483648 " in inner.sql:
        raise Untranslatable("the lowest int as a literal")
    found = inner.to(f"(- {inner.sql})", inner.type, fallible=inner.type.is_integer)
    return replace(found, fallible=False) if inner.literal else found


def absolute(inner: Term) -> Term:
    """abs()."""
    if not inner.type.is_numeric or inner.type.name == "float":
        raise Untranslatable(f"abs of {inner.type.sql}")
    return inner.to(f"abs({inner.sql})", inner.type, fallible=inner.type.is_integer)
