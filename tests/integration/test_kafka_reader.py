"""The log as both layers read it: every record of a range, once, however it is asked for."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from installed import wait_for
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from tideline.cut import Cut
from tideline.kafka_reader import UNREADABLE, KafkaReader
from tideline.runtime.ports import free_port
from tideline.runtime.topics import KafkaFault, create_topic, log_end_offsets, log_start_offsets
from tideline.spark.faults import table_faults
from tideline.spark.kafka import LogRange, kafka_records
from tideline.spark.ranges import MASTER_COLUMNS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PARTITIONS = 3
SPARK_SQL = ("partition", "offset", "timestamp", "xxhash64(offset, value)", "key", "headers", "value")
_OWN_TIMES = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
Rows = list[tuple[Any, ...]]


@pytest.fixture
def topic(kafka: str, topic_name: str) -> str:
    create_topic(kafka, topic_name, PARTITIONS, _OWN_TIMES)
    return topic_name


def send(kafka: str, topic: str, count: int, compression: str = "none") -> None:
    """Records of many kinds."""
    producer = Producer({"bootstrap.servers": kafka, "compression.type": compression})
    dice = random.Random(count)
    for number in range(count):
        value = [b'{"id":%d}' % number, b"", None, bytes(range(256)), b"x" * dice.randrange(3000)][dice.randrange(5)]
        headers = [[], [("trace", b"\x00\xff"), ("trace", b"")], [("größe", None)]][dice.randrange(3)]
        key, at = [None, b"", b"k%d" % number][dice.randrange(3)], 1 + dice.randrange(1_700_000_000_000)
        producer.produce(topic, value, key, dice.randrange(PARTITIONS), timestamp=at, headers=headers)
    assert producer.flush(30) == 0


def transaction(kafka: str, topic: str, name: str, commit: bool) -> None:
    before = ends(kafka, topic)
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=f"{topic}-{name}")
    producer.init_transactions()
    producer.begin_transaction()
    for partition in range(PARTITIONS):
        producer.send(topic, b"in a transaction", partition=partition)
    producer.flush(30)
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()
    producer.close(timeout=5)
    wait_for(lambda: all(end > before[p] + 1 for p, end in ends(kafka, topic).items()), "the marker is written")


class RawName(str):
    """A header's name of any bytes, which a client in another language may send."""

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


def test_a_record_whose_header_has_no_name_is_read_with_those_around_it(kafka: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka)
    for headers in ([("a", b"1")], [(RawName("x"), b"2"), ("ok", b"3")], None):
        producer.send(topic, b"{}", headers=headers, partition=0)
    producer.close(timeout=5)
    with KafkaReader(kafka, topic, {0: 0}) as reader:
        table = pa.Table.from_batches(list(reader.read({0: 3}, ["_offset", "_headers", "_value"])))
    assert table["_offset"].to_pylist() == [0, 1, 2]
    assert [[tuple(header.values()) for header in found] for found in table["_headers"].to_pylist()] == [
        [("a", b"1")],
        [UNREADABLE],
        [],
    ]


def test_large_records_come_in_batches_that_are_bounded(kafka: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka, max_request_size=16 << 20, compression_type="gzip")
    for number in range(12):
        producer.send(topic, bytes([number]) * (15 << 20), partition=number % 2)
        producer.flush(60)
    producer.close(timeout=5)
    with KafkaReader(kafka, topic, {0: 0, 1: 0}) as reader:
        batches = [*reader.read({0: 6, 1: 0}, ["_value"]), *reader.read({0: 6, 1: 6}, ["_value"])]
    assert max(batch.nbytes for batch in batches) < 100 << 20
    assert [value.as_py()[0] for batch in batches for value in batch["_value"]] == [
        0,
        2,
        4,
        6,
        8,
        10,
        1,
        3,
        5,
        7,
        9,
        11,
    ]
    assert len(batches) >= 4


def ends(kafka: str, topic: str) -> dict[int, int]:
    return log_end_offsets(kafka, [topic])[topic]


def rows_of(table: pa.Table) -> Rows:
    return sorted(tuple(row.values()) for row in table.to_pylist())


