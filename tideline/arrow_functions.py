"""Functions of row expressions over Arrow columns that give what Spark's give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import expressions as exp

from tideline.arrow_terms import BOOLEAN, DATE, INT, Datum, NotPlain, Term, widened, without_nan
from tideline.arrow_types import arrow_type
from tideline.types import BIGINT, DOUBLE, STRING, TIMESTAMP, ColumnType

_DAY, _HOUR, _MINUTE, _SECOND = 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000
_THURSDAY = 4  # of 1970-01-01, where Sunday is 0
_LARGE = 1e9
_NEAR = 1e-9  # as a share of a quotient of logarithms: a thousand times what their last digits come to


def _of(term: Term, *kinds: ColumnType) -> Term:
    if term.typed not in kinds:
        raise NotPlain(f"a function of {term.typed}")
    return term


def _unix_micros(at: Term) -> Term:
    if at.typed.name != "timestamp":
        raise NotPlain(f"unix_micros of {at.typed}")
    return at.then(BIGINT, lambda value: value.cast(pa.int64()))


def _unix_date(day: Term) -> Term:
    return _of(day, DATE).then(INT, lambda value: value.cast(pa.int32()))


def _part_of_day(unit: int, count: int) -> Callable[[Term], Term]:
    """Hours, minutes or seconds of a time in UTC."""

    def part(at: Term) -> Term:
        return _unix_micros(at).then(INT, lambda value: _numbers(value, lambda v: v // unit % count, pa.int32()))

    return part


def _to_date(at: Term) -> Term:
    """The day of a time in UTC."""
    if at.typed == DATE:
        return at
    days = _unix_micros(at).then(INT, lambda value: _numbers(value, lambda v: v // _DAY, pa.int32()))
    return days.then(DATE, lambda value: value.cast(pa.date32()))


def _day_of_week(day: Term) -> Term:
    """1 for Sunday."""
    return _unix_date(day).then(INT, lambda v: _numbers(v, lambda d: (d + _THURSDAY) % 7 + 1, pa.int32()))


def _numbers(values: Datum, function: Callable[[np.ndarray], np.ndarray], kind: pa.DataType) -> Datum:
    """What a function of numpy's makes of whole numbers; null of null."""
    if isinstance(values, pa.Scalar):
        raise NotPlain("a number that is one for all")
    found = function(pc.fill_null(values, 0).to_numpy(zero_copy_only=False))
    return pa.array(found, kind, mask=values.is_null().to_numpy(zero_copy_only=False))


def _abs(term: Term) -> Term:
    return _of(term, INT, BIGINT, DOUBLE).then(term.typed, pc.abs_checked)


def _sign(term: Term) -> Term:
    return widened(term, DOUBLE).then(DOUBLE, pc.sign)


def _is_nan(term: Term) -> Term:
    return _of(term, DOUBLE).then(BOOLEAN, lambda value: pc.fill_null(pc.is_nan(value), False))


def _ln(term: Term) -> Term:
    def ln(value: Datum) -> Datum:
        nothing = pa.scalar(None, pa.float64())
        return pc.ln(pc.if_else(pc.fill_null(pc.greater(without_nan(value), 0.0), False), value, nothing))

    inner = widened(term, DOUBLE)
    return Term(DOUBLE, lambda columns: ln(inner.evaluate(columns)), rounded=True)


def _divide(left: Term, right: Term) -> Term:
    """A quotient of doubles; where one is not, or the divisor is 0, Spark has rules of its own."""
    if (left.kind, right.typed) != (DOUBLE, DOUBLE):
        raise NotPlain(f"{left.kind} divided by {right.kind}")

    def quotient(above: Datum, below: Datum) -> Datum:
        if pc.any(pc.equal(below, 0.0)).as_py():
            raise NotPlain("a division by 0")
        return pc.divide(above, below)

    return Term(DOUBLE, lambda columns: quotient(left.evaluate(columns), right.evaluate(columns)), rounded=left.rounded)


def _ceil(term: Term) -> Term:
    """The next whole number. Raises NotPlain where a last digit that depends on who computes it may decide."""
    if term.kind != DOUBLE:
        raise NotPlain(f"ceil of {term.kind}")

    def ceil(values: Datum) -> Datum:
        filled = np.asarray(pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False))
        if not (np.abs(filled) < _LARGE).all():
            raise NotPlain("a number too large for ceil")
        far = np.abs(filled - np.rint(filled)) > _NEAR * np.maximum(1.0, np.abs(filled))
        if term.rounded and not (far | (filled == 0.0)).all():
            raise NotPlain("a logarithm next to a whole number")
        return pc.ceil(values).cast(pa.int64())

    return Term(BIGINT, lambda columns: ceil(_array(term.evaluate(columns))))


