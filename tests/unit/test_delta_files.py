"""Adding files to a Delta table and finding them again, without Spark."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tideline import delta_files, delta_log
from tideline.delta_files import Writer, live

FIELDS = [{"name": name, "type": "long", "nullable": True, "metadata": {}} for name in ("_partition", "_offset")]
WRITER = Writer(
    json.dumps({"type": "struct", "fields": FIELDS}),
    indexed=("_partition", "_offset"),
    properties={"delta.isolationLevel": "Serializable"},
    transaction=("tideline", 1),
)


def write(table: Path, name: str, partition: int, offsets: list[int]) -> Path:
    """A Parquet file of two row groups in a table's folder."""
    table.mkdir(exist_ok=True)
    rows = pa.table({"_partition": pa.array([partition] * len(offsets), pa.int64()), "_offset": offsets})
    pq.write_table(rows, table / name, row_group_size=2)
    return table / name


def rows(table: Path) -> list[Any]:
    return sorted(DeltaTable(str(table)).to_pyarrow_table()["_offset"].to_pylist())


def test_the_log_says_what_each_file_holds_and_each_version_has_its_own(tmp_path: Path) -> None:
    table = tmp_path / "t"
    assert WRITER.add(table, [write(table, "a.parquet", 3, [5, 7, 9])], {"end": 1})
    assert replace(WRITER, transaction=("tideline", 2)).add(table, [write(table, "b.parquet", 0, [2])], {"end": 2})
    found = {path.name: said for path, said in live(table).paths()}
    bounds = ("min._partition", "max._partition", "min._offset", "max._offset", "num_records")
    assert [found["a.parquet"][name] for name in bounds] == [3, 3, 5, 9, 3]
    assert [found["b.parquet"][name] for name in bounds] == [0, 0, 2, 2, 1]
    assert [path.name for path, _ in live(table, 0).paths()] == ["a.parquet"]
    assert delta_log.newest(table).metadata == {"end": 2}
    assert rows(table) == [2, 5, 7, 9]


@pytest.mark.parametrize("number", [0, 1])
def test_what_was_planned_no_later_than_what_is_there_is_left_out(tmp_path: Path, number: int) -> None:
    table = tmp_path / "t"
    late = replace(WRITER, transaction=("tideline", number))
    assert WRITER.add(table, [write(table, "a.parquet", 0, [1])], {"end": 1})
    assert replace(WRITER, transaction=("tideline", 1 + number)).add(table, [], {"end": 2}) is (number == 1)
    assert not late.add(table, [write(table, "b.parquet", 0, [2])], {"end": 3})
    assert rows(table) == [1]


def test_what_another_process_committed_meanwhile_keeps_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "t"
    assert WRITER.add(table, [write(table, "a.parquet", 0, [1])], {"end": 1})
    second = replace(WRITER, transaction=("tideline", 2))
    seen = DeltaTable.transaction_version

    def between(self: DeltaTable, name: str) -> int | None:
        found = seen(self, name)
        monkeypatch.undo()
        assert second.add(table, [write(table, "b.parquet", 0, [2])], {"end": 2})
        return found

    monkeypatch.setattr(DeltaTable, "transaction_version", between)
    assert not second.add(table, [write(table, "c.parquet", 0, [3])], {"end": 3})
    assert (rows(table), delta_log.newest(table).metadata) == ([1, 2], {"end": 2})


def test_a_partition_is_taken_out_whole(tmp_path: Path) -> None:
    table = tmp_path / "t"
    fields = [*FIELDS, {**FIELDS[0], "name": "segment"}]
    for id in (1, 2):
        (table / f"segment={id}").mkdir(parents=True)
        writer = Writer(json.dumps({"type": "struct", "fields": fields}), {"segment": str(id)})
        writer.add(table, [write(table, f"segment={id}/a.parquet", 0, [id])], {"segment": id})
    assert [said["partition.segment"] for _, said in live(table).paths()] == [2, 1]
    delta_files.remove(table, "segment in (1)")
    assert rows(table) == [2]