def read(reader: KafkaReader, end: dict[int, int], **options: Any) -> Rows:
    batches = list(reader.read(end, MASTER_COLUMNS, **options))
    return rows_of(pa.Table.from_batches(batches)) if batches else []


def all_of(kafka: str, topic: str) -> Rows:
    with KafkaReader(kafka, topic, dict.fromkeys(range(PARTITIONS), 0)) as reader:
        return read(reader, ends(kafka, topic))


def test_records_are_those_that_sparks_own_reader_sees(spark: SparkSession, kafka: str, topic: str) -> None:
    send(kafka, topic, 300)
    transaction(kafka, topic, "a", commit=True)
    send(kafka, topic, 100, "gzip")
    transaction(kafka, topic, "b", commit=False)
    send(kafka, topic, 101, "zstd")
    producer = KafkaProducer(bootstrap_servers=kafka, max_request_size=16 << 20)
    producer.send(topic, b"y" * (12 << 20), partition=1)
    producer.close(timeout=30)
    transaction(kafka, topic, "c", commit=False)  # the range ends in offsets without records
    options = {"kafka.isolation.level": "read_committed", "includeHeaders": "true", "subscribe": topic}
    rows = spark.read.format("kafka").options(**options).option("kafka.bootstrap.servers", kafka).load()
    names = [f"{sql} as {name}" for sql, name in zip(SPARK_SQL, MASTER_COLUMNS, strict=True)]
    expected = rows_of(rows.selectExpr(*names).toArrow())
    found = [(*row[:5], row[5] or None, row[6]) for row in all_of(kafka, topic)]
    assert found == expected
    assert len(found) == 300 + 100 + 101 + 1 + PARTITIONS
    end = Cut(log_end_offsets(kafka, [topic]))
    assert rows_of(kafka_records(spark, kafka, topic, Cut(), end, MASTER_COLUMNS).toArrow()) == expected


class Gathering:
    """A consumer that hands over nothing before it was told of the end of each partition."""

    def __init__(self, consumer: Any, partitions: int) -> None:
        self._consumer = consumer
        self._left = partitions

    def consume(self, count: int, timeout: float) -> list[Any]:
        found = []
        while self._left:
            messages = self._consumer.consume(count, 0.1)
            found += messages
            self._left -= sum(message.error() is not None for message in messages)
        return found

    def close(self) -> None:
        self._consumer.close()


def test_the_end_is_known_where_kafka_tells_of_it_with_the_records_before(kafka: str, topic: str) -> None:
    """As after a pause. The log ends in offsets without records."""
    send(kafka, topic, 50)
    transaction(kafka, topic, "a", commit=False)
    end = ends(kafka, topic)
    for partitions in ([1], [*end]):
        with KafkaReader(kafka, topic, dict.fromkeys(partitions, 0), patience=1) as reader:
            reader._consumer = Gathering(reader._consumer, len(partitions))  # type: ignore[assignment]
            found = read(reader, {partition: end[partition] for partition in partitions})
            assert found == [row for row in all_of(kafka, topic) if row[0] in partitions]
            assert reader.stands_at({partition: end[partition] for partition in partitions})


