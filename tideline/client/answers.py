"""Answers that came over a network, as Python values, Arrow, pandas or Polars."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Row = dict[str, Any]
_PROOF = b"tideline.proof"


class _Table(ABC):
    """What has an Arrow table."""

    @abstractmethod
    def to_arrow(self) -> pyarrow.Table:
        """The rows as an Arrow table, typed as the server has them."""

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a data frame; decimals and whole numbers beside nulls stay exact, as objects."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas(integer_object_nulls=True)
        return frame

    def to_polars(self) -> polars.DataFrame:
        """The rows as a data frame of Polars, which has to be installed."""
        import polars

        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

    @cached_property
    def rows(self) -> list[Row]:
        """Each row as a dict of Python values (Decimal, aware datetime, ...)."""
        table = self.to_arrow()
        columns = [list(map(_value(column.type), column.to_pylist())) for column in table.columns]
        return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]

    def __len__(self) -> int:
        return len(self.to_arrow())

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


class RemoteResult(_Table):
    """An answer to a query, as `serving_layer.result.Result` is one: `rows`, `proof`, `columns`, `next`."""

    def __init__(self, table: pyarrow.Table | None, columns: list[str], proof: dict[str, Any], next: str | None):
        self._table = table
        self.columns = columns
        """The rows' columns in order: key columns, `bucket` or `window`, measures and answers."""
        self.proof = proof
        self.next = next

    @classmethod
    def from_arrow(cls, stream: bytes, proof: dict[str, Any], next: str | None) -> RemoteResult:
        """The answer of an Arrow stream."""
        table = _read(stream)
        return cls(table, list(table.column_names), proof, next)

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> RemoteResult:
        """The answer of a JSON object: its rows have the values of JSON, and the parts if they were asked for."""
        found = cls(None, list(answer["columns"]), dict(answer["proof"]), answer["next"])
        found.rows = list(answer["rows"])
        return found

    def to_arrow(self) -> pyarrow.Table:
        """The rows as an Arrow table; of an answer that came as JSON, structured values are JSON texts."""
        if self._table is None:
            import pyarrow as pa

            self._table = pa.table({name: [_flat(row[name]) for row in self.rows] for name in self.columns})
        return self._table

    def __len__(self) -> int:
        return len(self.rows) if self._table is None else len(self._table)


class SqlResult(_Table):
    """The rows of a statement; `proofs` are those of the views that it names."""

    def __init__(self, stream: bytes, proofs: dict[str, Any]) -> None:
        self._table = _read(stream)
        self.proofs = proofs

    def to_arrow(self) -> pyarrow.Table:
        return self._table


@dataclass(frozen=True)
class Change:
    """What changed of an answer: `rows` as they are now, the identities of those that are gone, and its cut.

    The first of a stream is a `snapshot` with all rows. `id` is where a stream can go on.
    """

    kind: str
    id: str
    rows: list[Row]
    removed: list[Row]
    cut: Mapping[str, Mapping[str, int]]
    version: int


def _flat(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _read(stream: bytes) -> pyarrow.Table:
    import pyarrow as pa

    table = pa.ipc.open_stream(stream).read_all()
    kept = {name: text for name, text in (table.schema.metadata or {}).items() if name != _PROOF}
    return table.replace_schema_metadata(kept or None)


def _value(kind: Any) -> Any:
    """What makes the value that a local answer has of Arrow's."""
    import pyarrow as pa

    if pa.types.is_map(kind):
        return lambda value: None if value is None else dict(value)
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return lambda value: None if value is None else [list(item.values()) for item in value]
    return lambda value: value
