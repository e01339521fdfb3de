"""Compiled expressions over Arrow columns, and how Spark brings two of them to one type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tideline.arrow_types import arrow_type
from tideline.types import BIGINT, DOUBLE, STRING, ColumnType

Datum = Any
"""A pyarrow Array or Scalar."""
Columns = Mapping[str, pa.Array]
BOOLEAN, INT, DATE = ColumnType("boolean"), ColumnType("int"), ColumnType("date")
_LONG_DECIMAL = 38
_EXACT_WHOLE, _EXACT_POWER = 2**53, 22  # below which whole numbers, and up to which powers of ten, are doubles
_WHOLE = ("tinyint", "smallint", "int", "bigint")
_WHOLE_DIGITS = {"int": 10, "bigint": 20}


class NotPlain(Exception):
    """This is left to Spark."""


@contextmanager
def plainly() -> Iterator[None]:
    """What Arrow refuses to compute is left to Spark."""
    try:
        yield
    except pa.ArrowException as error:
        raise NotPlain(str(error)) from None


@dataclass(frozen=True)
class Term:
    """A compiled expression. `kind` is None for a bare null; `evaluate` raises NotPlain or pyarrow's errors."""

    kind: ColumnType | None
    evaluate: Callable[[Columns], Datum] = field(repr=False)
    literal: str | None = None
    rounded: bool = False
    """Whether its last digits depend on who computes it, so that it can be an answer only once it is rounded."""

    @property
    def typed(self) -> ColumnType:
        """Its type. Raises NotPlain for a bare null, and for what depends on who computes it."""
        if self.kind is None or self.rounded:
            raise NotPlain("a null without a type" if self.kind is None else "a logarithm")
        return self.kind

    def then(self, kind: ColumnType, function: Callable[[Datum], Datum]) -> Term:
        """The expression that a function makes of this one's values."""
        return Term(kind, lambda columns: function(self.evaluate(columns)))


def constant(kind: ColumnType, value: Any, literal: str | None = None) -> Term:
    """A value; `literal` is the text of a number that stands in the SQL."""
    scalar = pa.scalar(value, arrow_type(kind))
    return Term(kind, lambda _: scalar, literal)


def without_nan(values: Datum) -> Datum:
    """The values. Raises NotPlain where one is NaN, which is equal to itself and the largest number in Spark."""
    if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
        raise NotPlain("NaN")
    return values


def both(function: Callable[[Datum, Datum], Datum], left: Term, right: Term) -> Term:
    """Two conditions together."""
    return Term(BOOLEAN, lambda columns: function(left.evaluate(columns), right.evaluate(columns)))


def compare(function: Callable[[Datum, Datum], Datum], left: Term, right: Term) -> Term:
    """A comparison. Raises NotPlain where Spark may compare otherwise."""
    left, right = alike(left, right)
    return Term(BOOLEAN, lambda columns: function(*(without_nan(side.evaluate(columns)) for side in (left, right))))


def alike(left: Term, right: Term) -> tuple[Term, Term]:
    """Both in the type in which Spark compares them. Raises NotPlain where that is not certain, or may round."""
    kinds = left.typed, right.typed
    if any(kind.name in ("binary", "float") for kind in kinds):
        raise NotPlain(f"comparing {kinds}")
    if kinds[0] == kinds[1]:
        return left, right
    if all(kind.is_integer for kind in kinds):
        return widened(left, BIGINT), widened(right, BIGINT)
    if DOUBLE in kinds:
        return widened(left, DOUBLE), widened(right, DOUBLE)
    if any(kind.is_decimal for kind in kinds):
        left, right = as_decimal(left), as_decimal(right)
        scale = max(side.typed.scale for side in (left, right))
        whole = max(side.typed.precision - side.typed.scale for side in (left, right))
        if whole + scale > _LONG_DECIMAL:
            raise NotPlain(f"{whole + scale} digits")
        kind = pa.decimal128(whole + scale, scale)
        return left.then(left.typed, lambda v: v.cast(kind)), right.then(right.typed, lambda v: v.cast(kind))
    raise NotPlain(f"comparing {kinds}")


def check_together(terms: Sequence[Term]) -> None:
    """Raises NotPlain where Spark brings several terms into one type in which two of them may become equal."""
    kinds = {term.typed for term in terms}
    if DOUBLE in kinds and any(kind == BIGINT or kind.is_decimal for kind in kinds):
        raise NotPlain(f"one type for {kinds}")
    if any(kind.is_decimal for kind in kinds):
        decimals = [as_decimal(term).typed for term in terms]
        digits = max(kind.precision - kind.scale for kind in decimals) + max(kind.scale for kind in decimals)
        if digits > _LONG_DECIMAL:
            raise NotPlain(f"{digits} digits")


