"""Files of a Delta table: adding some, and finding those of a version, without Spark.

Spark's own transaction takes longer than it takes to write or to read a small file, and most of a cold process's first
seconds ([decision 019](../docs/decisions/019-delta-without-sparks-transactions.md)).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tideline.delta_log import metadata_text


@dataclass(frozen=True)
class Writer:
    """How files are added to a table: what is said where it is made, and whose transaction they are.

    `schema` is the table's, as Spark spells it in JSON. Statistics are kept of the `indexed` columns, which are whole
    numbers. Where a transaction of `transaction` (a name and a number) is in the table that has the same number or a
    later one, nothing is added.
    """

    schema: str
    partition: Mapping[str, str] = field(default_factory=dict)
    indexed: Sequence[str] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    transaction: tuple[str, int] | None = None

    def add(self, table: Path, files: Sequence[Path], metadata: Mapping[str, Any]) -> bool:
        """Commits Parquet files that lie in the table's folder; whether it did. Raises DeltaError."""
        from deltalake import CommitProperties, DeltaTable, Schema, Transaction
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import create_table_with_add_actions

        actions, names = [self._action(table, file) for file in files], list(self.partition)
        said = CommitProperties(
            custom_metadata={"userMetadata": metadata_text(metadata)},
            app_transactions=[Transaction(*self.transaction)] if self.transaction else None,
        )
        if not (table / "_delta_log").is_dir():
            schema, properties = Schema.from_json(self.schema), dict(self.properties)
            create_table_with_add_actions(
                str(table), schema, actions, "error", names, configuration=properties, commit_properties=said
            )
            return True
        known = DeltaTable(str(table))
        if self.transaction:
            last = known.transaction_version(self.transaction[0])
            if last is not None and last >= self.transaction[1]:
                return False
        try:
            known.create_write_transaction([*actions], "append", known.schema(), names, commit_properties=said)
        except CommitFailedError as error:
            if self.transaction and "Concurrent transaction" in str(error):
                return False
            raise
        return True

    def _action(self, table: Path, file: Path) -> Any:
        from deltalake.transaction import AddAction

        place, stat = file.relative_to(table).as_posix(), file.stat()
        stats = json.dumps(_statistics(file, self.indexed))
        return AddAction(place, stat.st_size, self.partition, int(stat.st_mtime * 1000), True, stats)


def _statistics(file: Path, indexed: Sequence[str]) -> dict[str, Any]:
    from pyarrow.parquet import read_metadata

    found = read_metadata(file)
    least: dict[str, int] = {}
    most: dict[str, int] = {}
    for group in range(found.num_row_groups):
        for index in range(found.num_columns):
            column = found.row_group(group).column(index)
            name, stats = column.path_in_schema, column.statistics
            if name in indexed and stats is not None and stats.has_min_max:
                least[name] = min(stats.min, least.get(name, stats.min))
                most[name] = max(stats.max, most.get(name, stats.max))
    return {"numRecords": found.num_rows, "minValues": least, "maxValues": most}


@dataclass(frozen=True)
class Live:
    """The files of one version of a table, with what its log says of each: as `partition.x`, `min.x` and `max.x`."""

    schema: str
    files: Sequence[Mapping[str, Any]]
    table: Path

    def paths(self) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """Each file and what is said of it."""
        for file in self.files:
            yield self.table / unquote(file["path"]), file


def live(table: Path, version: int | None = None) -> Live:
    """The files of a version, by default the newest. Raises DeltaError."""
    import pyarrow as pa
    from deltalake import DeltaTable

    found = DeltaTable(str(table), version=version)
    return Live(found.schema().to_json(), pa.table(found.get_add_actions(flatten=True)).to_pylist(), table)


def remove(table: Path, predicate: str) -> None:
    """Takes whole partitions out of the newest version. Raises DeltaError."""
    from deltalake import DeltaTable

    DeltaTable(str(table)).delete(predicate)
