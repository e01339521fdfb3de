"""Arrow's types for a column's, as decoders make them and answers carry them; the oracle has its own."""

from __future__ import annotations

import pyarrow as pa

from tideline.types import ColumnType

_PLAIN = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "binary": pa.binary(),
}


def arrow_type(kind: ColumnType) -> pa.DataType:
    """The Arrow type of a column; timestamps in microseconds UTC."""
    return pa.decimal128(kind.precision, kind.scale) if kind.is_decimal else _PLAIN[kind.name]
