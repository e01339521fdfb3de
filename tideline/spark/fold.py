"""The fold: events to partial states of many views in one Spark aggregation.

Every event is expanded once into the rows that `FoldPlan` plans, which are aggregated together. So the number of jobs
does not depend on the number of views.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tideline.fold_plan import (
    ENTRY_TYPES,
    LOG_DEAD,
    LOG_DUPLICATE,
    LOG_EVENT,
    LOG_REJECT,
    LOG_VIEW,
    FoldPlan,
    PlannedView,
    Slot,
)
from tideline.measures.base import SIGN
from tideline.spark.columns import key_to_slot, named_struct, try_eval, valid_text
from tideline.spark.events import sign_sql
from tideline.types import BIGINT


def _input_type(slot: Slot) -> str:
    """The SQL type of a row's input of an aggregate."""
    if slot.function in ("first", "last"):
        return f"struct<at:bigint,partition:int,offset:bigint,value:{slot.type.sql}>"
    return slot.type.sql


def _aggregate(slot: Slot, name: str) -> SparkColumn:
    """The native aggregate over the input column `name`."""
    if slot.function == "moments":
        return F.expr(f"named_struct('n', count({name}), 'mean', avg({name}), 'm2', var_pop({name}) * count({name}))")
    if slot.function == "hll":
        return F.expr(f"hll_sketch_agg({name}, {slot.argument})")
    native = {"first": "min", "last": "max", "xor": "bit_xor"}.get(slot.function, slot.function)
    return F.expr(f"{native}({name})")


def _input(slot: Slot, value: str) -> str:
    """SQL of a row's input of an aggregate, for a value."""
    if slot.function in ("first", "last"):
        edge = f"named_struct('at', _at, 'partition', _partition, 'offset', _offset, 'value', {value})"
        return f"if({value} is null, null, {edge})"
    return value


class Fold(FoldPlan):
    """The compiled fold of one source's views."""

    def _row(self, values: Mapping[str, str]) -> str:
        """SQL of one expanded row; what is not given is null."""
        types = {
            "view": "int",
            "bucket": "bigint",
            **({**ENTRY_TYPES, "weight": "bigint"} if self.has_entries else {}),
            **{f"kt{i}": "string" for i in range(self.texts)},
            **{f"kn{i}": "bigint" for i in range(self.numbers)},
            **{f"s{i}": _input_type(slot) for i, slot in enumerate(self.slots)},
        }
        return named_struct({name: f"cast({values.get(name, 'null')} as {kind})" for name, kind in types.items()})

    def _inputs(self, planned: PlannedView) -> str:
        """SQL of a view's key and measure inputs for one event, null where the view's filter does not hold."""
        view = planned.view
        fields = {
            f"k{i}": key_to_slot(column, valid_text(column.type, sql))
            for i, (column, sql) in enumerate(zip(view.key, view.key_sql, strict=True))
        }
        fields |= {name: valid_text(part.type, view.sql(part.sql)) for name, (part, _) in planned.parts().items()}
        for name, (_, entries) in planned.entry_fields().items():
            fields |= {name: valid_text(entries.type, view.sql(entries.sql)), f"{name}w": view.sql(entries.weight)}
        fields["present"] = "true"
        inputs = named_struct(fields)
        return named_struct({"row": f"if(({view.sql(view.where)}), {inputs}, null)" if view.where else inputs})

    def _view_rows(self, planned: PlannedView) -> list[str]:
        """SQL of the rows that one event gives a view."""
        inputs = f"v{planned.index}.row"
        group = {"view": str(planned.index)}
        group |= {slot: f"{inputs}.k{i}" for i, slot in enumerate(planned.key_slots)}
        if planned.view.bucket:
            group["bucket"] = f"_at - pmod(_at, {planned.view.bucket}L)"
        parts = {
            slot: _input(self.slots[int(slot[1:])], f"{inputs}.{name}") for name, (_, slot) in planned.parts().items()
        }
        rows = [f"if({inputs} is not null, {self._row({**group, 'entry': '0', **parts})}, null)"]
        for name, (number, entries) in planned.entry_fields().items():
            column = "entry_number" if entries.type == BIGINT else "entry_text"
            row = self._row({**group, "entry": str(number), column: f"{inputs}.{name}", "weight": f"{inputs}.{name}w"})
            rows.append(f"if({inputs}.{name} is not null, {row}, null)")
        return rows

    def _log_row(self) -> str:
        records, checksum, latest = self.log_slots
        status = (
            f"case when _reason is not null then {LOG_DEAD} when _duplicate then {LOG_DUPLICATE} else {LOG_EVENT} end"
        )
        return self._row(
            {
                "view": str(LOG_VIEW),
                "kn0": "_partition",
                "bucket": status,
                "kt0": "_reason",
                records: "true",
                checksum: "_hash",
                latest: "if(_counts, _at, null)",
            }
        )

    def _reject_rows(self) -> list[str]:
        """SQL of the row of an event that views reject: it names them all, for it is rare."""
        if not self.planned:
            return []
        rejects = " or ".join(f"v{p.index} is null" for p in self.planned)
        names = ", ".join(f"if(v{p.index} is null, '{p.index}', null)" for p in self.planned)
        row = self._row(
            {
                "view": str(LOG_VIEW),
                "kn0": "_partition",
                "bucket": str(LOG_REJECT),
                "kt0": f"concat_ws(',', {names})",
                self.log_slots[0]: "true",
            }
        )
        return [f"if(_counts and ({rejects}), {row}, null)"]

    def aggregate(self, events: DataFrame) -> DataFrame:
        """One row for every group and its slots' results.

        `events` has the event columns, `_partition`, `_offset`, `_hash` (64-bit checksum of offset and value),
        `_reason` (null for an event) and `_duplicate`.
        """
        spark = events.sparkSession
        at = f"unix_micros({self.source.event_time})"
        flagged = events.withColumn("_counts", F.expr("_reason is null and not _duplicate"))
        if self.source.operation:
            flagged = flagged.withColumns({SIGN: F.expr(sign_sql(self.source.operation)), "_at": F.expr(at)})
        views = [F.when(F.col("_counts"), try_eval(spark, self._inputs(p))).alias(f"v{p.index}") for p in self.planned]
        base = flagged.select(
            "_partition",
            "_offset",
            "_hash",
            "_reason",
            "_duplicate",
            "_counts",
            F.expr(f"if(_reason is null, {at}, null)").alias("_at"),
            *views,
        )
        rows = [self._log_row(), *self._reject_rows()]
        for planned in self.planned:
            rows += self._view_rows(planned)
        expanded = base.selectExpr(f"inline(array({', '.join(rows)}))").where("view is not null")
        results = [_aggregate(slot, f"s{i}").alias(f"s{i}") for i, slot in enumerate(self.slots)]
        if self.has_entries:
            results.append(F.sum("weight").alias("weight"))
        return expanded.groupBy(*self.group_columns).agg(*results)