@pytest.mark.parametrize("ahead", [0, 40, 1_000_000])
def test_reading_on_piece_by_piece_leaves_nothing_out(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Also where partitions are so far ahead of others that what is held of them is let go."""
    monkeypatch.setattr("tideline.kafka_reader._MOST_AHEAD", ahead)
    send(kafka, topic, 400)
    transaction(kafka, topic, "a", commit=False)
    last, dice = ends(kafka, topic), random.Random(ahead)
    place, found, reader, readers = dict.fromkeys(last, 0), [], None, 0
    while place != last:
        if reader is None or not reader.stands_at(place):
            if reader is not None:
                reader.close()
            reader, readers = KafkaReader(kafka, topic, place), readers + 1
        place = {partition: min(end, place[partition] + dice.randrange(40)) for partition, end in last.items()}
        found += read(reader, place, block=7)
    if reader is not None:
        reader.close()
    assert sorted(found) == all_of(kafka, topic)
    assert len(found) == 400
    assert (readers == 1) == (ahead == 1_000_000)


def test_a_read_that_was_broken_off_is_not_gone_on_from(kafka: str, topic: str) -> None:
    send(kafka, topic, 60)
    begin, end = dict.fromkeys(range(PARTITIONS), 0), ends(kafka, topic)
    with KafkaReader(kafka, topic, begin) as reader:
        assert reader.stands_at(begin)
        next(reader.read(end, ["_offset"], block=5))
        assert not reader.stands_at(begin)
        assert not reader.stands_at(end)


def test_a_reader_waits_for_records_to_come(kafka: str, topic: str) -> None:
    with KafkaReader(kafka, topic, {0: 0}) as reader:
        assert read(reader, {0: 0}) == []
        for number in range(1, 4):
            producer = KafkaProducer(bootstrap_servers=kafka)
            producer.send(topic, b"%d" % number, partition=0)
            producer.close(timeout=10)
            ((_, _, _, _, _, _, value),) = read(reader, {0: number})
            assert value == b"%d" % number


def test_what_kafka_let_go_is_an_error_that_names_it(kafka: str, topic: str) -> None:
    send(kafka, topic, 90)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_records({TopicPartition(topic, 1): 5})
    admin.close()
    wait_for(lambda: log_start_offsets(kafka, [topic])[topic][1] == 5, "they are gone")
    with KafkaReader(kafka, topic, {0: 0, 1: 3}) as reader, pytest.raises(KafkaFault) as caught:
        read(reader, {0: 5, 1: 9})
    assert caught.value.condition == "RANGE_GONE"
    assert (caught.value.params["topic"], caught.value.params["partition"]) == (topic, 1)


def test_what_a_worker_meets_is_said_as_if_it_were_here(spark: SparkSession, kafka: str, topic: str) -> None:
    rows = kafka_records(spark, kafka, topic, Cut({topic: {0: 7}}), Cut({topic: {0: 9}}), ["_offset"])
    with pytest.raises(KafkaFault, match="partition 0") as caught, table_faults(Path("nowhere")):
        rows.count()
    assert (caught.value.condition, caught.value.params["topic"]) == ("RANGE_GONE", topic)


@pytest.mark.timeout(60)
def test_a_topic_that_is_not_there_is_an_error_in_time(kafka: str, topic_name: str) -> None:
    with KafkaReader(kafka, topic_name, {0: 0}, patience=2) as reader, pytest.raises(KafkaFault) as caught:
        read(reader, {0: 1})
    assert caught.value.condition in ("KAFKA_UNREACHABLE", "READ_REFUSED")


def test_a_kafka_that_is_away_is_said_in_time() -> None:
    port = free_port("127.0.0.1")
    with KafkaReader(f"127.0.0.1:{port}", "t", {0: 0}, patience=1) as reader, pytest.raises(KafkaFault) as caught:
        read(reader, {0: 1})
    assert caught.value.condition == "KAFKA_UNREACHABLE"


@pytest.mark.parametrize("sizes", [{0: 100, 1: 100, 2: 100, 3: 100}, {0: 1000, 1: 3}, {0: 7}, {0: 0, 1: 1}, {0: 0}, {}])
def test_pieces_are_of_a_size_and_cover_the_range(sizes: dict[int, int]) -> None:
    begin, end = Cut({"t": dict.fromkeys(sizes, 50)}), Cut({"t": {p: 50 + size for p, size in sizes.items()}})
    log, usual = LogRange("", "t", begin, end), sum(sizes.values()) / 4
    pieces = log.pieces(4)
    covered = [(p, offset) for p, first, after in pieces for offset in range(first, after)]
    assert sorted(covered) == [(p, 50 + place) for p, size in sizes.items() for place in range(size)]
    assert all(0 < after - first <= max(1, 1.5 * usual) for _, first, after in pieces)
    assert len(pieces) <= 4 + len(sizes)
    shares = log.shares(2, 4)
    assert sorted(piece for share in shares for piece in share) == sorted(pieces)
    assert all(0 < sum(after - first for _, first, after in share) <= max(1, 3.5 * usual) for share in shares)
