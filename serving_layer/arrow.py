"""Rows as an Arrow table, typed by the view's columns and measures; nothing is rounded to fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from serving_layer.plan import Plan
from serving_layer.present import Columns
from serving_layer.result import plain
from tideline.arrow_types import arrow_type
from tideline.measures import CountBy, Measure, Quantiles, TopK, quantile_name
from tideline.types import BIGINT, INTEGER_RANGES, TIMESTAMP, ColumnType

PROOF = b"tideline.proof"
_COUNTED = pa.struct([pa.field("value", pa.string()), pa.field("count", pa.int64())])


def arrow_table(plan: Plan, columns: Columns, proof: dict[str, Any]) -> pa.Table:
    """The table of an answer, with the proof as JSON in its metadata."""
    keys = {plan.view.key[index].name: plan.view.key[index].type for index in plan.group}
    arrays = []
    for name, values in columns.items():
        if name in keys:
            arrays.append(pa.array(values, arrow_type(keys[name])))
        elif name == plan.time_name:
            arrays.append(pa.array(values, pa.timestamp("us", plan.zone.name) if plan.zone else arrow_type(TIMESTAMP)))
        elif name in plan.view.measures:
            arrays.append(_measure_array(plan.view.measures[name], values))
        else:
            arrays.append(_answer_array(values))
    schema = pa.schema([pa.field(name, array.type) for name, array in zip(columns, arrays, strict=True)])
    return pa.Table.from_arrays(arrays, schema=schema.with_metadata({PROOF: json.dumps(proof).encode()}))


def _measure_array(measure: Measure, values: Sequence[Any]) -> pa.Array:
    kind = measure.answer_type
    if kind is None:
        return _structured(measure, values)
    if kind.is_integer:
        return _integers(kind, values)
    if kind.is_decimal:
        digits = max((len(value.as_tuple().digits) for value in values if value is not None), default=0)
        return pa.array(values, arrow_type(kind) if digits <= kind.precision else pa.decimal256(76, kind.scale))
    return pa.array(values, arrow_type(kind))


def _integers(kind: ColumnType, values: Sequence[Any]) -> pa.Array:
    """Whole numbers; as decimal(38,0) or wider where a sum has outgrown 64 bits."""
    largest = max((abs(value) for value in values if value is not None), default=0)
    if largest < INTEGER_RANGES[kind.name]:
        return pa.array(values, arrow_type(kind))
    if kind != BIGINT and largest < INTEGER_RANGES["bigint"]:
        return pa.array(values, pa.int64())
    wide = pa.decimal128(38, 0) if largest < 10**38 else pa.decimal256(76, 0)
    return pa.array([None if value is None else Decimal(value) for value in values], wide)


def _structured(measure: Measure, values: Sequence[Any]) -> pa.Array:
    if isinstance(measure, Quantiles):
        return pa.array(values, pa.struct([pa.field(quantile_name(q), pa.float64()) for q in measure.at]))
    if isinstance(measure, CountBy):
        return pa.array([list(value.items()) for value in values], pa.map_(pa.string(), pa.int64()))
    if isinstance(measure, TopK):
        rows = [[{"value": category, "count": count} for category, count in value] for value in values]
        return pa.array(rows, pa.list_(_COUNTED))
    return pa.array([json.dumps(measure.answer_json(value)) for value in values], pa.string())


def _answer_array(values: Sequence[Any]) -> pa.Array:
    """An answer's type follows its values; those that share none, such as texts and numbers, become text."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, float) for value in known) and all(_is_number(value) for value in known):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if not known:
        return pa.array(values, pa.float64())
    if all(isinstance(value, int) and not isinstance(value, bool) for value in known):
        return _integers(BIGINT, values)
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else json.dumps(plain(value)) for value in values], pa.string())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
