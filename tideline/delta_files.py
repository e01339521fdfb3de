"""Files of a Delta table: adding some, and finding those of a version, without Spark.

Spark's own transaction takes longer than it takes to write or to read a small file, and most of a cold process's first
seconds ([decision 019](../docs/decisions/019-delta-without-sparks-transactions.md)).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tideline import delta_log
from tideline.delta_log import Commit, metadata_text
from tideline.errors import OutsideError

_CHECKPOINT = 100  # commits between two checkpoints


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

    def is_late(self, table: Path) -> bool:
        """Whether its transaction, or a later one, is in the table already. Raises DeltaError."""
        from deltalake import DeltaTable

        if self.transaction is None or not exists(table):
            return False
        last = DeltaTable(str(table)).transaction_version(self.transaction[0])
        return last is not None and last >= self.transaction[1]

    def add(self, table: Path, files: Sequence[Path], metadata: Mapping[str, Any]) -> bool:
        """Commits Parquet files that lie in the table's folder; whether it did. `settle` puts it on disk.

        Raises DeltaError, and OutsideError TWO_WRITERS where another process wrote to the table meanwhile.
        """
        from deltalake import CommitProperties, DeltaTable, Schema, Transaction
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import create_table_with_add_actions

        actions, names = [self._action(table, file) for file in files], list(self.partition)
        said = CommitProperties(
            custom_metadata={"userMetadata": metadata_text(metadata)},
            app_transactions=[Transaction(*self.transaction)] if self.transaction else None,
        )
        if not exists(table):
            schema, properties = Schema.from_json(self.schema), dict(self.properties)
            create_table_with_add_actions(
                str(table),
                schema,
                actions,
                "error",
                names,
                configuration=properties,
                commit_properties=said,
                post_commithook_properties=_no_hooks(),
            )
            return True
        known = DeltaTable(str(table))
        if self.is_late(table):
            return False
        try:
            known.create_write_transaction(
                [*actions],
                "append",
                known.schema(),
                names,
                commit_properties=said,
                post_commithook_properties=_no_hooks(),
            )
        except CommitFailedError as error:
            if self.is_late(table):
                return False
            raise two_writers(table) from error
        return True

    def _action(self, table: Path, file: Path) -> Any:
        from deltalake.transaction import AddAction

        place, stat = file.relative_to(table).as_posix(), file.stat()
        stats = json.dumps(_statistics(file, self.indexed))
        return AddAction(place, stat.st_size, self.partition, int(stat.st_mtime * 1000), True, stats)


def _statistics(file: Path, indexed: Sequence[str]) -> dict[str, Any]:
    from pyarrow.parquet import read_metadata

    found = read_metadata(file)
    bounds: dict[str, list[Any]] = {}
    for group in range(found.num_row_groups):
        for index in range(found.num_columns):
            column = found.row_group(group).column(index)
            if column.path_in_schema in indexed:
                bounds.setdefault(column.path_in_schema, []).append(column.statistics)
    known = {
        name: groups for name, groups in bounds.items() if all(one is not None and one.has_min_max for one in groups)
    }
    least = {name: min(one.min for one in groups) for name, groups in known.items()}
    most = {name: max(one.max for one in groups) for name, groups in known.items()}
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

    def whole(self, wanted: Callable[[Mapping[str, Any]], bool]) -> list[Path]:
        """The files that are `wanted` by what is said of them.

        Raises OSError where one of them is not there, or not as long as it was written.
        """
        found = [(path, said["size_bytes"]) for path, said in self.paths() if wanted(said)]
        for path, written in found:
            if (size := path.stat().st_size) != written:
                raise OSError(errno.EIO, f"it has {size} bytes, {written} were written", str(path))
        return [path for path, _ in found]


def live(table: Path, version: int | None = None) -> Live:
    """The files of a version, by default the newest. Raises DeltaError."""
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    found = DeltaTable(str(table), version=version)
    if (needs := found.protocol().min_reader_version) > 1:
        raise DeltaError(f"somebody gave it features of Delta's reader version {needs}")
    return Live(found.schema().to_json(), pa.table(found.get_add_actions(flatten=True)).to_pylist(), table)


def remove(table: Path, predicate: str) -> None:
    """Takes whole partitions out of the newest version. Raises DeltaError."""
    from deltalake import DeltaTable

    DeltaTable(str(table)).delete(predicate, post_commithook_properties=_no_hooks())
    settle(table)


def two_writers(table: Path) -> OutsideError:
    """What is raised where another process wrote to a table."""
    return OutsideError(
        "TWO_WRITERS", f"{table} was written by another process", "run one batch layer", path=str(table)
    )


def exists(table: Path) -> bool:
    """Whether there is a table: a process that was killed as it made one may have left its folders."""
    from deltalake import DeltaTable

    return DeltaTable.is_deltatable(str(table))


def settle(table: Path) -> Commit:
    """The newest commit, once it is on disk; every hundredth with a checkpoint, and what has expired goes.

    A checkpoint that is not on disk would make the table unreadable after a power cut, so that no commit may write one
    by itself. Raises OutsideError, DeltaError.
    """
    commit = delta_log.newest(table)
    delta_log.sync(table, commit)
    if commit.version and commit.version % _CHECKPOINT == 0:
        checkpoint(table, commit).cleanup_metadata()
    return commit


def checkpoint(table: Path, commit: Commit) -> Any:
    """Writes the checkpoint of the newest commit; the DeltaTable, once it is on disk."""
    from deltalake import DeltaTable

    found = DeltaTable(str(table))
    found.create_checkpoint()
    delta_log.sync(table, commit)
    return found


def _no_hooks() -> Any:
    from deltalake import PostCommitHookProperties

    return PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
