"""Row expressions over Arrow columns, for those that are plain: columns, literals, comparisons, arithmetic, choices.

A plain expression gives what Spark SQL gives, in its type. Only what is listed here is compiled; the rest raises
NotPlain and is left to Spark. So does, when it is evaluated, what Spark would make an error of, such as an overflow,
and NaN, which it treats in a way of its own. `tests/integration/test_arrow_fold.py` compares both.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import expressions as exp

from tideline.arrow_functions import FUNCTIONS, by_name, element_of, like
from tideline.arrow_terms import (
    BOOLEAN,
    INT,
    Datum,
    NotPlain,
    Term,
    arithmetic,
    both,
    check_together,
    choice,
    compare,
    constant,
    of_one_type,
    product_type,
    sum_type,
    widened,
    without_nan,
)
from tideline.expressions import has_quotes
from tideline.types import BIGINT, DOUBLE, STRING, Column, ColumnType, parse_type

_COMPARE = {
    exp.EQ: pc.equal,
    exp.NEQ: pc.not_equal,
    exp.LT: pc.less,
    exp.LTE: pc.less_equal,
    exp.GT: pc.greater,
    exp.GTE: pc.greater_equal,
}
_LOOSE = (*_COMPARE, exp.In, exp.Between, exp.Like, exp.Is, exp.Not)
_ARITHMETIC = {
    exp.Add: (pc.add_checked, sum_type),
    exp.Sub: (pc.subtract_checked, sum_type),
    exp.Mul: (pc.multiply_checked, product_type),
}
_KNOWN = frozenset(
    """this expression expressions true false ifs default low high to is_string quoted unit offset safe typed
    negate""".split()
)
"""What of a node its compilation goes by, or what changes nothing."""


class Compiler:
    """Compiles expressions over the columns of events; equal texts are compiled once."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._columns = {column.name.lower(): column for column in columns}
        self._compiled: dict[str, Term] = {}

    def compile(self, sql: str, kind: ColumnType) -> Term:
        """The expression, which must have this type. Raises NotPlain."""
        term = self.term(sql)
        if term.typed != kind:
            raise NotPlain(f"{sql} is {term.kind}, not {kind}")
        return term

    def term(self, sql: str) -> Term:
        """The expression, whatever its type. Raises NotPlain."""
        if sql not in self._compiled:
            if "\\" in sql or has_quotes(sql):
                raise NotPlain("a backslash or a quote in a text")
            try:
                tree = sqlglot.parse_one(sql, read="spark")
            except Exception as error:  # noqa: BLE001 - sqlglot fails in many ways on calls that it does not expect
                raise NotPlain(f"{type(error).__name__}: {error}") from None
            self._compiled[sql] = self._term(tree)
        return self._compiled[sql]

    def _term(self, node: Any) -> Term:
        kind = type(node)
        options = {name for name, value in node.args.items() if value not in (None, False, [])} - _KNOWN
        if options:
            raise NotPlain(f"{kind.__name__} with {sorted(options)}")
        if kind in _COMPARE:
            return compare(_COMPARE[kind], self._operand(node.this), self._operand(node.expression))
        if kind in _ARITHMETIC:
            return arithmetic(*_ARITHMETIC[kind], self._term(node.this), self._term(node.expression))
        if kind in FUNCTIONS:
            count, function = FUNCTIONS[kind]
            terms = list(map(self._term, _arguments(node)))
            if count not in (len(terms), None):
                raise NotPlain(f"{kind.__name__} of {len(terms)}")
            return function(*terms)
        method = getattr(self, f"_{kind.__name__.lower()}", None)
        if method is None:
            raise NotPlain(kind.__name__)
        found: Term = method(node)
        return found

    def _operand(self, node: Any) -> Term:
        """A side of a comparison. Raises NotPlain where brackets would have to say what is compared with what: Spark
        reads comparisons from left to right, and what stands before `in`, `like` or `between` whole."""
        if isinstance(node, _LOOSE):
            raise NotPlain(f"comparing with {type(node).__name__}, without brackets")
        return self._term(node)

    def _column(self, node: Any) -> Term:
        column = self._columns.get(node.this.name.lower())
        if column is None:
            raise NotPlain(f"column {node.sql()}")
        return Term(column.type, lambda columns: columns[column.name])

    def _paren(self, node: Any) -> Term:
        return self._term(node.this)

    def _literal(self, node: Any) -> Term:
        text = node.name
        if node.is_string:
            return constant(STRING, text)
        if re.fullmatch(r"\d+(\.\d*)?[eE][+-]?\d+", text, re.ASCII):
            return constant(DOUBLE, float(text))
        if not text.replace(".", "", 1).isdigit() or not text.isascii():
            raise NotPlain(f"the number {text}")
        if "." in text:
            digits, exponent = (value := Decimal(text).as_tuple()).digits, int(value.exponent)
            kind = ColumnType("decimal", max(len(digits), -exponent), -exponent)
            return constant(kind, Decimal(text), text)
        number = int(text)
        if number >= 2**63:
            raise NotPlain(f"the number {text}")
        return constant(INT if number < 2**31 else BIGINT, number, text)

    def _boolean(self, node: Any) -> Term:
        return constant(BOOLEAN, bool(node.this))

    def _null(self, _: Any) -> Term:
        return Term(None, lambda _: pa.scalar(None))

    def _neg(self, node: Any) -> Term:
        inner = self._term(node.this)
        if inner.literal is not None and inner.typed != DOUBLE:
            number = -Decimal(inner.literal) or Decimal(inner.literal)  # there is no -0
            if inner.typed.is_decimal:
                return constant(inner.typed, number, str(number))
            if not -(2**63) <= number < 2**63 or (inner.typed == INT and number == 2**31):
                raise NotPlain(f"the number {number}")
            least = number == -(2**31) and isinstance(node.this, exp.Literal)  # the one int whose digits are a bigint's
            return constant(INT if least else inner.typed, int(number), str(number))
        if inner.typed not in (INT, BIGINT, DOUBLE):
            raise NotPlain(f"minus {inner.typed}")
        return inner.then(inner.typed, pc.negate_checked)

    def _and(self, node: Any) -> Term:
        return both(pc.and_kleene, self._condition(node.this), self._condition(node.expression))

    def _or(self, node: Any) -> Term:
        return both(pc.or_kleene, self._condition(node.this), self._condition(node.expression))

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
        this, *items = terms = [self._operand(one) for one in (node.this, *node.expressions)]
        check_together(terms)
        found = [compare(pc.equal, this, item) for item in items]
        whole = found[0]
        for one in found[1:]:
            whole = both(pc.or_kleene, whole, one)
        return whole

    def _between(self, node: Any) -> Term:
        this, low, high = (self._operand(node.args[name]) for name in ("this", "low", "high"))
        return both(pc.and_kleene, compare(pc.greater_equal, this, low), compare(pc.less_equal, this, high))

    def _if(self, node: Any) -> Term:
        return self._chosen([(node.this, node.args["true"])], node.args.get("false"))

    def _case(self, node: Any) -> Term:
        if node.this is not None:
            raise NotPlain("case of a value")
        return self._chosen([(one.this, one.args["true"]) for one in node.args["ifs"]], node.args.get("default"))

    def _chosen(self, pairs: list[tuple[Any, Any]], default: Any) -> Term:
        otherwise = self._term(default) if default is not None else self._null(None)
        for test, value in reversed(pairs):
            otherwise = choice(self._condition(test), self._term(value), otherwise)
        return otherwise

    def _coalesce(self, node: Any) -> Term:
        terms = of_one_type([self._term(node.this), *map(self._term, node.expressions)])
        if terms[0].kind is None:
            raise NotPlain("nothing but nulls")
        return Term(terms[0].kind, lambda columns: pc.coalesce(*(term.evaluate(columns) for term in terms)))

    def _nullif(self, node: Any) -> Term:
        left = self._term(node.this)
        same = compare(pc.equal, left, self._term(node.expression))
        return choice(same, self._null(None), left)

    def _cast(self, node: Any) -> Term:
        try:
            kind = parse_type(node.args["to"].sql(dialect="spark"))
        except Exception as error:  # noqa: BLE001 - a type that no column has
            raise NotPlain(str(error)) from None
        inner = self._term(node.this)
        if kind == DOUBLE and node.this.is_string and node.this.name == "Infinity":
            return constant(DOUBLE, float("inf"))
        if (inner.typed, kind) == (DOUBLE, BIGINT):
            return inner.then(BIGINT, _truncated)
        return replace(widened(inner, kind), literal=None)

    def _trycast(self, node: Any) -> Term:
        if node.args.get("safe"):
            raise NotPlain("try_cast")
        return self._cast(node)

    def _like(self, node: Any) -> Term:
        if not node.expression.is_string:
            raise NotPlain("like with a pattern that is no literal")
        found = like(self._operand(node.this), node.expression.name)
        return found.then(BOOLEAN, pc.invert) if node.args.get("negate") else found

    def _bracket(self, node: Any) -> Term:
        if not isinstance(node.this, exp.Array) or (node.args.get("offset"), node.args.get("safe")) != (1, True):
            raise NotPlain("an element other than try_element_at of an array")
        items = node.this.expressions
        if not all(isinstance(item, exp.Literal) for item in items):
            raise NotPlain("an array of other things than literals")
        return element_of([self._term(item) for item in items], self._term(node.expressions[0]))

    def _anonymous(self, node: Any) -> Term:
        return by_name(str(node.this).lower(), list(map(self._term, node.expressions)))


def _truncated(values: Datum) -> Datum:
    """Doubles as whole numbers. Raises NotPlain where one may be too large, or is no number."""
    if pc.any(pc.greater_equal(pc.abs(without_nan(values)), float(2**62))).as_py():
        raise NotPlain("a number too large for bigint")
    return values.cast(options=pc.CastOptions(pa.int64(), allow_float_truncate=True))


def _arguments(node: Any) -> list[Any]:
    """A function's arguments, in order."""
    parts = (value if isinstance(value, list) else [value] for value in node.args.values())
    return [one for part in parts for one in part if isinstance(one, exp.Expression)]
