"""The fold of views whose expressions are plain, by Arrow, where the events are: no job of Spark's, no row of its own.

It gives what Spark's fold gives, slot by slot, for the same plan (`tests/integration/test_arrow_fold.py`), for sources
without an operation. A batch of events that is not as plain as its views, with a NaN or an overflow, raises NotPlain,
and is folded by Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasketches import hll_sketch, tgt_hll_type

from tideline.arrow_expressions import Compiler
from tideline.arrow_terms import BOOLEAN, Columns, Datum, NotPlain, Term, plainly, without_nan
from tideline.collect import Tables
from tideline.definition import ViewDefinition
from tideline.fold_plan import LOG_DEAD, LOG_DUPLICATE, LOG_EVENT, LOG_VIEW, FoldPlan, PlannedView, is_text_key
from tideline.source import SourceDefinition
from tideline.types import BIGINT, STRING, Column, ColumnType


def arrow_fold(source: SourceDefinition, views: Sequence[ViewDefinition]) -> ArrowFold | None:
    """The fold of these views; None where it is left to Spark."""
    try:
        return ArrowFold(FoldPlan(source, views))
    except NotPlain:
        return None


def plain_views(source: SourceDefinition, views: Sequence[ViewDefinition]) -> list[ViewDefinition]:
    """The views that can be folded here: none of a source that cannot."""
    return [view for view in views if arrow_fold(source, [view]) is not None]


class Events:
    """A batch of decoded events as columns, and what was computed of them, so that it is computed once."""

    def __init__(self, columns: Columns, rows: int, at: Term) -> None:
        self.columns, self.rows = columns, rows
        self.at = self.array(at)
        self._computed: dict[int, pa.Array] = {}

    def array(self, term: Term) -> pa.Array:
        """A term's values, a constant's repeated."""
        found = term.evaluate(self.columns)
        return pa.repeat(found, self.rows) if isinstance(found, pa.Scalar) else found

    def of(self, term: Term) -> pa.Array:
        """The same, kept."""
        if id(term) not in self._computed:
            self._computed[id(term)] = self.array(term)
        return self._computed[id(term)]

    def bucket(self, width: int) -> pa.Array:
        """The start of each event's bucket, in microseconds."""
        at = self.at.to_numpy()
        return pa.array(at - np.mod(at, width))

    @cached_property
    def order(self) -> pa.Array:
        """The places of the events in the order of time, partition and offset."""
        keys = (self.columns["_offset"].to_numpy(), self.columns["_partition"].to_numpy(), self.at.to_numpy())
        return pa.array(np.lexsort(keys))

    @cached_property
    def rank(self) -> pa.Array:
        """Each event's place in that order."""
        ranks = np.empty(self.rows, np.int64)
        ranks[self.order.to_numpy()] = np.arange(self.rows)
        return pa.array(ranks)


class ArrowFold:
    """The compiled fold of a plan. Raises NotPlain where one of its expressions or measures is not."""

    def __init__(self, plan: FoldPlan) -> None:
        self.plan = plan
        source = plan.source
        if source.operation:
            raise NotPlain("events that may be retractions")
        self._columns = ["_partition", "_offset", *(column.name for column in plan.used_columns)]
        compiler = Compiler(source.schema)
        self._at = compiler.compile(f"unix_micros({source.event_time})", BIGINT)
        self._views = [_ViewFold(planned, compiler) for planned in plan.planned]

    def fold(self, events: pa.Table) -> dict[int, pa.Table]:
        """The tables that `collect` takes. Raises NotPlain.

        `events` has the event columns, `_partition`, `_offset`, `_hash`, `_reason` and `_duplicate`.
        """
        with plainly():
            whole = events.combine_chunks()
            alive, repeated = _one_array(whole["_reason"]).is_null(), _one_array(whole["_duplicate"])
            counted = pc.and_(alive, pc.invert(repeated))
            columns = {name: _one_array(whole[name]) for name in self._columns}
            if not pc.all(counted).as_py():
                columns = {name: values.filter(counted) for name, values in columns.items()}
            batch = Events(columns, len(columns["_offset"]), self._at)
            if batch.at.null_count:
                raise NotPlain("an event without a time")
            tables = {view.planned.index: table for view in self._views if len(table := view.fold(batch))}
            return {LOG_VIEW: self._log(whole, batch), **tables}

    def _log(self, events: pa.Table, counted: Events) -> pa.Table:
        """What became of the records, by partition."""
        kinds = {"kn0": pa.int64(), "bucket": pa.int64(), "kt0": pa.string()}
        kinds |= dict.fromkeys(self.plan.log_slots, pa.int64())
        rows: list[tuple[Any, ...]] = []
        partitions, hashes = events["_partition"].to_numpy(), events["_hash"].to_numpy()

        def add(partition: int, status: int, reason: str | None, chosen: Any, latest: int | None = None) -> None:
            checksum = int(np.bitwise_xor.reduce(hashes[chosen]))
            rows.append((partition, status, reason, int(chosen.sum()), checksum, latest))

        dead = events["_reason"].is_valid().to_numpy()
        repeated = events["_duplicate"].to_numpy() & ~dead
        times, of_times = counted.at.to_numpy(), counted.columns["_partition"].to_numpy()
        reasons = np.array(events["_reason"].filter(pa.array(dead)).to_pylist(), dtype=object)
        for partition in np.unique(partitions).tolist():
            here = partitions == partition
            if (chosen := here & ~dead & ~repeated).any():
                add(partition, LOG_EVENT, None, chosen, int(times[of_times == partition].max()))
            if (chosen := here & repeated).any():
                add(partition, LOG_DUPLICATE, None, chosen)
            for reason in sorted({*reasons[here[dead]].tolist()}):
                chosen = here & dead
                chosen[chosen] = reasons[here[dead]] == reason
                add(partition, LOG_DEAD, reason, chosen)
        columns = zip(*rows, strict=True) if rows else ((),) * len(kinds)
        return pa.table([pa.array(c, kind) for c, kind in zip(columns, kinds.values(), strict=True)], names=list(kinds))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


