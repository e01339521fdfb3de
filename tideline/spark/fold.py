"""The fold: events to partial states of many views in one Spark aggregation.

Every event is expanded once into rows: one for the log's own counts, one for each view that it belongs to, and one for
each category that a map-like measure counts. A row carries its group (view, key, bucket, entry) and the inputs of the
aggregates. Aggregates are *slots* shared between views: two views with a sum of decimals use the same column. So the
number of jobs does not depend on the number of views.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tideline.definition import ViewDefinition
from tideline.expressions import may_be_used, names_used
from tideline.measures.base import SIGN, Entries, Part
from tideline.source import SourceDefinition
from tideline.spark.columns import is_text_key, key_to_slot, named_struct, try_eval, valid_text
from tideline.spark.events import sign_sql
from tideline.types import BIGINT, ColumnType

LOG_VIEW = 0
LOG_EVENT, LOG_DUPLICATE, LOG_DEAD, LOG_REJECT = 0, 1, 2, 3
_ENTRY_TYPES = {"entry": "int", "entry_text": "string", "entry_number": "bigint"}
_LOG_PARTS = (("records", "count", ColumnType("boolean")), ("checksum", "xor", BIGINT), ("latest", "max", BIGINT))


@dataclass(frozen=True)
class Slot:
    """One aggregate column of the fold."""

    function: str
    type: ColumnType
    argument: int = 0

    @property
    def input_type(self) -> str:
        """The SQL type of the row's input."""
        if self.function in ("first", "last"):
            return f"struct<at:bigint,partition:int,offset:bigint,value:{self.type.sql}>"
        return self.type.sql

    def aggregate(self, name: str) -> SparkColumn:
        """The native aggregate over the input column `name`."""
        if self.function == "moments":
            return F.expr(
                f"named_struct('n', count({name}), 'mean', avg({name}), 'm2', var_pop({name}) * count({name}))"
            )
        if self.function == "hll":
            return F.expr(f"hll_sketch_agg({name}, {self.argument})")
        native = {"first": "min", "last": "max", "xor": "bit_xor"}.get(self.function, self.function)
        return F.expr(f"{native}({name})")

    def input(self, value: str) -> str:
        """SQL of the row's input for a value."""
        if self.function in ("first", "last"):
            edge = f"named_struct('at', _at, 'partition', _partition, 'offset', _offset, 'value', {value})"
            return f"if({value} is null, null, {edge})"
        return value


@dataclass(frozen=True)
class PlannedView:
    """Where one view's key, states and entries stand in the folded rows."""

    index: int
    view: ViewDefinition
    key_slots: tuple[str, ...]
    part_slots: Mapping[str, tuple[str, ...]]
    entries: Mapping[str, int]

    def parts(self) -> dict[str, tuple[Part, str]]:
        """Every part of every measure by a unique field name, with its slot."""
        pairs = (
            (part, slot)
            for name, measure in self.view.measures.items()
            for part, slot in zip(measure.parts(), self.part_slots[name], strict=True)
        )
        return {f"p{number}": pair for number, pair in enumerate(pairs)}

    def entry_fields(self) -> dict[str, tuple[int, Entries]]:
        """Every map-like measure by a unique field name, with its entry number."""
        found = {}
        for name, number in self.entries.items():
            entries = self.view.measures[name].entries()
            if entries is not None:
                found[f"e{number}"] = (number, entries)
        return found


class Fold:
    """The compiled fold of one source's views. `views` keeps the order given."""

    def __init__(self, source: SourceDefinition, views: Sequence[ViewDefinition]) -> None:
        self.source = source
        self.views = tuple(views)
        self.slots: list[Slot] = []
        self.texts = max([1, *(sum(is_text_key(c.type) for c in v.key) for v in views)])
        self.numbers = max([1, *(sum(not is_text_key(c.type) for c in v.key) for v in views)])
        self._by_signature: dict[Slot, list[int]] = {}
        self.log_slots = self._allocate([Slot(function, kind) for _, function, kind in _LOG_PARTS])
        self.planned = tuple(self._plan(number, view) for number, view in enumerate(views, 1))
        self.has_entries = any(planned.entries for planned in self.planned)

    def _allocate(self, wanted: Sequence[Slot]) -> tuple[str, ...]:
        used: Counter[Slot] = Counter()
        names = []
        for slot in wanted:
            columns = self._by_signature.setdefault(slot, [])
            if used[slot] == len(columns):
                columns.append(len(self.slots))
                self.slots.append(slot)
            names.append(f"s{columns[used[slot]]}")
            used[slot] += 1
        return tuple(names)

    def _plan(self, index: int, view: ViewDefinition) -> PlannedView:
        texts, numbers = iter(range(len(view.key))), iter(range(len(view.key)))
        keys = tuple(f"kt{next(texts)}" if is_text_key(c.type) else f"kn{next(numbers)}" for c in view.key)
        parts = [(name, part) for name, measure in view.measures.items() for part in measure.parts()]
        slots = self._allocate([Slot(part.function, part.type, part.argument) for _, part in parts])
        by_measure: dict[str, tuple[str, ...]] = dict.fromkeys(view.measures, ())
        for (name, _), slot in zip(parts, slots, strict=True):
            by_measure[name] += (slot,)
        mapped = [name for name, measure in view.measures.items() if measure.entries() is not None]
        return PlannedView(index, view, keys, by_measure, {name: number for number, name in enumerate(mapped, 1)})

    def _expressions(self) -> list[str]:
        """Every expression that the views evaluate, and the event's time."""
        return [self.source.event_time, *(sql for p in self.planned for sql in (*p.view.row_sqls(), *p.view.key_sql))]

    @property
    def record_columns(self) -> list[str]:
        """The record columns that the fold reads beside the event's own."""
        used = names_used(self._expressions(), ["_timestamp", "_key", "_headers"])
        return ["_partition", "_offset", "_hash", *sorted(used)]

    @property
    def event_columns(self) -> list[str]:
        """The event's columns that the fold reads or may read, and its id; the others need not leave the decoder."""
        used = may_be_used(self._expressions(), [column.name for column in self.source.schema])
        used |= {self.source.event_id or "", self.source.operation or ""}
        return [column.name for column in self.source.schema if column.name in used]

    @property
    def group_columns(self) -> list[str]:
        """The columns that identify a folded row; of the log's own rows `kn0` is the partition, `bucket` what became of
        the records, and `kt0` the reason or the views that reject them."""
        keys = [f"kt{i}" for i in range(self.texts)] + [f"kn{i}" for i in range(self.numbers)]
        return ["view", *keys, "bucket", *(_ENTRY_TYPES if self.has_entries else ())]

    def _row(self, values: Mapping[str, str]) -> str:
        """SQL of one expanded row; what is not given is null."""
        types = {
            "view": "int",
            "bucket": "bigint",
            **({**_ENTRY_TYPES, "weight": "bigint"} if self.has_entries else {}),
            **{f"kt{i}": "string" for i in range(self.texts)},
            **{f"kn{i}": "bigint" for i in range(self.numbers)},
            **{f"s{i}": slot.input_type for i, slot in enumerate(self.slots)},
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
            slot: self.slots[int(slot[1:])].input(f"{inputs}.{name}") for name, (_, slot) in planned.parts().items()
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
        results = [slot.aggregate(f"s{i}").alias(f"s{i}") for i, slot in enumerate(self.slots)]
        if self.has_entries:
            results.append(F.sum("weight").alias("weight"))
        return expanded.groupBy(*self.group_columns).agg(*results)
