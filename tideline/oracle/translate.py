"""Row expressions from Spark SQL to DuckDB, node by node, each with the type that Spark gives it.

Only what is listed here is translated, every entry checked against Spark by
`tests/unit/test_oracle_translate.py`: the rest raises Untranslatable and is left to Spark. Where Spark's
ANSI mode fails (overflow, a zero divisor, a bad cast) the translation fails too, and it evaluates lazily
where Spark does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlglot
from sqlglot import expressions as exp

from tideline.expressions import has_quotes
from tideline.oracle import arithmetic as math
from tideline.oracle import choices
from tideline.oracle.arithmetic import BOOLEAN, STRING, TIMESTAMP, Term, Untranslatable
from tideline.oracle.functions import FUNCTIONS, anonymous, truncate
from tideline.types import ColumnType, parse_type

_COMPARE = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
}
_ARITHMETIC: dict[type[exp.Expression], Callable[[Term, Term], Term]] = {
    exp.Add: lambda a, b: math.plus("+", a, b),
    exp.Sub: lambda a, b: math.plus("-", a, b),
    exp.Mul: math.times,
    exp.Div: math.divide,
    exp.IntDiv: math.whole_divide,
    exp.Mod: math.modulo,
}
_HARMLESS = {
    "safe": (True, None, False),
    "coalesce": (False, None),
    "ignore_nulls": (True, None),
    "typed": (False, None),
}
_SPECIAL = {"_timestamp": TIMESTAMP}


@dataclass
class Translator:
    """Translates expressions over columns of known types, named as the tables of `events` name them."""

    columns: Mapping[str, ColumnType]
    _known: dict[str, tuple[str, ColumnType]] = field(init=False)

    def __post_init__(self) -> None:
        self._known = {name.lower(): (name, kind) for name, kind in {**_SPECIAL, **self.columns}.items()}

    def translate(self, sql: str) -> Term:
        """The expression for DuckDB. Raises Untranslatable."""
        if "\\" in sql or has_quotes(sql):
            raise Untranslatable("a backslash or a quote in a text")
        try:
            tree = sqlglot.parse_one(sql, read="spark")
        except Exception as error:  # noqa: BLE001 - sqlglot fails in many ways on calls that it does not expect
            raise Untranslatable(f"{type(error).__name__}: {error}") from None
        return self.term(tree)

    def term(self, node: Any) -> Term:
        """One node's translation. Raises Untranslatable."""
        kind = type(node)
        if kind in _ARITHMETIC:
            return _ARITHMETIC[kind](*self._args(node, "this", "expression"))
        if kind in _COMPARE:
            return choices.compare(_COMPARE[kind], *self._args(node, "this", "expression"))
        if kind in (exp.And, exp.Or):
            return choices.both(kind is exp.And, *self._args(node, "this", "expression"))
        if kind in FUNCTIONS:
            names, apply = FUNCTIONS[kind]
            return apply(*self._args(node, *names))
        method = getattr(self, f"_{kind.__name__.lower()}", None)
        if method is None:
            raise Untranslatable(kind.__name__)
        found: Term = method(node)
        return found

    def _args(self, node: Any, *names: str, also: Iterable[str] = ()) -> list[Any]:
        """The node's arguments: a Term each, a list of Terms for a list, None where left out. No other may
        be set.
        """
        for name, value in node.args.items():
            known = name in names or name in also or (name in _HARMLESS and value in _HARMLESS[name])
            if not known and value not in (None, False, []):
                raise Untranslatable(f"{type(node).__name__} with {name}")
        return [self._argument(node.args.get(name)) for name in names]

    def _argument(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.term(item) for item in value]
        return None if value is None else self.term(value)

    def _column(self, node: Any) -> Term:
        self._args(node, also=("this",))
        name = node.this.name
        if name.lower() not in self._known:
            raise Untranslatable(f"column {name}")
        spelled, kind = self._known[name.lower()]
        return Term('"' + spelled.replace('"', '""') + '"', kind)

    def _paren(self, node: Any) -> Term:
        found: Term = self._args(node, "this")[0]
        return found

    def _literal(self, node: Any) -> Term:
        return math.text(node.name) if node.is_string else math.number(node.name)

    def _boolean(self, node: Any) -> Term:
        return Term("TRUE" if node.this else "FALSE", BOOLEAN, literal=True)

    def _null(self, _node: Any) -> Term:
        return math.NULL

    def _neg(self, node: Any) -> Term:
        [inner] = self._args(node, "this")
        return math.negate(inner)

    def _not(self, node: Any) -> Term:
        [inner] = self._args(node, "this")
        found: Term = inner.needs(BOOLEAN).to(f"(NOT {inner.sql})", BOOLEAN)
        return found

    def _is(self, node: Any) -> Term:
        if not isinstance(node.expression, exp.Null):
            raise Untranslatable("is, but not of null")
        [inner] = self._args(node, "this", also=("expression",))
        found: Term = inner.to(f"({inner.sql} IS NULL)", BOOLEAN)
        return found

    def _like(self, node: Any) -> Term:
        this, pattern = self._args(node, "this", "expression", also=("negate",))
        if not pattern.literal:
            raise Untranslatable("like with a pattern that is no literal")
        found: Term = this.needs(STRING).to(f"({this.sql} LIKE {pattern.needs(STRING).sql})", BOOLEAN, pattern)
        return found.to(f"(NOT {found.sql})", BOOLEAN) if node.args.get("negate") else found

    def _in(self, node: Any) -> Term:
        this, items = self._args(node, "this", "expressions", also=("negate",))
        if not items or any(item.fallible for item in items):
            raise Untranslatable("in, with items that may fail")
        found = choices.compare("=", this, items[0])
        for item in items[1:]:
            found = choices.both(False, found, choices.compare("=", this, item))
        return found.to(f"(NOT {found.sql})", BOOLEAN) if node.args.get("negate") else found

    def _between(self, node: Any) -> Term:
        this, low, high = self._args(node, "this", "low", "high", also=("negate",))
        found = choices.both(True, choices.compare(">=", this, low), choices.compare("<=", this, high))
        return found.to(f"(NOT {found.sql})", BOOLEAN) if node.args.get("negate") else found

    def _if(self, node: Any) -> Term:
        test, yes, no = self._args(node, "this", "true", "false")
        return choices.choose([(test, yes)], no)

    def _case(self, node: Any) -> Term:
        for branch in node.args["ifs"]:
            self._args(branch, also=("this", "true"))
        subject, default = self._args(node, "this", "default", also=("ifs",))
        pairs = [(self.term(branch.this), self.term(branch.args["true"])) for branch in node.args["ifs"]]
        if subject is not None:
            pairs = [(choices.compare("=", subject, test), value) for test, value in pairs]
        return choices.choose(pairs, default)

    def _coalesce(self, node: Any) -> Term:
        this, others = self._args(node, "this", "expressions")
        return choices.coalesce([this, *others])

    def _nullif(self, node: Any) -> Term:
        left, right = self._args(node, "this", "expression")
        return choices.choose([(choices.compare("=", left, right), math.NULL)], left)

    def _cast(self, node: Any) -> Term:
        [inner] = self._args(node, "this", also=("to",))
        try:
            kind = parse_type(node.args["to"].sql(dialect="spark"))
        except Exception as error:  # noqa: BLE001 - a type that is no event column's
            raise Untranslatable(f"cast to {node.args['to']}: {error}") from None
        return choices.cast(inner, kind)

    def _trycast(self, node: Any) -> Term:
        if node.args.get("safe"):
            raise Untranslatable("try_cast")
        return self._cast(node)

    def _timestamptrunc(self, node: Any) -> Term:
        [inner] = self._args(node, "this", also=("unit",))
        return truncate(inner, node.args["unit"].name)

    def _anonymous(self, node: Any) -> Term:
        return anonymous(str(node.this).lower(), [self.term(item) for item in node.expressions])