class _ViewFold:
    """One view's part."""

    def __init__(self, planned: PlannedView, compiler: Compiler) -> None:
        self.planned = planned
        view = planned.view
        self._where = compiler.compile(view.sql(view.where), BOOLEAN) if view.where else None
        self._keys = {
            slot: compiler.compile(*_key_input(column, sql))
            for column, sql, slot in zip(view.key, view.key_sql, planned.key_slots, strict=True)
        }
        self._inputs = {
            slot: (part, compiler.compile(_text(part.type, view.sql(part.sql)), part.type))
            for part, slot in planned.parts().values()
        }
        self._entries = [
            (
                number,
                "entry_number" if entries.type == BIGINT else "entry_text",
                compiler.compile(_text(entries.type, view.sql(entries.sql)), entries.type),
                compiler.compile(view.sql(entries.weight), BIGINT),
            )
            for number, entries in planned.entry_fields().values()
        ]

    def fold(self, events: Events) -> pa.Table:
        """A row for each group, and for each category of one; columns as Spark's fold names them."""
        chosen = pc.fill_null(events.of(self._where), False) if self._where else None

        def rows(columns: Mapping[str, pa.Array]) -> pa.Table:
            table = pa.table(dict(columns))
            return table if chosen is None else table.filter(chosen)

        groups: dict[str, pa.Array] = {slot: events.of(term) for slot, term in self._keys.items()}
        width = self.planned.view.bucket
        groups["bucket"] = events.bucket(width) if width else pa.nulls(events.rows, pa.int64())
        folded = self._scalars(events, groups, rows)
        if not self._entries:
            return folded
        pieces = [folded.append_column("entry", pa.repeat(pa.scalar(0, pa.int32()), len(folded)))]
        for number, name, category, weight in self._entries:
            values = events.of(category)
            table = rows({**groups, name: values, "weight": events.of(weight)})
            table = table.filter(pc.is_valid(table[name]))
            counts = grouped(table, [*groups, name], [("weight", "sum", None, "weight")])
            pieces.append(counts.append_column("entry", pa.repeat(pa.scalar(number, pa.int32()), len(counts))))
        whole = pa.concat_tables(pieces, promote_options="default")
        missing = {"entry_text": pa.string(), "entry_number": pa.int64(), "weight": pa.int64()}
        for name, kind in missing.items():
            if name not in whole.column_names:
                whole = whole.append_column(name, pa.nulls(len(whole), kind))
        return whole

    def _scalars(
        self, events: Events, groups: Mapping[str, pa.Array], rows: Callable[[Mapping[str, pa.Array]], pa.Table]
    ) -> pa.Table:
        """A row for each group with the results of its slots."""
        columns: dict[str, pa.Array] = dict(groups)
        wanted: list[tuple[str, str, Any, str]] = []
        edges: dict[str, pa.Array] = {}
        for slot, (part, term) in self._inputs.items():
            values, function = events.of(term), part.function
            if function in ("first", "last"):
                edges[slot] = values
                columns[slot] = pc.if_else(values.is_valid(), events.rank, pa.scalar(None, pa.int64()))
                wanted.append((slot, "min" if function == "first" else "max", None, slot))
                continue
            columns[slot] = without_nan(values) if function in ("min", "max") else values
            if function == "moments":
                options = pc.VarianceOptions(ddof=0)
                wanted += [(slot, "count", None, f"{slot}n"), (slot, "mean", None, f"{slot}mean")]
                wanted.append((slot, "variance", options, f"{slot}m2"))
            elif function == "hll":
                wanted.append((slot, "distinct", None, slot))
            else:
                wanted.append((slot, function, None, slot))
        table = grouped(rows(columns), list(groups), wanted)
        if not len(table):
            return table
        for slot, values in edges.items():
            table = table.set_column(table.column_names.index(slot), slot, _edges(events, values, table[slot]))
        for slot, (part, _) in self._inputs.items():
            if part.function == "hll":
                sketches = pa.array([_sketch(part.argument, values) for values in table[slot].to_pylist()], pa.binary())
                table = table.set_column(table.column_names.index(slot), slot, sketches)
            if part.function == "moments":
                count, mean, variance = (table[f"{slot}{name}"].combine_chunks() for name in ("n", "mean", "m2"))
                squares = pc.multiply(variance, count.cast(pa.float64()))
                moments = pa.StructArray.from_arrays([count, mean, squares], ["n", "mean", "m2"])
                table = table.append_column(slot, moments)
        return table


