"""Events on their way into a real topic."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from pathlib import Path
from threading import Event as Flag

import pytest
from kafka import KafkaConsumer, TopicPartition

from tideline.errors import UsageError
from tideline.eventfiles import Event
from tideline.produce import Progress, produce, produce_raw
from tideline.runtime.topics import KafkaFault, log_end_offsets
from tideline.simulate.shop import Shop, run_shop
from tideline.types import parse_schema

COLUMNS = parse_schema("id string, quantity int, price decimal(10,2)")


def read_all(bootstrap: str, topic: str) -> dict[int, list[tuple[bytes | None, bytes]]]:
    """Every record of a topic, `{partition: [(key, value)]}` in log order."""
    ends = log_end_offsets(bootstrap, [topic])[topic]
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=20_000,
    )
    consumer.assign([TopicPartition(topic, partition) for partition in ends])
    found: dict[int, list[tuple[bytes | None, bytes]]] = {partition: [] for partition in ends}
    wanted = sum(ends.values())
    while wanted:
        record = next(consumer)
        found[record.partition].append((record.key, record.value))
        wanted -= 1
    consumer.close()
    return found


def write_csv(folder: Path, rows: int) -> Path:
    path = folder / "events.csv"
    lines = [f"e{number},{number % 7},{number}.50" for number in range(rows)]
    path.write_text("\n".join(["id,quantity,price", *lines]) + "\n")
    return path


def test_a_file_goes_in_whole_keyed_by_its_event_id(kafka: str, topic: str, tmp_path: Path) -> None:
    seen: list[Progress] = []
    summary = produce(write_csv(tmp_path, 1000), topic, kafka, COLUMNS, "id", progress=seen.append)
    found = read_all(kafka, topic)
    records = [record for records in found.values() for record in records]
    assert (summary.sent, summary.duplicates, len(records)) == (1000, 0, 1000)
    assert {topic: {partition: len(all_) for partition, all_ in found.items()}} == summary.end
    assert all(len(all_) > 150 for all_ in found.values())
    assert {key: json.loads(value)["id"].encode() for key, value in records} == {key: key for key, _ in records}
    assert (seen[-1].sent, seen[-1].fraction, seen[-1].done) == (1000, 1.0, True)
    assert str(seen[-1]).startswith("1,000 events, 0 repeats, ")


def test_repeats_and_order_follow_from_the_seed_and_stay_in_their_partition(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    file = write_csv(tmp_path, 2000)
    summary = produce(file, topic, kafka, COLUMNS, "id", shuffle_seed=7, duplicate=0.1)
    first = read_all(kafka, topic)
    assert 120 < summary.duplicates < 280
    places: dict[bytes | None, set[int]] = {}
    for partition, records in first.items():
        for key, _ in records:
            places.setdefault(key, set()).add(partition)
    assert all(len(partitions) == 1 for partitions in places.values())
    produce(file, topic, kafka, COLUMNS, "id", shuffle_seed=7, duplicate=0.1)
    both = read_all(kafka, topic)
    assert all(both[partition] == records * 2 for partition, records in first.items())
    values = Counter(value for records in first.values() for _, value in records)
    assert len(values) == 2000
    assert sum(values.values()) == 2000 + summary.duplicates


def test_a_rate_is_kept(kafka: str, topic: str, tmp_path: Path) -> None:
    summary = produce(write_csv(tmp_path, 1000), topic, kafka, COLUMNS, "id", rate=400, limit=400)
    assert summary.sent == 400
    assert 350 < summary.rate < 450


def test_raw_values_arrive_byte_for_byte(kafka: str, topic: str) -> None:
    values: list[bytes | Event] = [b"", b"\xff\xfe", b"{}" * 2_500_000, Event(b"k", b"v")]
    summary = produce_raw(values, topic, kafka)
    assert summary.sent == 4
    records = [record for records in read_all(kafka, topic).values() for record in records]
    assert Counter(records) == Counter([(None, b""), (None, b"\xff\xfe"), (None, b"{}" * 2_500_000), (b"k", b"v")])


def test_an_event_beyond_what_kafka_takes_is_refused_by_name(kafka: str, topic: str) -> None:
    with pytest.raises(UsageError) as caught:
        produce_raw([b"x" * (17 << 20)], topic, kafka)
    assert caught.value.condition == "EVENT_TOO_LARGE"


def test_a_topic_that_does_not_exist_is_not_made_up(kafka: str, topic_name: str, tmp_path: Path) -> None:
    with pytest.raises(KafkaFault) as caught:
        produce(write_csv(tmp_path, 1), topic_name, kafka)
    assert caught.value.condition == "UNKNOWN_TOPIC"


def test_the_shop_sends_until_it_is_told_to_stop(kafka: str, topic: str) -> None:
    stop = Flag()

    def enough(progress: Progress) -> None:
        if progress.sent >= 300:
            stop.set()

    shop = Shop(dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), rate=1000, repeated=0.05)
    summary = run_shop(shop, topic, kafka, stop, enough)
    assert summary.sent >= 300
    assert sum(summary.end[topic].values()) == summary.sent + summary.duplicates


@pytest.mark.slow
def test_the_retail_file_goes_in_whole_with_three_percent_repeats(kafka: str, topic: str, retail_csv: Path) -> None:
    columns = parse_schema("line_id string, Quantity int, UnitPrice decimal(10,3)")
    summary = produce(retail_csv, topic, kafka, columns, "line_id", row_id="line_id", shuffle_seed=1, duplicate=0.03)
    assert summary.sent == 541_909
    assert summary.duplicates == pytest.approx(541_909 * 0.03, rel=0.05)
    assert sum(summary.end[topic].values()) == summary.sent + summary.duplicates
