"""The rows of a statement as JSON carries them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

from serving_layer.result import plain

if TYPE_CHECKING:
    import pyarrow as pa


def shown_rows(table: pa.Table) -> list[list[Any]]:
    """Row by row; decimals are text, times ISO 8601, an interval or a UUID its text."""
    columns = [list(map(_shown, column.to_pylist())) for column in table.columns]
    return list(map(list, zip(*columns, strict=True)))


def _shown(value: Any) -> Any:
    found = plain(value)
    if isinstance(found, (dt.time, dt.timedelta, uuid.UUID)):
        return str(found)
    return [_shown(inner) for inner in found] if isinstance(found, list) else found