COMBINED = {"count": "sum", "sum": "sum", "min": "min", "max": "max"}
"""How results of an aggregate over parts of a range are put together, for those that Arrow can."""


def combined(plan: FoldPlan, results: Sequence[Tables]) -> list[Tables]:
    """The results of parts of a range, in which a group of most views comes once: what is left is merged in Python."""
    whole: dict[int, pa.Table] = {}
    rest: list[Tables] = [{LOG_VIEW: result[LOG_VIEW]} for result in results if LOG_VIEW in result]
    for planned in plan.planned:
        tables = [result[planned.index] for result in results if planned.index in result]
        slots = [slot for _, slot in planned.parts().values()]
        functions = [COMBINED.get(plan.slots[int(slot[1:])].function) for slot in slots]
        if len(tables) < 2 or planned.entries or None in functions:
            rest += [{planned.index: table} for table in tables]
            continue
        wanted = [(slot, function or "", None, slot) for slot, function in zip(slots, functions, strict=True)]
        whole[planned.index] = grouped(pa.concat_tables(tables), [*planned.key_slots, "bucket"], wanted)
    return [whole, *rest]


def _key_input(column: Column, sql: str) -> tuple[str, ColumnType]:
    """SQL of a key's value by which it is grouped, and its type: as `key_to_slot`, where it is plain."""
    kind = column.type
    if kind.name in ("timestamp", "date"):
        unit = "unix_micros" if kind.name == "timestamp" else "unix_date"
        return f"cast({unit}({sql}) as bigint)", BIGINT
    if kind == STRING:
        return f"validate_utf8({sql})", STRING
    if is_text_key(kind):
        raise NotPlain(f"a key that is {kind}")
    return f"cast({sql} as bigint)", BIGINT


def _text(kind: ColumnType, sql: str) -> str:
    return f"validate_utf8({sql})" if kind == STRING else f"({sql})"


def grouped(table: pa.Table, keys: list[str], wanted: Sequence[tuple[str, str, Any, str]]) -> pa.Table:
    """A table's groups: `wanted` are a column, a function, its options and the result's name."""
    if not len(table):
        return table.select(keys)
    found = table.group_by(keys, use_threads=False).aggregate([one[:3] for one in wanted])
    columns = {name: found[name] for name in keys}
    return pa.table({**columns, **{name: found[f"{column}_{function}"] for column, function, _, name in wanted}})


def _sketch(lg_k: int, values: Sequence[str | None]) -> bytes | None:
    """The HLL sketch of distinct values, null for none."""
    sketch = hll_sketch(lg_k, tgt_hll_type.HLL_8)
    for value in values:
        if value is not None:
            sketch.update(value)
    return None if sketch.is_empty() else bytes(sketch.serialize_compact())


def _edges(events: Events, values: pa.Array, ranks: pa.ChunkedArray) -> pa.Array:
    """The time, place and value of the events of these ranks; null where there is none."""
    found = ranks.combine_chunks()
    at = events.order.take(found)
    fields: dict[str, Datum] = {"at": events.at, "partition": events.columns["_partition"]}
    fields |= {"offset": events.columns["_offset"], "value": values}
    return pa.StructArray.from_arrays([one.take(at) for one in fields.values()], list(fields), mask=found.is_null())
