"""An answer: rows and their proof, as Python values, JSON, CSV, Arrow or pandas."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from serving_layer.plan import Plan
from serving_layer.present import Row
from serving_layer.proof import Proof, json_text
from tideline.types import json_value

if TYPE_CHECKING:
    import pandas
    import pyarrow


@dataclass(frozen=True)
class Result:
    """`rows` are dicts of Python values (Decimal, aware datetime, ...), `proof` says what they stand for.

    `freshness` is how many seconds ago the last commit was, where that is known.
    """

    plan: Plan
    rows: list[Row]
    proven: Proof
    freshness: float | None

    @cached_property
    def proof(self) -> dict[str, Any]:
        """What the rows stand for, JSON-able; see `make_proof`."""
        return self.proven.value(self.freshness)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def columns(self) -> list[str]:
        """The rows' columns in order: key columns, `bucket` or `window`, measures and answers."""
        plan = self.plan
        keys = [plan.view.key[index].name for index in plan.group]
        return [*keys, *([plan.time_name] if plan.time_name else []), *plan.shown]

    def to_json(self) -> dict[str, Any]:
        """`{"view", "columns", "rows", "proof"}`; decimals are text, times ISO 8601 with Z."""
        rows = [self._json_row(row) for row in self.rows]
        return {"view": self.plan.view.name, "columns": self.columns, "rows": rows, "proof": self.proof}

    def to_text(self) -> str:
        """The same as JSON text."""
        rows = [self._json_row(row) for row in self.rows]
        view, columns, body = map(json_text, (self.plan.view.name, self.columns, rows))
        return f'{{"view":{view},"columns":{columns},"rows":{body},"proof":{self.proven.text(self.freshness)}}}'

    def _json_row(self, row: Row) -> dict[str, Any]:
        return {
            name: self._json_parts(value) if name == "parts" else self._json_value(name, value)
            for name, value in row.items()
        }

    def _json_parts(self, parts: Mapping[str, Row | None]) -> dict[str, Any]:
        return {side: None if row is None else self._json_row(row) for side, row in parts.items()}

    def _json_value(self, name: str, value: Any) -> Any:
        measure = self.plan.view.measures.get(name)
        return plain(value) if measure is None else measure.answer_json(value)

    def to_csv(self) -> str:
        """A header and a line per row; null is empty, a structured answer its JSON."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            values = (self._json_value(name, row[name]) for name in self.columns)
            writer.writerow([_csv_value(value) for value in values])
        return text.getvalue()

    def to_arrow(self) -> pyarrow.Table:
        """A table typed by the view; the proof stands in the schema's metadata under `tideline.proof`."""
        from serving_layer.arrow import arrow_table

        return arrow_table(self.plan, self.columns, self.rows, self.proof)

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


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
