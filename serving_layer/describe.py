"""What a view is, for people and for the page: JSON-able."""

from __future__ import annotations

from typing import Any

from tideline.definition import ViewDefinition
from tideline.durations import to_text
from tideline.ledger import Ledger
from tideline.measures import Measure
from tideline.types import bucket_start, json_value


def describe_view(view: ViewDefinition, ledger: Ledger) -> dict[str, Any]:
    """Key columns with types, bucket, measures with answer types and bounds, answers, source, retention."""
    return {
        "name": view.name,
        "source": view.source,
        "topic": ledger.topic_of(view.fingerprint),
        "fingerprint": view.fingerprint,
        "key": [{"name": column.name, "type": column.type.sql} for column in view.key],
        "bucket": None if view.bucket is None else to_text(view.bucket),
        "keep": None if view.keep is None else to_text(view.keep),
        "floor": json_value(bucket_start(ledger.version.floors.get(view.fingerprint))),
        "where": view.where,
        "columns": dict(view.columns),
        "measures": {name: _describe_measure(measure) for name, measure in view.shown.items()},
        "answers": dict(view.answers),
        "declared_at": view.location,
    }


def _describe_measure(measure: Measure) -> dict[str, Any]:
    kind = measure.answer_type
    return {
        "kind": measure.kind,
        **measure.row_expressions(),
        "type": "structured" if kind is None else kind.sql,
        "bound": dict(measure.bound),
    }
