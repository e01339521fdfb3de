"""Small helpers around Spark columns and types."""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn

from tideline.fold_plan import is_text_key
from tideline.types import Column, ColumnType

EVENT_COLUMNS = (
    "_partition int, _offset bigint, _timestamp timestamp, _key binary, _headers array<struct<key:string,value:binary>>"
)


def try_eval(spark: SparkSession, sql: str) -> SparkColumn:
    """`sql` evaluated so that an error (overflow, division by zero, bad cast) gives null instead of ending the job."""
    jvm: Any = spark._jvm
    utils = jvm.org.apache.spark.sql.classic.ExpressionUtils
    expression = utils.expression(F.expr(sql)._jc)
    return ClassicColumn(utils.column(jvm.org.apache.spark.sql.catalyst.expressions.TryEval(expression)))


def named_struct(fields: dict[str, str]) -> str:
    """SQL of a struct with these fields."""
    return "named_struct(" + ", ".join(f"'{name}', {sql}" for name, sql in fields.items()) + ")"


def quoted(name: str) -> str:
    """A column name as SQL quotes it."""
    return "`" + name.replace("`", "``") + "`"


def key_to_slot(column: Column, sql: str) -> str:
    """SQL that turns a key's value into the text or bigint by which it is grouped."""
    kind = column.type
    if kind.name == "timestamp":
        return f"unix_micros({sql})"
    if kind.name == "date":
        return f"cast(unix_date({sql}) as bigint)"
    if kind.name == "binary":
        return f"base64({sql})"
    if kind.is_floating:
        return f"cast((cast({sql} as double) + 0D) as string)"
    return f"cast({sql} as {'string' if is_text_key(kind) else 'bigint'})"


def slot_to_key(column: Column, slot: str) -> str:
    """SQL that turns a slot back into the key's own type."""
    kind = column.type
    if kind.name == "timestamp":
        return f"timestamp_micros({slot})"
    if kind.name == "date":
        return f"date_from_unix_date(cast({slot} as int))"
    if kind.name == "binary":
        return f"unbase64({slot})"
    return f"cast({slot} as {kind.sql})"


def valid_text(kind: ColumnType, sql: str) -> str:
    """SQL of a value that fails where it is text and not UTF-8, as `cast(_key as string)` may be; else as it is."""
    return f"validate_utf8({sql})" if kind.name == "string" else f"({sql})"