def as_decimal(term: Term) -> Term:
    """A whole number or decimal as the decimal that Spark makes of it."""
    kind = term.typed
    if kind.is_decimal:
        return term
    if term.literal is not None and kind.is_integer:
        return constant(ColumnType("decimal", len(str(abs(int(term.literal))))), Decimal(term.literal))
    if kind.name not in _WHOLE_DIGITS:
        raise NotPlain(f"{kind} as a decimal")
    return widened(term, ColumnType("decimal", _WHOLE_DIGITS[kind.name]))


def sum_type(a: ColumnType, b: ColumnType) -> ColumnType:
    """Of two decimals, as Spark has it."""
    scale = max(a.scale, b.scale)
    return ColumnType("decimal", max(a.precision - a.scale, b.precision - b.scale) + scale + 1, scale)


def product_type(a: ColumnType, b: ColumnType) -> ColumnType:
    """Of two decimals, as Spark has it."""
    return ColumnType("decimal", a.precision + b.precision + 1, a.scale + b.scale)


def arithmetic(
    function: Callable[[Datum, Datum], Datum],
    result: Callable[[ColumnType, ColumnType], ColumnType],
    left: Term,
    right: Term,
) -> Term:
    """A sum, difference or product; `result` gives the type of that of two decimals."""
    kinds = left.typed, right.typed
    if DOUBLE in kinds:
        left, right, kind = widened(left, DOUBLE), widened(right, DOUBLE), DOUBLE
    elif all(kind in (INT, BIGINT) for kind in kinds):
        kind = BIGINT if BIGINT in kinds else INT
        left, right = widened(left, kind), widened(right, kind)
    elif any(kind.is_decimal for kind in kinds):
        left, right = as_decimal(left), as_decimal(right)
        kind = result(left.typed, right.typed)
        if kind.precision > _LONG_DECIMAL:
            raise NotPlain(f"{kind.precision} digits")
    else:
        raise NotPlain(f"arithmetic of {kinds}")
    return Term(kind, lambda columns: function(left.evaluate(columns), right.evaluate(columns)))


def of_one_type(terms: list[Term]) -> list[Term]:
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
    return [Term(kind, lambda _: null) if term.kind is None else widened(term, kind) for term in terms]


def choice(test: Term, yes: Term, no: Term) -> Term:
    """One where a condition holds, and else the other."""
    yes, no = of_one_type([yes, no])
    return Term(
        yes.kind,
        lambda columns: pc.if_else(
            pc.fill_null(test.evaluate(columns), False), yes.evaluate(columns), no.evaluate(columns)
        ),
    )


def widened(term: Term, kind: ColumnType) -> Term:
    """The same values in a type that holds all of them. Raises NotPlain where it may not."""
    old = term.typed
    if old == kind:
        return term
    if term.literal is not None and kind == DOUBLE and old.is_decimal:
        return constant(DOUBLE, float(term.literal), term.literal)
    if term.literal is not None and kind == BIGINT and old.is_integer:
        return constant(BIGINT, int(term.literal), term.literal)
    if kind == DOUBLE and old.is_decimal:
        return term.then(kind, lambda value: _as_doubles(value, old.scale))
    fits = (
        (old.is_integer and kind.is_integer and _WHOLE.index(old.name) < _WHOLE.index(kind.name))
        or (old == BOOLEAN and kind == BIGINT)
        or (old.is_integer and kind in (DOUBLE, STRING))
        or (old.name == "float" and kind == DOUBLE)
        or (kind.is_decimal and old.is_decimal and kind.scale == old.scale and kind.precision > old.precision)
        or (kind.is_decimal and not kind.scale and kind.precision >= _WHOLE_DIGITS.get(old.name, 99))
    )
    if not fits:
        raise NotPlain(f"{old} as {kind}")
    # Whole numbers beyond 2**53 are rounded to the nearest double, here as in Spark.
    options = pc.CastOptions(target_type=arrow_type(kind), allow_float_truncate=True)
    return term.then(kind, lambda value: value.cast(options=options))


def _as_doubles(values: Datum, scale: int) -> Datum:
    """Decimals as the nearest doubles: quotients of whole numbers that are doubles. Raises NotPlain for longer ones."""
    if isinstance(values, pa.Scalar):
        raise NotPlain("a decimal that is one for all")
    filled = pc.fill_null(values, pa.scalar(Decimal(0), values.type))
    words = np.frombuffer(filled.buffers()[1], np.int64).reshape(-1, 2)[filled.offset : filled.offset + len(filled)]
    low, high = words[:, 0], words[:, 1]
    if scale > _EXACT_POWER or (high != low >> 63).any() or (np.abs(low) >= _EXACT_WHOLE).any():
        raise NotPlain("a decimal of many digits")
    return pa.array(low / 10.0**scale, pa.float64(), mask=values.is_null().to_numpy(zero_copy_only=False))
