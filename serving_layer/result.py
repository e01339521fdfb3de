"""An answer: rows and their proof, as Python values, JSON, CSV, Arrow or pandas."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from serving_layer.paging import Place, cursor_text
from serving_layer.plan import Plan
from serving_layer.present import Columns, Presenter, Row
from serving_layer.proof import Proof, json_text
from tideline.types import bucket_start, json_value, time_texts

if TYPE_CHECKING:
    import pandas
    import pyarrow

_PLAIN = frozenset({int, str, bool, type(None)})
"""Types that JSON has."""


@dataclass(frozen=True)
class Result:
    """`values` are the columns that `presenter` made, `proven` says what they stand for.

    `freshness` is how many seconds ago the last commit was, where that is known; `end` is the place of the last row
    where a limit cut the answer short.
    """

    presenter: Presenter
    values: Columns
    proven: Proof
    freshness: float | None
    end: Place | None = None

    @property
    def plan(self) -> Plan:
        """What was read, and how."""
        return self.presenter.plan

    @property
    def columns(self) -> list[str]:
        """The rows' columns in order: key columns, `bucket` or `window`, measures and answers."""
        return list(self.presenter.names)

    @property
    def next(self) -> str | None:
        """The cursor that the same query goes on from; None where no row is left."""
        return None if self.end is None else cursor_text(self.plan, self.end)

    @cached_property
    def proof(self) -> dict[str, Any]:
        """What the rows stand for, JSON-able; see `make_proof`."""
        return self.proven.value(self.freshness)

    @cached_property
    def rows(self) -> list[Row]:
        """Each row as a dict of Python values (Decimal, aware datetime, ...)."""
        return self._rows(self._python_values(name) for name in self.values)

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def to_json(self) -> dict[str, Any]:
        """`{"view", "columns", "rows", "next", "proof"}`; decimals are text, times ISO 8601."""
        rows = self._rows(self._json_values(name) for name in self.values)
        name = self.plan.view.name
        return {"view": name, "columns": self.columns, "rows": rows, "next": self.next, "proof": self.proof}

    def to_text(self) -> str:
        """The same as JSON text."""
        head, row = self.presenter.head, self.presenter.template
        body = ",".join([row % values for values in zip(*map(self._texts, self.values), strict=True)])
        end = "null" if self.end is None else f'"{self.next}"'
        return f'{head}{body}],"next":{end},"proof":{self.proven.text(self.freshness)}}}'

    def texts(self) -> tuple[list[str], list[str]]:
        """The JSON texts of the rows' identities and of the rows."""
        columns = {name: self._texts(name) for name in self.values}
        rows = [self.presenter.template % values for values in zip(*columns.values(), strict=True)]
        head = f"{{{','.join(json_text(name).replace('%', '%%') + ':%s' for name in self.presenter.identity)}}}"
        if not self.presenter.identity:
            return ["{}"] * len(rows), rows
        return [
            head % values for values in zip(*(columns[name] for name in self.presenter.identity), strict=True)
        ], rows

    def _rows(self, columns: Iterator[Sequence[Any]]) -> list[Row]:
        names = list(self.values)
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _python_values(self, name: str) -> Sequence[Any]:
        values = self.values[name]
        if name != self.plan.time_name:
            return values
        zone = self.plan.zone
        return list(map(bucket_start, values)) if zone is None else [v if v is None else zone.at(v) for v in values]

    def _json_values(self, name: str) -> Sequence[Any]:
        values = self.values[name]
        if name == self.plan.time_name:
            return time_texts(values) if self.plan.zone is None else list(map(local_text, self._python_values(name)))
        if name == "parts":
            return [{side: row and self._json_row(row) for side, row in parts.items()} for parts in values]
        if set(map(type, values)) <= _PLAIN:
            return values
        return [self._json_value(name, value) for value in values]

    def _texts(self, name: str) -> Sequence[Any]:
        """The JSON texts of a column, or what has them as its own."""
        values = self._json_values(name)
        if name == self.plan.time_name:
            return ["null" if value is None else f'"{value}"' for value in values]
        kinds = set(map(type, values))
        if kinds == {int}:
            return values
        if kinds == {str}:
            known = {value: json_text(value) for value in set(values)}
            return list(map(known.__getitem__, values))
        return [json_text(value) for value in values]

    def _json_row(self, row: Row) -> dict[str, Any]:
        return {name: self._json_value(name, value) for name, value in row.items()}

    def _json_value(self, name: str, value: Any) -> Any:
        measure = self.plan.view.measures.get(name)
        return plain(value) if measure is None else measure.answer_json(value)

    def to_csv(self) -> str:
        """A header and a line per row; null is empty, a structured answer its JSON."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for values in zip(*map(self._json_values, self.columns), strict=True):
            writer.writerow([_csv_value(value) for value in values])
        return text.getvalue()

    def to_arrow(self) -> pyarrow.Table:
        """A table typed by the view; the proof stands in the schema's metadata under `tideline.proof`."""
        from serving_layer.arrow import arrow_table

        columns = {name: self._python_values(name) for name in self.columns if name in self.values}
        return arrow_table(self.plan, columns, self.proof)

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame; decimals and whole numbers beside nulls stay exact, as objects."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas(integer_object_nulls=True)
        frame.attrs["proof"] = self.proof
        return frame


def plain(value: Any) -> Any:
    """A key, a time or an answer, which may be structured, as JSON carries it."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return json_value(value)


def local_text(moment: dt.datetime | None) -> str | None:
    """A time in ISO 8601 with its offset."""
    return None if moment is None else moment.isoformat()


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
