"""What a measure is: an aggregate whose state merges, apart from the answer that people read.

A measure is declared with SQL text (`Sum("quantity * price", where="quantity > 0")`) and *resolved* once Spark has
told the type of its expression. Its state is made of *parts*, each the result of one native Spark aggregate, or of
*entries*, counts by category. `states` and `from_entries` turn what Spark collected into the state, a plain wire
value; `merge` is associative and commutative with `zero` as its identity; `present` turns a state into the answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

from tideline.errors import DefinitionError
from tideline.types import ColumnType, json_value, parse_type

State = Any
EXACT: Mapping[str, Any] = {"exact": True}
SIGN = "_sign"
"""The column that is 1 for an inserted row and -1 for a retracted one, where the source names an operation."""
M = TypeVar("M", bound="Measure")


@dataclass(frozen=True)
class Part:
    """One native aggregate of a state: `function` over `sql`, a row expression already cast to `type`.

    `function` is one of count, sum, min, max, first, last, moments, hll; `first` and `last` order by log identity and
    `hll` takes its size from `argument`.
    """

    name: str
    function: str
    type: ColumnType
    sql: str
    argument: int = 0

    @property
    def signature(self) -> str:
        """Parts of equal signature may share one aggregate column between views."""
        return f"{self.function}:{self.type.sql}:{self.argument}"


@dataclass(frozen=True)
class Entries:
    """Counts by category: `sql` gives the category (string or bigint, null is not counted), `weight` a bigint."""

    type: ColumnType
    sql: str
    weight: str = "1L"


@dataclass(frozen=True)
class Measure(ABC):
    """An aggregate over the rows of a key and bucket; `where` restricts it to the rows that satisfy a condition."""

    expression: str | None = None
    where: str | None = None
    input: ColumnType | None = field(default=None, kw_only=True)

    kind: ClassVar[str]
    takes: ClassVar[str] = "a value"
    registry: ClassVar[dict[str, type[Measure]]] = {}
    twins: ClassVar[dict[str, list[type[Measure]]]] = {}
    plain: ClassVar[type[Measure]]
    """The class itself; of a twin that takes retractions too, the measure that it stands in for."""

    def __init_subclass__(cls, of: type[Measure] | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "present" in cls.__dict__ and "present_many" not in cls.__dict__:
            cls.present_many = Measure.present_many  # type: ignore[method-assign]
        if "merge" in cls.__dict__ and "merge_all" not in cls.__dict__:
            cls.merge_all = Measure.merge_all  # type: ignore[method-assign]
        cls.plain = of or cls
        if of is not None:
            Measure.twins.setdefault(of.kind, []).append(cls)
        elif "kind" in cls.__dict__:
            Measure.registry[cls.kind] = cls

    def resolve(self: M, input_type: ColumnType | None) -> M:
        """The same measure knowing the type of its expression. Raises DefinitionError where the type does not fit."""
        if input_type is not None and not self.accepts(input_type):
            raise DefinitionError(
                "TYPE_MISMATCH", measure=self.kind, expression=self.expression, type=input_type.sql, expected=self.takes
            )
        return replace(self, input=input_type)

    def retractable(self) -> Measure:
        """The same measure over rows that may be retracted; only after `resolve`. Raises DefinitionError."""
        for twin in Measure.twins.get(self.kind, ()):
            if twin.suits(self):
                return twin(**{f.name: getattr(self, f.name) for f in fields(self)})
        raise DefinitionError("NOT_RETRACTABLE", measure=self.kind, expected=sorted(Measure.twins))

    @classmethod
    def suits(cls, measure: Measure) -> bool:
        """Whether this twin can stand in for a resolved measure of its kind."""
        return True

    def accepts(self, input_type: ColumnType) -> bool:
        """Whether the measure can aggregate values of this type."""
        return input_type.name != "binary"

    @property
    def resolved(self) -> ColumnType:
        """The type of the expression; only after `resolve`."""
        if self.input is None:
            raise DefinitionError("UNRESOLVED_MEASURE", measure=self.kind, expected="resolve() first")
        return self.input

    def value(self, cast: ColumnType | None = None) -> str:
        """SQL of the expression, null where `where` does not hold; cast if asked to."""
        sql = f"({self.expression})"
        if cast is not None and cast != self.input:
            sql = f"cast({sql} as {cast.sql})"
        return f"if(({self.where}), {sql}, null)" if self.where else sql

    def wire(self) -> tuple[ColumnType, str]:
        """Type and SQL of the expression in its comparable form: times as numbers, -0.0 as 0.0."""
        kind = self.resolved
        if kind.name in ("timestamp", "date"):
            unit = "unix_micros" if kind.name == "timestamp" else "unix_date"
            sql = f"cast({unit}({self.expression}) as bigint)"
        elif kind.is_floating:
            sql = f"(cast(({self.expression}) as double) + 0D)"
        elif kind.is_integer:
            sql = f"cast(({self.expression}) as bigint)"
        else:
            return kind, self.value()
        wide = ColumnType("double" if kind.is_floating else "bigint")
        return wide, f"if(({self.where}), {sql}, null)" if self.where else sql

    def row_expressions(self) -> dict[str, str]:
        """The user's own SQL texts by role: `value`, `where`, and what a subclass adds."""
        texts = {"value": self.expression, "where": self.where}
        return {role: text for role, text in texts.items() if text is not None}

    def parts(self) -> Sequence[Part]:
        """The native aggregates that make up the state."""
        return ()

    def entries(self) -> Entries | None:
        """The categories counted, for a measure whose state is a map."""
        return None

    def states(self, parts: Sequence[Sequence[Any]]) -> list[State]:
        """The states of many groups: for each of `parts` its column of results, as Arrow's Python values."""
        raise DefinitionError("NOT_MADE_OF_PARTS", measure=self.kind)

    def from_entries(self, counts: Mapping[Any, int]) -> State:
        """The state from counts by category."""
        return dict(counts)

    @abstractmethod
    def zero(self) -> State:
        """The state of no rows."""

    @abstractmethod
    def merge(self, left: State, right: State) -> State:
        """The state of both sets of rows; neither input is changed."""

    def merge_all(self, states: Sequence[State]) -> State:
        """The merge of one state or more: equals with equals, so a large one is copied log n times, not n times."""
        while len(states) > 1:
            pairs = [self.merge(left, right) for left, right in zip(states[::2], states[1::2], strict=False)]
            states = [*pairs, states[-1]] if len(states) % 2 else pairs
        return states[0]

    @abstractmethod
    def present(self, state: State) -> Any:
        """The answer that people read."""

    def present_many(self, states: Sequence[State]) -> Sequence[Any]:
        """`present` of each."""
        return [self.present(state) for state in states]

    @property
    def answer_type(self) -> ColumnType | None:
        """The answer's type; None where the answer is a mapping or a list."""
        return None

    @property
    def bound(self) -> Mapping[str, Any]:
        """How far an answer may be from the truth."""
        return EXACT

    def canonical(self, state: State) -> Any:
        """A form in which equal states are equal, for comparing full with incremental recomputes."""
        return state

    def answer_json(self, answer: Any) -> Any:
        """The answer as JSON carries it."""
        return json_value(answer)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able description from which `measure_from_json` makes an equal measure."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        options["input"] = self.input.sql if self.input else None
        if type(self) is not self.plain:
            options["retracts"] = True
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}}


def measure_from_json(data: Mapping[str, Any]) -> Measure:
    """The measure that `to_json` described. Raises DefinitionError for a kind that this release does not know."""
    options = dict(data)
    kind = options.pop("kind")
    if kind not in Measure.registry:
        raise DefinitionError("UNKNOWN_MEASURE", measure=kind, known=sorted(Measure.registry))
    input_type, retracts = options.pop("input"), options.pop("retracts", False)
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    measure = Measure.registry[kind](**options, input=parse_type(input_type) if input_type else None)
    return measure.retractable() if retracts else measure


def needs_expression(measure: Measure) -> None:
    """Raises DefinitionError where a measure that aggregates values has no expression."""
    if not measure.expression:
        raise DefinitionError("MISSING_EXPRESSION", measure=measure.kind, expected=measure.takes)
