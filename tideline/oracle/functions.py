"""The functions that DuckDB is known to compute as Spark does, by sqlglot's node or by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlglot import expressions as exp

from tideline.oracle import arithmetic as math
from tideline.oracle import choices
from tideline.oracle.arithmetic import BOOLEAN, DATE, INT, STRING, TIMESTAMP, Term, Untranslatable

_UNITS = ("MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")


def _count(term: Term | None, least: int) -> str:
    """The value of a literal whole number."""
    digits = term.sql.removeprefix("CAST(").partition(" ")[0] if term and term.literal and term.type == INT else ""
    if not digits.isdigit() or int(digits) < least:
        raise Untranslatable("a position or length that is no literal number")
    return digits


def _cased(function: str) -> Callable[[Term], Term]:
    """upper, lower: DuckDB and Java part ways beyond ASCII, so that is checked on the data."""

    def apply(this: Term) -> Term:
        found = this.needs(STRING).to(f"{function}({this.sql})", STRING)
        guard = f"strlen({this.sql}) = length({this.sql})"
        return Term(found.sql, STRING, found.fallible, False, (*found.guards, guard))

    return apply


def _trim(this: Term) -> Term:
    return this.needs(STRING).to(f"trim({this.sql}, ' ')", STRING)


def _length(this: Term) -> Term:
    return this.needs(STRING).to(f"CAST(length({this.sql}) AS INTEGER)", INT)


def _substring(this: Term, start: Term, length: Term | None) -> Term:
    bounds = [_count(start, 1), *([_count(length, 0)] if length is not None else [])]
    return this.needs(STRING).to(f"substring({this.sql}, {', '.join(bounds)})", STRING)


def _left(this: Term, length: Term) -> Term:
    return this.needs(STRING).to(f"substring({this.sql}, 1, {_count(length, 0)})", STRING)


def _join(parts: Sequence[Term]) -> Term:
    for part in parts:
        part.needs(STRING)
    return math.NULL.to("(" + " || ".join(part.sql for part in parts) + ")", STRING, *parts)


def _test(function: str) -> Callable[[Term, Term], Term]:
    return lambda this, other: this.needs(STRING).to(
        f"{function}({this.sql}, {other.needs(STRING).sql})", BOOLEAN, other
    )


def _extremes(function: str) -> Callable[[Term, list[Term]], Term]:
    def apply(this: Term, others: list[Term]) -> Term:
        kind, values = math.common(this, *others)
        if kind.name == "float" or not (kind.is_numeric or kind in (DATE, TIMESTAMP)):
            raise Untranslatable(f"{function} of {kind.sql}")
        return math.NULL.to(f"{function}({', '.join(value.sql for value in values)})", kind, *values)

    return apply


def _clock(function: str, kinds: tuple[Any, ...] = (DATE, TIMESTAMP), shift: int = 0) -> Callable[[Term], Term]:
    """A field of a time, an int; `shift` brings DuckDB's count of weekdays to Spark's."""
    suffix = f" + ({shift})" if shift else ""
    return lambda this: this.needs(*kinds).to(f"CAST({function}({this.sql}){suffix} AS INTEGER)", INT)


def _day_part(function: str, shift: int = 0) -> Callable[[Term], Term]:
    return _clock(function, shift=shift)


FUNCTIONS: dict[type[exp.Expression], tuple[tuple[str, ...], Callable[..., Term]]] = {
    exp.Abs: (("this",), math.absolute),
    exp.Upper: (("this",), _cased("upper")),
    exp.Lower: (("this",), _cased("lower")),
    exp.Trim: (("this",), _trim),
    exp.Length: (("this",), _length),
    exp.Substring: (("this", "start", "length"), _substring),
    exp.Left: (("this", "expression"), _left),
    exp.Concat: (("expressions",), _join),
    exp.DPipe: (("this", "expression"), lambda a, b: _join([a, b])),
    exp.StartsWith: (("this", "expression"), _test("starts_with")),
    exp.EndsWith: (("this", "expression"), _test("ends_with")),
    exp.Contains: (("this", "expression"), _test("contains")),
    exp.Greatest: (("this", "expressions"), _extremes("greatest")),
    exp.Least: (("this", "expressions"), _extremes("least")),
    exp.Hour: (("this",), _clock("hour", (TIMESTAMP,))),
    exp.Minute: (("this",), _clock("minute", (TIMESTAMP,))),
    exp.Second: (("this",), _clock("second", (TIMESTAMP,))),
    exp.Day: (("this",), _day_part("day")),
    exp.DayOfMonth: (("this",), _day_part("day")),
    exp.Month: (("this",), _day_part("month")),
    exp.Quarter: (("this",), _day_part("quarter")),
    exp.Year: (("this",), _day_part("year")),
    exp.DayOfYear: (("this",), _day_part("dayofyear")),
    exp.DayOfWeek: (("this",), _day_part("dayofweek", 1)),
    exp.TsOrDsToDate: (("this",), lambda this: choices.cast(this.needs(DATE, TIMESTAMP), DATE)),
}


def truncate(this: Term, unit: str) -> Term:
    """date_trunc of a timestamp."""
    if unit.upper() not in _UNITS:
        raise Untranslatable(f"date_trunc to {unit}")
    return this.needs(TIMESTAMP).to(f"date_trunc('{unit.lower()}', {this.sql})", TIMESTAMP)


def anonymous(name: str, arguments: Sequence[Term]) -> Term:
    """A function that sqlglot has no node for."""
    match name, arguments:
        case "isnull", [this]:
            return this.to(f"({this.sql} IS NULL)", BOOLEAN)
        case "isnotnull", [this]:
            return this.to(f"({this.sql} IS NOT NULL)", BOOLEAN)
        case "weekday", [this]:
            return _day_part("isodow", -1)(this)
        case "bigint", [this]:
            return choices.cast(this, math.BIGINT)
    raise Untranslatable(f"function {name}")
