"""Computing row expressions that do not translate: one plain pass of Spark SQL over the decoded events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tideline.definition import ViewDefinition
from tideline.oracle.inputs import Input, inputs_of
from tideline.types import ColumnType

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_PLACE = ("_at", "_partition", "_offset")
_START = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.log.level": "ERROR",
}
_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # Spark would compute what columns have in common first, outside of the TryEval that is to catch its
    # errors.
    "spark.sql.subexpressionElimination.enabled": "false",
    "spark.sql.alwaysInlineCommonExpr": "true",
}


def _wire(sql: str, kind: ColumnType) -> str:
    """Spark SQL of a value in the form that is compared."""
    if kind.name == "timestamp":
        return f"unix_micros({sql})"
    if kind.name == "date":
        return f"unix_date({sql})"
    if kind.name == "string":
        return f"validate_utf8({sql})"
    return f"(cast({sql} as double) + 0D)" if kind.is_floating else sql


def spark_sql(view: ViewDefinition) -> str:
    """SQL of the view's inputs for one event."""

    def field(item: Input) -> str:
        value = f"cast(({item.sql}) as {item.type.sql})" if item.cast else f"({item.sql})"
        if item.where:
            value = f"if(({item.where}), {value}, null)"
        return f"'{item.name}', {_wire(value, item.type)}"

    row = f"named_struct({', '.join([*map(field, inputs_of(view)), repr('present') + ', true'])})"
    if view.where:
        row = f"if(({view.sql(view.where)}), {row}, null)"
    return f"named_struct('row', {row})"


class Spark:
    """One source's events in a folder, and a local Spark session that is started when it is first needed."""

    def __init__(self, events: pa.Table, folder: Path) -> None:
        self._folder = folder
        self._files = folder / "events.parquet"
        self._events = events
        self._session: SparkSession | None = None
        self._own = False

    def compute_inputs(self, view: ViewDefinition) -> str:
        """The view's inputs as `_at`, `_partition`, `_offset` and `r`; returns the pattern of Parquet files
        with them.
        """
        session = self._start()
        frame = session.read.parquet(str(self._files))
        place = [*_PLACE, "_sign"] if "_sign" in frame.columns else _PLACE
        target = self._folder / f"inputs-{view.fingerprint}"
        frame.select(*place, _or_null(session, spark_sql(view)).alias("r")).write.mode("overwrite").parquet(str(target))
        return str(target / "*.parquet")

    def close(self) -> None:
        """Stop the session, if this started one."""
        if self._session is not None and self._own:
            self._session.stop()

    def _start(self) -> SparkSession:
        if self._session is None:
            from pyspark.sql import SparkSession

            kinds = [_zoned(field.type) for field in self._events.schema]
            schema = pa.schema(list(zip(self._events.column_names, kinds, strict=True)))
            pq.write_table(self._events.cast(schema), self._files)
            self._own = SparkSession.getActiveSession() is None
            builder = SparkSession.builder.master("local[*]").appName("tideline verify")
            for name, value in _START.items():
                builder = builder.config(name, value)
            session = builder.getOrCreate().newSession()
            for name, value in _SETTINGS.items():
                session.conf.set(name, value)
            self._session = session
        return self._session


def _zoned(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us", "UTC") if pa.types.is_timestamp(kind) else kind


def _or_null(session: SparkSession, sql: str) -> Any:
    """The expression as a column that is null where it fails."""
    from pyspark.sql import functions as F
    from pyspark.sql.classic.column import Column

    jvm: Any = session._jvm
    bridge = jvm.org.apache.spark.sql.classic.ExpressionUtils
    failing: Any = F.expr(sql)
    attempt = jvm.org.apache.spark.sql.catalyst.expressions.TryEval(bridge.expression(failing._jc))
    return Column(bridge.column(attempt))
