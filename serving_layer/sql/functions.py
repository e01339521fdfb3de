"""Functions of SQL over states: what does not add up, such as distinct customers, is merged by the measure itself.

A statement that names a column `<measure>_state` gets it beside the measure. `merged(customers_state)` over any group
of rows is what a query of that group answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa
from msgpack.exceptions import UnpackException

from serving_layer.fold import Groups
from serving_layer.plan import Plan
from serving_layer.proof import json_text
from tideline.codec import pack_row, unpack_row
from tideline.measures import Measure, Quantiles, quantile_name

SUFFIX = "_state"
_MACROS = {
    "merged(s)": "tideline_merged(list(s))::DOUBLE",
    "merged_quantile(s, q)": "tideline_quantile(list(s), q)::DOUBLE",
    "merged_answer(s)": "tideline_answer(list(s))",
}
_BLOBS = "BLOB[]"


def wants_states(words: set[str]) -> bool:
    """Whether a statement of these words names a state."""
    return any(word.endswith(SUFFIX) for word in words)


def with_states(table: pa.Table, groups: Groups, plan: Plan) -> pa.Table:
    """A view's table with a column of states for each measure, as bytes that tell whose they are."""
    for slot, name in enumerate(plan.view.measures):
        column = name + SUFFIX
        if name in plan.shown and column not in table.column_names:
            of = f"{plan.view.name}.{name}"
            table = table.append_column(
                column, pa.array([pack_row((of,), None, [states[slot]]) for states in groups.merged], pa.binary())
            )
    return table


def define_functions(database: duckdb.DuckDBPyConnection, measures: Mapping[str, Measure]) -> None:
    """`measures` by view and name, `revenue.customers`."""

    def answer(states: Sequence[bytes]) -> tuple[Measure, Any]:
        try:
            rows = [unpack_row(state) for state in states]
            (name,) = {row[0][0] for row in rows}
        except (ValueError, TypeError, IndexError, UnpackException):
            name = ""
        if name not in measures:
            raise ValueError("these are not states of one measure")
        return measures[name], measures[name].merge_all([row[2][0] for row in rows])

    # Of no rows there is no answer. Numbers go as text, for a double of Python's that is NaN comes as null.
    def merged(states: Sequence[bytes] | None) -> str | None:
        if states is None:
            return None
        measure, state = answer(states)
        found = measure.present(state)
        if found is None:
            return None
        if isinstance(found, (Mapping, Sequence)) and not isinstance(found, str):
            raise ValueError("this measure answers no number; see merged_answer and merged_quantile")
        return repr(float(found))

    def quantile(states: Sequence[bytes] | None, q: float | None) -> str | None:
        if states is None or q is None:
            return None
        measure, state = answer(states)
        if not isinstance(measure, Quantiles):
            raise ValueError("these are not states of quantiles")
        if not 0 <= q <= 1:
            raise ValueError("a quantile lies from 0 to 1")
        found: float | None = replace(measure, at=(q,)).present(state)[quantile_name(q)]
        return None if found is None else repr(found)

    def text(states: Sequence[bytes] | None) -> str | None:
        if states is None:
            return None
        measure, state = answer(states)
        return json_text(measure.answer_json(measure.present(state)))

    functions: list[tuple[str, Callable[..., Any], list[Any]]] = [
        ("tideline_merged", merged, [_BLOBS]),
        ("tideline_quantile", quantile, [_BLOBS, "DOUBLE"]),
        ("tideline_answer", text, [_BLOBS]),
    ]
    special: Any = "special"  # an enumeration, whose module has another name in each version of DuckDB
    for name, function, given in functions:
        database.create_function(name, function, given, "VARCHAR", null_handling=special)
    for head, body in _MACROS.items():
        database.execute(f"CREATE MACRO {head} AS {body}")
