"""The master, written and folded by Arrow where records are read: in the driver or by Spark's tasks, a batch run leaves
what Spark's fold leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases import few_views, make_events, make_source, same_state
from deltalake import DeltaTable
from installed import Installed

from batch_layer.engine import SparkEngine
from tideline import Count, CountBy, Last, Max, Mean, Min, Sum, View, hours
from tideline.cut import Cut
from tideline.spark.kafka_files import kafka_files, mark
from tideline.spark.piece_files import PieceFile, ids_of

DEAD = [b"no JSON", b'{"id":null}', b'{"id":"x","at":7}']


def views(installed: Installed) -> list[View]:
    """Views that are plain, of every way in which groups of several tasks are put together; and one that is not."""
    source = make_source(installed.topic)
    sums = {
        "lines": Count(),
        "units": Sum("quantity"),
        "most": Max("score"),
        "least": Min("at"),
        "mean": Mean("amount"),
    }
    return [
        View("sums", source=source, key=("country", "quantity"), bucket=hours(1), where="quantity > 0", measures=sums),
        View("edges", source=source, key="kind", measures={"last": Last("amount"), "lines": Count()}),
        View("kinds", source=source, key="country", measures={"kinds": CountBy("kind"), "units": Sum("quantity")}),
        View("spelled", source=source, columns={"c": "translate(country, 'a', 'b')"}, key="c", measures={"n": Count()}),
    ]


NAMES = ("sums", "edges", "kinds", "spelled")


def states(installed: Installed) -> list[Any]:
    return [sorted(installed.states(name).items(), key=repr) for name in NAMES]


@pytest.fixture
def never_by_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark folds no view but the one that is not plain."""
    spark_fold = SparkEngine._by_spark

    def refused(self: SparkEngine, source: Any, views: Any, records: Any) -> Any:
        assert [view.name for view in views] == ["spelled"]
        return spark_fold(self, source, views, records)

    monkeypatch.setattr(SparkEngine, "_by_spark", refused)


def stored(files: list[PieceFile]) -> pa.Table:
    """The records of files, in the order of their places."""
    table = pa.concat_tables([pq.read_table(file.path) for file in files])
    return table.sort_by([("_partition", "ascending"), ("_offset", "ascending")])


@pytest.mark.parametrize("event_id", ["id", None])
def test_tasks_write_the_records_that_the_driver_writes(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event_id: str | None
) -> None:
    installed.apply(*few_views(make_source(installed.topic, event_id=event_id)), partitions=3)
    end = installed.send([*make_events(150, 2), *DEAD, None, *make_events(40, 2)])

    def written(folder: Path) -> list[PieceFile]:
        folder.mkdir()
        begin = Cut({installed.topic: dict.fromkeys(range(3), 0)})
        return kafka_files(installed.spark, installed.bootstrap, installed.source, begin, end, folder)

    here = written(tmp_path / "driver")
    monkeypatch.setattr("tideline.spark.kafka_files.FEW", 0)
    monkeypatch.setattr("tideline.spark.kafka._PIECES", 4)
    by_tasks = written(tmp_path / "tasks")
    assert len(by_tasks) > len(here) == 3
    assert stored(here).equals(stored(by_tasks))
    found, expected = list(ids_of(by_tasks)), list(ids_of(here))
    assert bool(found) == (event_id is not None)
    assert all(
        (mine, a.tolist(), b.tolist()) == (theirs, c.tolist(), d.tolist())
        for (mine, a, b), (theirs, c, d) in zip(found, expected, strict=True)
    )


