"""Adding files to a Delta table and finding them again, without Spark."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, TableFeatures, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from tideline import delta_files, delta_log
from tideline.delta_files import Writer, live
from tideline.errors import OutsideError

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


@pytest.mark.parametrize("damage", ["emptied", "shortened", "removed"])
def test_a_file_that_is_not_as_long_as_it_was_written_is_named(tmp_path: Path, damage: str) -> None:
    table = tmp_path / "t"
    for name, offset in (("a.parquet", 1), ("b.parquet", 5)):
        Writer(WRITER.schema, indexed=WRITER.indexed).add(table, [write(table, name, 0, [offset])], {})
    file = table / "a.parquet"
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "emptied" else file.read_bytes()[:-1])
    with pytest.raises(OSError, match=r"a\.parquet"):
        live(table).whole(lambda said: True)
    assert live(table).whole(lambda said: said["min._offset"] > 1) == [table / "b.parquet"], "no other is looked at"


def test_what_a_process_left_that_was_killed_as_it_made_the_table_is_no_table(tmp_path: Path) -> None:
    table = tmp_path / "t"
    (table / "_delta_log").mkdir(parents=True)
    (table / "_delta_log" / f"{0:020d}.json#1").write_text("")
    assert not delta_files.exists(table)
    assert not WRITER.is_late(table)
    assert WRITER.add(table, [write(table, "a.parquet", 0, [1])], {"end": 1})
    assert delta_files.exists(table)
    assert WRITER.is_late(table)
    assert rows(table) == [1]


def test_a_hundredth_commit_has_a_checkpoint_and_a_later_one_reads_on_from_it(tmp_path: Path) -> None:
    table = tmp_path / "t"
    writer = replace(WRITER, transaction=None)
    for number in range(103):
        assert writer.add(table, [write(table, f"{number}.parquet", 0, [number])], {"end": number})
        assert delta_files.settle(table).metadata == {"end": number}
    log = table / "_delta_log"
    assert [file.name for file in sorted(log.glob("*.checkpoint.parquet"))] == [f"{100:020d}.checkpoint.parquet"]
    for number in range(100):  # as they go once they have expired
        (log / f"{number:020d}.json").unlink()
    assert rows(table) == list(range(103))


def test_an_append_that_a_rewrite_overtook_is_left_out_or_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake(number: int | None) -> None:
        """As a rewrite does: all files go, the schema is written again, under a transaction of its own."""
        said = [Transaction("tideline", number)] if number else None
        more = pa.table({"_partition": pa.array([0], pa.int64()), "_offset": [9], f"x{number}": [1]})
        properties = CommitProperties(app_transactions=said)
        write_deltalake(str(table), more, mode="overwrite", schema_mode="overwrite", commit_properties=properties)

    table, seen = tmp_path / "t", Writer.is_late
    assert WRITER.add(table, [write(table, "a.parquet", 0, [1])], {"end": 1})
    for number in (2, None):
        known = DeltaTable(str(table)).transaction_version("tideline")
        writer = replace(WRITER, transaction=("tideline", known + 1))
        asked: list[bool] = []

        def late(self: Writer, table: Path, number: int | None = number, asked: list[bool] = asked) -> bool:
            found = seen(self, table)
            if not asked:
                overtake(number)
            asked.append(found)
            return found

        monkeypatch.setattr(Writer, "is_late", late)
        if number:
            assert not writer.add(table, [write(table, "b.parquet", 0, [2])], {"end": 2})
        else:
            with pytest.raises(OutsideError) as caught:
                writer.add(table, [write(table, "c.parquet", 0, [3])], {"end": 3})
            assert caught.value.condition == "TWO_WRITERS"
        assert rows(table) == [9]
        assert len(asked) == 2


def test_a_table_with_features_that_nobody_here_knows_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t"
    assert WRITER.add(table, [write(table, "a.parquet", 0, [1])], {"end": 1})
    DeltaTable(str(table)).alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    with pytest.raises(DeltaError, match="reader version 3"):
        live(table)
