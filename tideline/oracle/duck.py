"""Computing a view in DuckDB: its row expressions where they translate, its aggregates always."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from tideline.definition import ViewDefinition
from tideline.oracle.aggregates import Aggregate, aggregate_of, category_counts
from tideline.oracle.arithmetic import Untranslatable
from tideline.oracle.choices import cast
from tideline.oracle.corrections import signed_rows
from tideline.oracle.inputs import BOOLEAN, Input, inputs_of
from tideline.oracle.translate import Translator
from tideline.source import SourceDefinition
from tideline.types import TIMESTAMP, ColumnType, bucket_start, to_wire

_PLACE = ("_at", "_partition", "_offset")
RowKey = tuple[tuple[Any, ...], "int | None"]


@dataclass(frozen=True)
class Expected:
    """A view recomputed: for each (key, bucket), in wire values, what each measure's check needs; and the
    rejects.
    """

    rows: Mapping[RowKey, Sequence[Any]]
    rejects: int
    distinct: Mapping[str, int]


def wire_sql(sql: str, kind: ColumnType) -> str:
    """DuckDB SQL of a value in the form that is compared: times as numbers, no -0.0."""
    if kind.name == "timestamp":
        return f"epoch_us({sql})"
    if kind.name == "date":
        return f"({sql} - DATE '1970-01-01')"
    return f"(CAST({sql} AS DOUBLE) + CAST(0 AS DOUBLE))" if kind.is_floating else sql


class Duck:
    """A DuckDB connection with one source's events in a table `events`."""

    def __init__(self, source: SourceDefinition, events: pa.Table) -> None:
        self.source = source
        self.count = len(events)
        self.place = [*_PLACE, "_sign"] if source.operation else [*_PLACE]
        self.db = duckdb.connect()
        self.db.execute("SET TimeZone = 'UTC'")
        self.db.register("events", events)

    def close(self) -> None:
        """Give up its memory."""
        self.db.close()

    def translate(self, view: ViewDefinition) -> tuple[str, tuple[str, ...]]:
        """SQL of the view's inputs for one event, and what must hold of all events. Raises Untranslatable."""
        translator = Translator({column.name: column.type for column in self.source.schema})
        guards: list[str] = []

        def typed(sql: str, kind: ColumnType, convert: bool = False) -> str:
            term = translator.translate(sql)
            term = cast(term, kind) if convert else term
            if term.type != kind:
                raise Untranslatable(f"{sql} is {term.type.sql} here and {kind.sql} in Spark")
            guards.extend(term.guards)
            return term.sql

        def field(item: Input) -> str:
            value = typed(item.sql, item.type, item.cast)
            if item.where:
                plain = typed(item.where, BOOLEAN)
                value = f"CASE WHEN {plain} THEN {value} END"
            return f"'{item.name}': {wire_sql(f'({value})', item.type)}"

        row = "{" + ", ".join([*map(field, inputs_of(view)), "'present': TRUE"]) + "}"
        if view.where:
            row = f"CASE WHEN {typed(view.sql(view.where), BOOLEAN)} THEN {row} END"
        return f"TRY({{'row': {row}}})", tuple(dict.fromkeys(guards))

    def compute_rows(self, view: ViewDefinition) -> None:
        """Fill the table `rows` by translation. Raises Untranslatable."""
        sql, guards = self.translate(view)
        for guard in guards:
            if self._one(f"SELECT count(*) FROM events WHERE NOT coalesce(TRY({guard}), TRUE)"):
                raise Untranslatable(f"not on these data: {guard}")
        try:
            place = ", ".join(self.place)
            self.db.execute(f"CREATE OR REPLACE TEMP TABLE rows AS SELECT {place}, {sql} AS r FROM events")
        except duckdb.BinderException as error:
            raise Untranslatable(str(error)) from None

    def load_rows(self, files: str) -> None:
        """Fill the table `rows` from Parquet files."""
        self.db.execute("CREATE OR REPLACE TEMP TABLE rows AS SELECT * FROM read_parquet($files)", {"files": files})

    def aggregate(self, view: ViewDefinition, floor: int | None) -> Expected:
        """The view from the table `rows`, without the buckets before `floor`."""
        names = [f"k{i}" for i in range(len(view.key))]
        rejects = self._one("SELECT count(*) FROM rows WHERE r IS NULL")
        fields = ", ".join([*self.place, *(f"r.row.{item.name} AS {item.name}" for item in inputs_of(view))])
        bucket = f"_at - (((_at % {view.bucket}) + {view.bucket}) % {view.bucket})" if view.bucket else "NULL"
        self.db.execute(
            f"CREATE OR REPLACE TEMP TABLE grouped AS SELECT {fields}, CAST({bucket} AS BIGINT) AS b "
            "FROM rows WHERE r.row IS NOT NULL"
        )
        if floor is not None and view.bucket:
            self.db.execute(f"DELETE FROM grouped WHERE b < {floor}")
        by = ", ".join([*names, "b"])
        if self.source.operation:
            return Expected(signed_rows(self.db, view, by, self._key), rejects, {})
        parts = [aggregate_of(index, measure) for index, measure in enumerate(view.measures.values())]
        rows = self._scalars(view, by, parts)
        for index, part in enumerate(parts):
            if part.weight is not None:
                for *group, category, count in self.db.execute(category_counts(index, by, part.weight)).fetchall():
                    rows[self._key(view, group)][index][category] = count
        distinct = {
            name: self._one(f"SELECT count(DISTINCT v{index}) FROM grouped")
            for index, (name, part) in enumerate(zip(view.measures, parts, strict=True))
            if part.distinct
        }
        return Expected(rows, rejects, distinct)

    def _scalars(self, view: ViewDefinition, by: str, parts: Sequence[Aggregate]) -> dict[RowKey, list[Any]]:
        inner = ", ".join([by, *(f"{part.inner} AS a{index}" for index, part in enumerate(parts))])
        outer = ", ".join([by, *(part.outer.format(a=f"a{index}") for index, part in enumerate(parts))])
        cursor = self.db.execute(f"SELECT {outer} FROM (SELECT {inner} FROM grouped GROUP BY {by})")
        width = len(view.key) + 1
        rows = {}
        while chunk := cursor.fetchmany(10_000):
            for row in chunk:
                values = [
                    {} if part.weight is not None else value for part, value in zip(parts, row[width:], strict=True)
                ]
                rows[self._key(view, row[:width])] = values
        return rows

    def _key(self, view: ViewDefinition, group: Sequence[Any]) -> RowKey:
        # As it is shown: a bucket that begins before year 1 has no time of its own.
        return row_key(view, group[:-1]), to_wire(TIMESTAMP, bucket_start(group[-1]))

    def _one(self, sql: str) -> int:
        row = self.db.execute(sql).fetchone()
        return int(row[0]) if row else 0


def row_key(view: ViewDefinition, values: Sequence[Any]) -> tuple[Any, ...]:
    """A key's wire values, with one object for every NaN so that equal keys are equal."""
    wires = (to_wire(column.type, value) for column, value in zip(view.key, values, strict=True))
    return tuple("NaN" if isinstance(value, float) and math.isnan(value) else value for value in wires)