def _array(values: Datum) -> pa.Array:
    if isinstance(values, pa.Scalar):
        raise NotPlain("a number that is one for all")
    return values


def _concat(*texts: Term) -> Term:
    terms = [_of(text, STRING) for text in texts]
    return Term(STRING, lambda columns: pc.binary_join_element_wise(*(t.evaluate(columns) for t in terms), ""))


def like(text: Term, pattern: str) -> Term:
    """`like` with a pattern that begins or ends in its only `%`."""
    letters = pattern.strip("%")
    if not letters or "%" in letters or "_" in letters or len(pattern) - len(letters) != 1:
        raise NotPlain(f"like {pattern!r}")
    function = pc.starts_with if pattern.endswith("%") else pc.ends_with
    return _of(text, STRING).then(BOOLEAN, lambda value: function(value, pattern=letters))


def _remainder(function: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[Term, Term], Term]:
    """The remainder of whole numbers by a literal."""

    def remainder(left: Term, right: Term) -> Term:
        by = int(right.literal) if right.typed == INT and right.literal else 0
        if by <= 0 or left.typed not in (INT, BIGINT):
            raise NotPlain(f"a remainder of {left.typed} by {right.literal}")
        kind = arrow_type(left.typed)
        return left.then(left.typed, lambda value: _numbers(value, lambda v: function(v, by), kind))

    return remainder


def element_of(items: Sequence[Term], index: Term) -> Term:
    """`try_element_at` of an array of constants: of whole numbers, or of texts."""
    kinds = {item.typed for item in items}
    if kinds not in ({INT}, {STRING}):
        raise NotPlain(f"an array of {kinds}")
    values = pa.array([item.evaluate({}).as_py() for item in items], arrow_type(items[0].typed))

    def element(at: Datum) -> Datum:
        numbers = _array(at).cast(pa.int64())
        if pc.any(pc.less_equal(numbers, 0)).as_py():
            raise NotPlain("an element counted from the end, or none")
        there = pc.fill_null(pc.less_equal(numbers, len(values)), False)
        return values.take(pc.if_else(there, pc.subtract(numbers, 1), pa.scalar(None, pa.int64())))

    return _of(index, INT).then(items[0].typed, element)


FUNCTIONS: dict[type[exp.Expression], tuple[int | None, Callable[..., Term]]] = {
    exp.UnixMicros: (1, _unix_micros),
    exp.UnixDate: (1, _unix_date),
    exp.Hour: (1, _part_of_day(_HOUR, 24)),
    exp.Minute: (1, _part_of_day(_MINUTE, 60)),
    exp.Second: (1, _part_of_day(_SECOND, 60)),
    exp.TsOrDsToDate: (1, _to_date),
    exp.DayOfWeek: (1, _day_of_week),
    exp.Mod: (2, _remainder(np.fmod)),
    exp.Abs: (1, _abs),
    exp.Sign: (1, _sign),
    exp.IsNan: (1, _is_nan),
    exp.Ln: (1, _ln),
    exp.Div: (2, _divide),
    exp.Ceil: (1, _ceil),
    exp.Concat: (None, _concat),
}
"""By the nodes of sqlglot, how many arguments, or any number, and the function of their terms."""
_PMOD = _remainder(np.mod)
_TIMES = {"timestamp_seconds": 1_000_000, "timestamp_millis": 1000, "timestamp_micros": 1}


def by_name(name: str, arguments: Sequence[Term]) -> Term:
    """Functions that sqlglot does not know. Raises NotPlain."""
    if name == "validate_utf8" and len(arguments) == 1:
        # What decoders make is UTF-8, and nothing here makes other text of it.
        return widened(arguments[0], STRING)
    if name in _TIMES and len(arguments) == 1:
        micros = _TIMES[name]
        count = widened(_of(arguments[0], INT, BIGINT), BIGINT)
        return count.then(TIMESTAMP, lambda v: pc.multiply_checked(v, micros).cast(arrow_type(TIMESTAMP)))
    if name == "pmod" and len(arguments) == 2:
        return _PMOD(*arguments)
    raise NotPlain(name)
