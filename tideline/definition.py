"""A resolved view: all that a layer or a query needs to know of it, in plain values that the ledger keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tideline.expressions import normalise, substitute
from tideline.measures import Measure, measure_from_json
from tideline.source import DECODER_VERSION, SourceDefinition
from tideline.types import Column, parse_schema, schema_text

ROWS = "_rows"
"""The measure that counts a group's rows where rows may be retracted: a group of none is not answered."""


@dataclass(frozen=True)
class ViewDefinition:
    """A view whose expressions have been checked and typed; `bucket` and `keep` in microseconds.

    `columns` hold expressions over the event's own columns only; `measures`, `where` and the key may use their names.
    """

    name: str
    source: str
    fingerprint: str
    key: tuple[Column, ...]
    bucket: int | None
    keep: int | None
    measures: Mapping[str, Measure]
    answers: Mapping[str, str]
    columns: Mapping[str, str]
    where: str | None
    location: str = ""

    def sql(self, expression: str) -> str:
        """An expression of this view over the event's own columns."""
        return substitute(expression, self.columns)

    @property
    def shown(self) -> dict[str, Measure]:
        """The measures that were declared."""
        return {name: measure for name, measure in self.measures.items() if name != ROWS}

    @property
    def key_sql(self) -> tuple[str, ...]:
        """The key's expressions over the event's own columns."""
        return tuple(self.sql(column.name) for column in self.key)

    def row_sqls(self) -> list[str]:
        """The filter and every measure's expressions, over the event's own columns."""
        texts = [text for measure in self.measures.values() for text in measure.row_expressions().values()]
        return [self.sql(text) for text in ([*texts, self.where] if self.where else texts)]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "source": self.source,
            "fingerprint": self.fingerprint,
            "key": schema_text(self.key),
            "bucket": self.bucket,
            "keep": self.keep,
            "answers": dict(self.answers),
            "columns": dict(self.columns),
            "measures": {name: measure.to_json() for name, measure in self.measures.items()},
            "where": self.where,
            "location": self.location,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ViewDefinition:
        measures = {name: measure_from_json(measure) for name, measure in data["measures"].items()}
        key = parse_schema(data["key"]) if data["key"] else ()
        return cls(**{**data, "measures": measures, "key": key})


def fingerprint(view: ViewDefinition, source: SourceDefinition) -> str:
    """A hash of what the view computes: 16 hexadecimal digits.

    The whole schema counts, for a value that does not fit any column makes its record a dead letter; the decoder's
    version, UTC and ANSI arithmetic count too, and the order of the measures, in which states are stored. Spelling,
    answers and retention do not.
    """
    measures = {}
    for name, measure in view.measures.items():
        texts = {role: normalise(view.sql(text)) for role, text in measure.row_expressions().items()}
        measures[name] = {**measure.to_json(), **texts, "expression": None}
    content = {
        "name": view.name,
        "source": source.fingerprint,
        "key": [normalise(sql) for sql in view.key_sql],
        "key_types": [column.type.sql for column in view.key],
        "key_names": [column.name for column in view.key],
        "bucket": view.bucket,
        "where": normalise(view.sql(view.where)) if view.where else None,
        "measures": list(measures.items()),
        "semantics": ["UTC", "ANSI", DECODER_VERSION],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
