"""The oracle's two witnesses: what Kafka and the master hold must be the same, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from tideline.cut import Cut
from tideline.oracle import records as records_module
from tideline.oracle.events import decode_events
from tideline.oracle.records import SCHEMA, Log, LogUnreadableError, differences, repeats
from tideline.produce import produce_raw
from tideline.runtime.topics import log_end_offsets
from tideline.source import Source


def records(rows: list[tuple[Any, ...]]) -> pa.Table:
    """(partition, offset, value[, key]) as raw records."""
    filled = [(p, o, 1_000_000 * o, *(rest[1:] or [None]), rest[0], None) for p, o, *rest in rows]
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in filled], SCHEMA)


SAME = [(0, 0, b"a"), (0, 2, b"b"), (0, 5, None)]


@pytest.mark.parametrize(
    ("master", "kafka", "expected"),
    [
        (SAME, SAME, []),
        ([], [], []),
        (SAME[:2], SAME, ["partition 0: 1 records in Kafka, not in the master, offsets 5"]),
        (SAME, SAME[1:], ["partition 0: 1 records in the master, not in Kafka, offsets 0"]),
        (SAME, [(0, 0, b"a"), (0, 2, b"B"), (0, 5, None)], ["partition 0: 1 records differ in _value, offsets 2"]),
        (SAME, [(0, 0, b"a"), (0, 2, b"b"), (0, 5, b"")], ["partition 0: 1 records differ in _value, offsets 5"]),
        (SAME, [(0, 0, b"a", b"k"), *SAME[1:]], ["partition 0: 1 records differ in _key, offsets 0"]),
        (
            SAME[:2],
            [(0, 2, b"c"), *SAME[2:]],
            [
                "partition 0: 1 records in Kafka, not in the master, offsets 5",
                "partition 0: 1 records in the master, not in Kafka, offsets 0",
                "partition 0: 1 records differ in _value, offsets 2",
            ],
        ),
    ],
)
def test_a_difference_names_partition_and_offsets(master: list[Any], kafka: list[Any], expected: list[str]) -> None:
    assert list(differences(0, records(master), records(kafka))) == expected


def test_what_stands_twice_in_the_master_is_named() -> None:
    assert repeats(0, records(SAME)) == []
    assert repeats(0, records([*SAME[:1], *SAME])) == ["partition 0: 1 records twice in the master, offsets 0"]


@dataclass(frozen=True)
class Read:
    """A log that was read to its end: all of its records, and what was counted."""

    table: pa.Table
    log: Log


def read(topic: str, begin: Cut, end: Cut, archived: Cut, path: Path, bootstrap: str) -> Read:
    log = Log(topic, begin, end, archived, path, bootstrap)
    return Read(pa.concat_tables([SCHEMA.empty_table(), *log]).combine_chunks(), log)


@pytest.fixture(params=[3, records_module.SLICE], ids=["slices", "at once"])
def sliced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "SLICE", request.param)


def write_master(path: Path, table: pa.Table, erased: tuple[int, ...] = ()) -> None:
    """A master dataset as Spark writes it: zoned time stamps, reasons, and columns that the oracle does not read."""
    times = table["_timestamp"].cast(pa.timestamp("us", "UTC"))
    plain = table.set_column(2, "_timestamp", times).append_column("x", pa.nulls(len(table), pa.int32()))
    reasons = pa.array(["erased" if place in erased else None for place in range(len(table))], pa.string())
    deltalake.write_deltalake(str(path), plain.append_column("_reason", reasons))


def delete_before(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    """As Kafka's retention would."""
    from kafka import KafkaAdminClient, TopicPartition

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_records({TopicPartition(topic, partition): offset})
    admin.close()


