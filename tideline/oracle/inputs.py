"""What the oracle needs of each event for one view: named SQL expressions over the event's columns.

DuckDB or Spark computes them, whichever can; after that the two ways are one. The columns of the result:
`k0`, `k1`, ... the key; for measure i `v{i}` its value, null where its `where` does not hold, `w{i}` whether
it holds, `g{i}` its weight. A row whose expressions fail has no inputs at all: it is a reject.
"""

from __future__ import annotations

from dataclasses import dataclass

from tideline.definition import ViewDefinition
from tideline.measures import CountBy, Measure, TopK
from tideline.types import BIGINT, STRING, ColumnType

BOOLEAN = ColumnType("boolean")


@dataclass(frozen=True)
class Input:
    """One expression: `sql`, guarded by `where` (null where that does not hold), of a known type.

    `cast` says that the expression is converted to the type; else it has it.
    """

    name: str
    sql: str
    type: ColumnType
    where: str | None = None
    cast: bool = False


def inputs_of(view: ViewDefinition) -> list[Input]:
    """A view's inputs."""
    found = [
        Input(f"k{i}", sql, column.type) for i, (column, sql) in enumerate(zip(view.key, view.key_sql, strict=True))
    ]
    for index, measure in enumerate(view.measures.values()):
        found += _measure_inputs(view, index, measure)
    return found


def _measure_inputs(view: ViewDefinition, index: int, measure: Measure) -> list[Input]:
    found = []
    where = view.sql(measure.where) if measure.where else None
    if where:
        found.append(Input(f"w{index}", where, BOOLEAN))
    if measure.expression:
        category = isinstance(measure, (CountBy, TopK))
        found.append(
            Input(
                f"v{index}",
                view.sql(measure.expression),
                STRING if category else measure.resolved,
                where,
                cast=category,
            )
        )
    if isinstance(measure, TopK) and measure.weight:
        found.append(Input(f"g{index}", view.sql(measure.weight), BIGINT, where, cast=True))
    return found
