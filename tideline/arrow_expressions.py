"""Row expressions over Arrow columns, for those that are plain: columns, literals, comparisons, arithmetic, choices.

A plain expression gives what Spark SQL gives, in its type. Only what is listed here is compiled; the rest raises
NotPlain and is left to Spark. So does, when it is evaluated, what Spark would make an error of, such as an overflow,
and NaN, which it treats in a way of its own. `tests/integration/test_arrow_fold.py` compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from tideline.arrow_types import arrow_type
from tideline.types import BIGINT, DOUBLE, STRING, Column, ColumnType, parse_type

Datum = Any
"""A pyarrow Array or Scalar."""
Columns = Mapping[str, pa.Array]
BOOLEAN, INT, DATE = ColumnType("boolean"), ColumnType("int"), ColumnType("date")
_LONG_DECIMAL = 38
_COMPARE = {
    exp.EQ: pc.equal,
    exp.NEQ: pc.not_equal,
    exp.LT: pc.less,
    exp.LTE: pc.less_equal,
    exp.GT: pc.greater,
    exp.GTE: pc.greater_equal,
}
_WHOLE = ("tinyint", "smallint", "int", "bigint")
_WHOLE_DIGITS = {"int": 10, "bigint": 20}


class NotPlain(Exception):
    """This is left to Spark."""


def _sum_type(a: ColumnType, b: ColumnType) -> ColumnType:
    scale = max(a.scale, b.scale)
    return ColumnType("decimal", max(a.precision - a.scale, b.precision - b.scale) + scale + 1, scale)


def _product_type(a: ColumnType, b: ColumnType) -> ColumnType:
    return ColumnType("decimal", a.precision + b.precision + 1, a.scale + b.scale)


_ARITHMETIC = {
    exp.Add: (pc.add_checked, _sum_type),
    exp.Sub: (pc.subtract_checked, _sum_type),
    exp.Mul: (pc.multiply_checked, _product_type),
}


@dataclass(frozen=True)
class Term:
    """A compiled expression. `kind` is None for a bare null; `evaluate` raises NotPlain or pyarrow's errors."""

    kind: ColumnType | None
    evaluate: Callable[[Columns], Datum] = field(repr=False)
    literal: str | None = None

    @property
    def typed(self) -> ColumnType:
        """Its type. Raises NotPlain for a bare null."""
        if self.kind is None:
            raise NotPlain("a null without a type")
        return self.kind

    def then(self, kind: ColumnType, function: Callable[[Datum], Datum]) -> Term:
        """The expression that a function makes of this one's values."""
        return Term(kind, lambda columns: function(self.evaluate(columns)))