@pytest.fixture
def logged(kafka: str, topic: str, sliced: None) -> tuple[str, str, Cut, pa.Table]:
    """A topic with 40 records in four partitions: bootstrap, name, end, and the records."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka)
    for number in range(40):
        value = None if number == 7 else b'{"n": %d}' % number
        headers = [("trace", b"x")] if number == 3 else []
        producer.send(topic, value, b"k", headers, partition=number % 4)
    producer.flush()
    producer.close()
    end = Cut(log_end_offsets(kafka, [topic]))
    return kafka, topic, end, read(topic, Cut(), end, Cut(), Path("/nowhere"), kafka).table


@pytest.mark.integration
def test_the_log_is_read_up_to_the_cut(logged: tuple[str, str, Cut, pa.Table]) -> None:
    bootstrap, topic, end, table = logged
    assert len(table) == 40
    cut = Cut({topic: {0: 10, 1: 3, 2: 0}})
    found = read(topic, Cut({topic: {0: 4}}), cut, Cut(), Path("/nowhere"), bootstrap)
    places = list(zip(found.table["_partition"].to_pylist(), found.table["_offset"].to_pylist(), strict=True))
    assert places == [(0, 4), (0, 5), (0, 6), (0, 7), (0, 8), (0, 9), (1, 0), (1, 1), (1, 2)]
    source = Source("s", schema="n int", event_time="_timestamp").resolve()
    events = decode_events(source, Log(topic, Cut(), end, Cut(), Path("/nowhere"), bootstrap))
    assert (events.records, events.events, events.dead, events.duplicates) == (40, 39, 1, 0)
    assert sorted(events.table["n"].to_pylist()) == [n for n in range(40) if n != 7]
    assert events.table["_headers"].null_count == 38


@pytest.mark.integration
def test_what_both_hold_is_compared_and_counted(logged: tuple[str, str, Cut, pa.Table], tmp_path: Path) -> None:
    bootstrap, topic, end, table = logged
    archived = Cut({topic: {0: 10, 1: 4}})
    write_master(tmp_path / "good", table)
    found = read(topic, Cut(), end, archived, tmp_path / "good", bootstrap)
    log = found.log
    assert (len(found.table), log.from_kafka, log.from_master, log.twice, log.faults) == (40, 40, 14, 14, [])
    assert found.table.drop(["_headers"]).equals(table.drop(["_headers"]))
    values = [b"forged" if place == 5 else value for place, value in enumerate(table["_value"].to_pylist())]
    write_master(tmp_path / "forged", table.set_column(4, "_value", pa.array(values, pa.binary())))
    faults = read(topic, Cut(), end, archived, tmp_path / "forged", bootstrap).log.faults
    assert faults == ["partition 0: 1 records differ in _value, offsets 5"]
    write_master(tmp_path / "kept", table, erased=(3,))
    faults = read(topic, Cut(), end, archived, tmp_path / "kept", bootstrap).log.faults
    assert [fault.partition(" differ")[2] for fault in faults] == [" in _value, offsets 3", " in _key, offsets 3"]
    for name in ("_key", "_value"):
        kept = [None if place == 3 else value for place, value in enumerate(table[name].to_pylist())]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(kept, pa.binary()))
    write_master(tmp_path / "erased", table, erased=(3,))
    assert read(topic, Cut(), end, archived, tmp_path / "erased", bootstrap).log.faults == []
    write_master(tmp_path / "short", table.slice(1), erased=(2,))
    faults = read(topic, Cut(), end, archived, tmp_path / "short", bootstrap).log.faults
    assert faults == ["partition 0: 1 records in Kafka, not in the master, offsets 0"]


@pytest.mark.integration
def test_what_kafka_has_deleted_comes_from_the_master(logged: tuple[str, str, Cut, pa.Table], tmp_path: Path) -> None:
    bootstrap, topic, end, table = logged
    delete_before(bootstrap, topic, 0, 6)
    write_master(tmp_path / "master", table)
    found = read(topic, Cut(), end, end, tmp_path / "master", bootstrap)
    assert (len(found.table), found.log.from_kafka, found.log.twice, found.log.faults) == (40, 34, 34, [])
    with pytest.raises(LogUnreadableError) as lost:
        read(topic, Cut(), end, Cut({topic: {0: 5}}), tmp_path / "master", bootstrap)
    assert lost.value.condition == "LOG_LOST"
    assert lost.value.params == {"topic": topic, "partition": 0, "start": 6, "archived": 5}
    with pytest.raises(LogUnreadableError) as missing:
        read(topic, Cut(), end, end, tmp_path / "nothing", bootstrap)
    assert missing.value.condition == "MASTER_UNREADABLE"


def twelve(bootstrap: str, topic: str, master: Path) -> tuple[int, Cut]:
    """A partition with 12 records, which a master holds too, and their end."""
    produce_raw([b"%d" % number for number in range(12)], topic, bootstrap)
    (partition,) = (p for p, offset in log_end_offsets(bootstrap, [topic])[topic].items() if offset)
    end = Cut({topic: {partition: 12}})
    write_master(master, read(topic, Cut(), end, Cut(), Path("/nowhere"), bootstrap).table)
    return partition, end


@pytest.mark.integration
def test_what_kafka_deletes_while_the_log_is_read_comes_from_the_master_or_is_an_error(
    kafka: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition, end = twelve(kafka, topic, tmp_path / "master")
    monkeypatch.setattr(records_module, "SLICE", 4)
    for archived, deleted in ((end, 7), (Cut({topic: {partition: 9}}), 10)):
        log = Log(topic, Cut(), end, archived, tmp_path / "master", kafka)
        tables = iter(log)
        first = next(tables)
        delete_before(kafka, topic, partition, deleted)
        if archived == end:
            whole = pa.concat_tables([first, *tables])
            assert whole["_value"].to_pylist() == [b"%d" % number for number in range(12)]
            assert log.faults == []
        else:
            with pytest.raises(LogUnreadableError, match="begins at offset 10, the master ends at 9"):
                list(tables)


@pytest.mark.integration
def test_a_range_is_read_again_where_kafka_deleted_it_since_it_was_asked_where_it_begins(
    kafka: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition, end = twelve(kafka, topic, tmp_path / "master")
    delete_before(kafka, topic, partition, 5)
    asked = iter([0, 0])  # before anything is read, and before the first slice
    monkeypatch.setattr(
        records_module._Kafka,
        "start",
        lambda kafka, partition, real=records_module._Kafka.start: next(asked, None) or real(kafka, partition),
    )
    found = read(topic, Cut(), end, end, tmp_path / "master", kafka)
    assert found.table["_value"].to_pylist() == [b"%d" % number for number in range(12)]
    assert (found.log.from_kafka, found.log.faults) == (7, [])


def test_without_a_kafka_only_what_is_archived_can_be_read(tmp_path: Path) -> None:
    write_master(tmp_path / "master", records(SAME))
    end = Cut({"t": {0: 6}})
    assert len(pa.concat_tables(Log("t", Cut(), end, end, tmp_path / "master", None))) == 3
    with pytest.raises(LogUnreadableError) as caught:
        list(Log("t", Cut(), end, Cut({"t": {0: 3}}), tmp_path / "master", None))
    assert (caught.value.condition, caught.value.params["begin"], caught.value.params["end"]) == ("NO_KAFKA", 3, 6)


@pytest.mark.integration
def test_offsets_without_a_record_are_passed_over(kafka: str, topic: str, sliced: None) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    try:
        producer.init_transactions()
        for number in range(6):
            producer.begin_transaction()
            for value in (b"a%d" % number, b"b%d" % number):
                producer.send(topic, value, partition=1)
            producer.flush()
            if number % 3 == 1:
                producer.commit_transaction()
            else:
                producer.abort_transaction()
        producer.begin_transaction()  # after this every earlier mark is in the log
        producer.send(topic, b"last", partition=1).get(10)
        producer.commit_transaction()
    finally:
        producer.close(timeout=5)
    end = Cut({topic: {1: 19}})
    found = read(topic, Cut(), end, Cut(), Path("/nowhere"), kafka).table
    assert found["_offset"].to_pylist() == [3, 4, 12, 13, 18]
    assert found["_value"].to_pylist() == [b"a1", b"b1", b"a4", b"b4", b"last"]