def test_a_file_is_marked_where_it_holds_repeats(installed: Installed, tmp_path: Path) -> None:
    installed.apply_few(partitions=1)
    end = installed.send(make_events(20, 2))
    begin = Cut({installed.topic: {0: 0}})
    [file] = kafka_files(installed.spark, installed.bootstrap, installed.source, begin, end, tmp_path)
    before = file.path.read_bytes()
    mark(installed.source, file, np.array([77]))
    assert file.path.read_bytes() == before
    whole = stored([file])
    mark(installed.source, file, np.array([3, 5, 77]))
    after = stored([file])
    assert [
        offset for offset, flag in zip(*(after[n].to_pylist() for n in ("_offset", "_duplicate")), strict=True) if flag
    ] == [3, 5]
    assert after.drop_columns("_duplicate").equals(whole.drop_columns("_duplicate"))


@pytest.mark.usefixtures("never_by_spark")
def test_a_batch_run_leaves_the_states_that_sparks_fold_leaves(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.apply(*views(installed), partitions=3)
    installed.send([*make_events(200, 4), *DEAD])
    installed.batch()
    installed.send([*make_events(100, 5, 200), *make_events(50, 4), *DEAD])
    installed.batch()
    in_two = states(installed)
    installed.batch(full=True)
    at_once = states(installed)
    monkeypatch.setattr("tideline.spark.master_folds.FEW", 0)
    installed.batch(full=True)
    by_tasks = states(installed)
    monkeypatch.undo()
    monkeypatch.setattr("batch_layer.engine.arrow_fold", lambda source, views: None)
    installed.batch(full=True)
    by_spark = states(installed)
    assert same_state(in_two, by_spark)
    assert same_state(at_once, by_spark)
    assert same_state(by_tasks, by_spark)
    assert all(by_spark)


@pytest.mark.usefixtures("never_by_spark")
def test_small_segments_are_merged_whoever_wrote_them(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.apply(*views(installed))
    for number in range(8):
        installed.send(make_events(20, number, 20 * number))
        installed.batch()
    assert any(segment.mode == "compacted" for segment in installed.ledger.segments.values())
    kept = states(installed)
    monkeypatch.undo()
    monkeypatch.setattr("batch_layer.engine.arrow_fold", lambda source, views: None)
    installed.batch(full=True)
    assert same_state(states(installed), kept)


def test_a_range_with_an_event_that_arrow_cannot_fold_is_folded_by_spark(installed: Installed) -> None:
    source = make_source(installed.topic)
    much = View("much", source=source, columns={"m": "quantity * 1000000000"}, key="country", measures={"m": Sum("m")})
    installed.apply(much)
    few = [{**event, "quantity": 1} for event in make_events(20, 9)]
    installed.send(few)
    installed.batch()
    assert not any(installed.ledger.version.rejects.values())
    installed.send([{**event, "quantity": 2 + number % 2} for number, event in enumerate(make_events(20, 9, 20))])
    installed.batch()
    assert list(installed.ledger.version.rejects.values()) == [10]
    before = sorted(installed.states("much").items(), key=repr)
    installed.batch(full=True)
    assert same_state(before, sorted(installed.states("much").items(), key=repr))
    assert list(installed.ledger.version.rejects.values()) == [10]


def types(schema: pa.Schema) -> dict[str, str]:
    """Whatever Spark knows to be never null."""
    return {field.name: str(field.type).replace(" not null", "") for field in schema}


def test_a_segments_files_are_those_that_spark_would_write(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To any reader of Delta: the same columns and types, whoever folded."""
    installed.apply(*views(installed)[:2])
    installed.send(make_events(50, 3))

    def schemas() -> dict[str, Any]:
        folders = installed.home.batch.iterdir()
        files = {folder.name: max(folder.glob("segment=*/*.parquet"), key=os.path.getmtime) for folder in folders}
        assert all(len(DeltaTable(str(folder)).to_pyarrow_table()) for folder in installed.home.batch.iterdir())
        return {name: pq.read_schema(file).remove_metadata() for name, file in files.items()}

    installed.batch()
    by_arrow = schemas()
    monkeypatch.setattr("batch_layer.engine.arrow_fold", lambda source, views: None)
    installed.batch(full=True)
    for name, schema in schemas().items():
        assert types(schema) == types(by_arrow[name])