class Compiler:
    """Compiles expressions over the columns of events; equal texts are compiled once."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._columns = {column.name.lower(): column for column in columns}
        self._compiled: dict[str, Term] = {}

    def compile(self, sql: str, kind: ColumnType) -> Term:
        """The expression, which must have this type. Raises NotPlain."""
        term = self.term(sql)
        if term.kind != kind:
            raise NotPlain(f"{sql} is {term.kind}, not {kind}")
        return term

    def term(self, sql: str) -> Term:
        """The expression, whatever its type. Raises NotPlain."""
        if sql not in self._compiled:
            if "\\" in sql:
                raise NotPlain("a backslash in a text")
            try:
                self._compiled[sql] = self._term(sqlglot.parse_one(sql, read="spark"))
            except SqlglotError as error:
                raise NotPlain(str(error)) from None
        return self._compiled[sql]

    def _term(self, node: Any) -> Term:
        kind = type(node)
        if kind in _COMPARE:
            return _compare(_COMPARE[kind], self._term(node.this), self._term(node.expression))
        if kind in _ARITHMETIC:
            return _arithmetic(*_ARITHMETIC[kind], self._term(node.this), self._term(node.expression))
        method = getattr(self, f"_{kind.__name__.lower()}", None)
        if method is None:
            raise NotPlain(kind.__name__)
        found: Term = method(node)
        return found

    def _column(self, node: Any) -> Term:
        column = self._columns.get(node.this.name.lower())
        if column is None or len(node.parts) > 1:
            raise NotPlain(f"column {node.sql()}")
        return Term(column.type, lambda columns: columns[column.name])

    def _paren(self, node: Any) -> Term:
        return self._term(node.this)

    def _literal(self, node: Any) -> Term:
        text = node.name
        if node.is_string:
            return _constant(STRING, text)
        if not text.replace(".", "", 1).isdigit() or not text.isascii():
            raise NotPlain(f"the number {text}")
        if "." in text:
            digits, exponent = (value := Decimal(text).as_tuple()).digits, int(value.exponent)
            kind = ColumnType("decimal", max(len(digits), -exponent), -exponent)
            return _constant(kind, Decimal(text), text)
        number = int(text)
        if number >= 2**63:
            raise NotPlain(f"the number {text}")
        return _constant(INT if number < 2**31 else BIGINT, number, text)

    def _boolean(self, node: Any) -> Term:
        return _constant(BOOLEAN, bool(node.this))

    def _null(self, _: Any) -> Term:
        return Term(None, lambda _: pa.scalar(None))

    def _neg(self, node: Any) -> Term:
        inner = self._term(node.this)
        if inner.literal is not None and inner.typed != DOUBLE:
            number = -Decimal(inner.literal) or Decimal(inner.literal)  # there is no -0
            return _constant(inner.typed, number if inner.typed.is_decimal else int(number), str(number))
        if inner.typed not in (INT, BIGINT, DOUBLE):
            raise NotPlain(f"minus {inner.typed}")
        return inner.then(inner.typed, pc.negate_checked)

    def _and(self, node: Any) -> Term:
        return _both(pc.and_kleene, self._condition(node.this), self._condition(node.expression))

    def _or(self, node: Any) -> Term:
        return _both(pc.or_kleene, self._condition(node.this), self._condition(node.expression))

    def _not(self, node: Any) -> Term:
        return self._condition(node.this).then(BOOLEAN, pc.invert)

    def _condition(self, node: Any) -> Term:
        term = self._term(node)
        if term.kind != BOOLEAN:
            raise NotPlain(f"a condition that is {term.kind}")
        return term

    def _is(self, node: Any) -> Term:
        if not isinstance(node.expression, exp.Null):
            raise NotPlain("is, but not of null")
        return self._term(node.this).then(BOOLEAN, pc.is_null)

    def _in(self, node: Any) -> Term:
        if not node.expressions:
            raise NotPlain("in, without a list")
        this = self._term(node.this)
        found = [_compare(pc.equal, this, self._term(item)) for item in node.expressions]
        whole = found[0]
        for one in found[1:]:
            whole = _both(pc.or_kleene, whole, one)
        return whole

    def _between(self, node: Any) -> Term:
        if node.args.get("symmetric"):
            raise NotPlain("between symmetric")
        this, low, high = (self._term(node.args[name]) for name in ("this", "low", "high"))
        return _both(pc.and_kleene, _compare(pc.greater_equal, this, low), _compare(pc.less_equal, this, high))

    def _if(self, node: Any) -> Term:
        return self._chosen([(node.this, node.args["true"])], node.args.get("false"))

    def _case(self, node: Any) -> Term:
        if node.this is not None:
            raise NotPlain("case of a value")
        return self._chosen([(one.this, one.args["true"]) for one in node.args["ifs"]], node.args.get("default"))

    def _chosen(self, pairs: list[tuple[Any, Any]], default: Any) -> Term:
        otherwise = self._term(default) if default is not None else self._null(None)
        for test, value in reversed(pairs):
            otherwise = _choice(self._condition(test), self._term(value), otherwise)
        return otherwise

    def _coalesce(self, node: Any) -> Term:
        terms = _of_one_type([self._term(node.this), *map(self._term, node.expressions)])
        if terms[0].kind is None:
            raise NotPlain("nothing but nulls")
        return Term(terms[0].kind, lambda columns: pc.coalesce(*(term.evaluate(columns) for term in terms)))

    def _nullif(self, node: Any) -> Term:
        left = self._term(node.this)
        same = _compare(pc.equal, left, self._term(node.expression))
        return _choice(same, self._null(None), left)

    def _cast(self, node: Any) -> Term:
        try:
            kind = parse_type(node.args["to"].sql(dialect="spark"))
        except Exception as error:  # noqa: BLE001 - a type that no column has
            raise NotPlain(str(error)) from None
        return _widened(self._term(node.this), kind)

    def _trycast(self, node: Any) -> Term:
        if node.args.get("safe"):
            raise NotPlain("try_cast")
        return self._cast(node)

    def _unixmicros(self, node: Any) -> Term:
        inner = self._term(node.this)
        if inner.typed.name != "timestamp":
            raise NotPlain(f"unix_micros of {inner.typed}")
        return inner.then(BIGINT, lambda value: value.cast(pa.int64()))

    def _unixdate(self, node: Any) -> Term:
        inner = self._term(node.this)
        if inner.typed != DATE:
            raise NotPlain(f"unix_date of {inner.typed}")
        return inner.then(INT, lambda value: value.cast(pa.int32()))

    def _anonymous(self, node: Any) -> Term:
        # What decoders make is UTF-8, and nothing here makes other text of it.
        if str(node.this).lower() != "validate_utf8":
            raise NotPlain(str(node.this))
        return _widened(self._term(node.expressions[0]), STRING)


def _constant(kind: ColumnType, value: Any, literal: str | None = None) -> Term:
    scalar = pa.scalar(value, arrow_type(kind))
    return Term(kind, lambda _: scalar, literal)


def without_nan(values: Datum) -> Datum:
    """The values. Raises NotPlain where one is NaN, which is equal to itself and the largest number in Spark."""
    if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
        raise NotPlain("NaN")
    return values


def _both(function: Callable[[Datum, Datum], Datum], left: Term, right: Term) -> Term:
    return Term(BOOLEAN, lambda columns: function(left.evaluate(columns), right.evaluate(columns)))


def _compare(function: Callable[[Datum, Datum], Datum], left: Term, right: Term) -> Term:
    left, right = _alike(left, right)
    return Term(BOOLEAN, lambda columns: function(*(without_nan(side.evaluate(columns)) for side in (left, right))))


def _alike(left: Term, right: Term) -> tuple[Term, Term]:
    """Both in the type in which Spark compares them. Raises NotPlain where that is not certain, or may round."""
    kinds = left.typed, right.typed
    if any(kind.name in ("binary", "float") for kind in kinds):
        raise NotPlain(f"comparing {kinds}")
    if kinds[0] == kinds[1]:
        return left, right
    if all(kind.is_integer for kind in kinds):
        return _widened(left, BIGINT), _widened(right, BIGINT)
    if DOUBLE in kinds:
        return _widened(left, DOUBLE), _widened(right, DOUBLE)
    if any(kind.is_decimal for kind in kinds):
        left, right = _as_decimal(left), _as_decimal(right)
        digits, scale = (max(getattr(side.typed, name) for side in (left, right)) for name in ("precision", "scale"))
        whole = max(side.typed.precision - side.typed.scale for side in (left, right))
        if whole + scale > _LONG_DECIMAL:
            raise NotPlain(f"{digits} digits")
        kind = pa.decimal128(whole + scale, scale)
        return left.then(left.typed, lambda v: v.cast(kind)), right.then(right.typed, lambda v: v.cast(kind))
    raise NotPlain(f"comparing {kinds}")


def _as_decimal(term: Term) -> Term:
    """A whole number or decimal as the decimal that Spark makes of it."""
    kind = term.typed
    if kind.is_decimal:
        return term
    if term.literal is not None and kind.is_integer:
        return _constant(ColumnType("decimal", len(str(abs(int(term.literal))))), Decimal(term.literal))
    if kind.name not in _WHOLE_DIGITS:
        raise NotPlain(f"{kind} as a decimal")
    return _widened(term, ColumnType("decimal", _WHOLE_DIGITS[kind.name]))


def _arithmetic(
    function: Callable[[Datum, Datum], Datum],
    result: Callable[[ColumnType, ColumnType], ColumnType],
    left: Term,
    right: Term,
) -> Term:
    kinds = left.typed, right.typed
    if DOUBLE in kinds:
        left, right, kind = _widened(left, DOUBLE), _widened(right, DOUBLE), DOUBLE
    elif all(kind in (INT, BIGINT) for kind in kinds):
        kind = BIGINT if BIGINT in kinds else INT
        left, right = _widened(left, kind), _widened(right, kind)
    elif any(kind.is_decimal for kind in kinds):
        left, right = _as_decimal(left), _as_decimal(right)
        kind = result(left.typed, right.typed)
        if kind.precision > _LONG_DECIMAL:
            raise NotPlain(f"{kind.precision} digits")
    else:
        raise NotPlain(f"arithmetic of {kinds}")
    return Term(kind, lambda columns: function(left.evaluate(columns), right.evaluate(columns)))


def _of_one_type(terms: list[Term]) -> list[Term]:
    """The terms in the type that a choice of them has; nulls take the type of the others."""
    kinds = {term.kind for term in terms if term.kind is not None}
    if not kinds:
        return terms
    if all(kind.is_integer for kind in kinds):
        kind = max(kinds, key=lambda kind: _WHOLE.index(kind.name))
    elif len(kinds) == 1:
        (kind,) = kinds
    else:
        raise NotPlain(f"a choice of {kinds}")
    null = pa.scalar(None, arrow_type(kind))
    return [Term(kind, lambda _: null) if term.kind is None else _widened(term, kind) for term in terms]


def _choice(test: Term, yes: Term, no: Term) -> Term:
    yes, no = _of_one_type([yes, no])
    return Term(
        yes.kind,
        lambda columns: pc.if_else(
            pc.fill_null(test.evaluate(columns), False), yes.evaluate(columns), no.evaluate(columns)
        ),
    )


def _widened(term: Term, kind: ColumnType) -> Term:
    """The same values in a type that holds all of them. Raises NotPlain where it may not."""
    old = term.typed
    if old == kind:
        return term
    fits = (
        (old.is_integer and kind.is_integer and _WHOLE.index(old.name) < _WHOLE.index(kind.name))
        or (old == BOOLEAN and kind == BIGINT)
        or (kind == DOUBLE and (old.is_integer or old.name == "float"))
        or (kind.is_decimal and old.is_decimal and kind.scale == old.scale and kind.precision > old.precision)
        or (kind.is_decimal and not kind.scale and kind.precision >= _WHOLE_DIGITS.get(old.name, 99))
    )
    if kind == DOUBLE and old.is_decimal and term.literal is not None and len(term.literal) < 15:
        return _constant(DOUBLE, float(term.literal), term.literal)
    if old.is_integer and kind == BIGINT and term.literal is not None:
        return _constant(BIGINT, int(term.literal), term.literal)
    if not fits:
        raise NotPlain(f"{old} as {kind}")
    # Whole numbers beyond 2**53 are rounded to the nearest double, here as in Spark.
    options = pc.CastOptions(target_type=arrow_type(kind), allow_float_truncate=True)
    return term.then(kind, lambda value: value.cast(options=options))
