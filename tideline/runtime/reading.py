"""Reading a bounded range of a topic without Spark."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition

from tideline.cut import Cut
from tideline.errors import OutsideError
from tideline.runtime.kafka_access import kafka_python

_PATIENCE = 30.0  # seconds without a record or progress


@dataclass(frozen=True)
class Record:
    """A Kafka record; `at` is its own time stamp."""

    partition: int
    offset: int
    at: dt.datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def read_records(bootstrap: str, topic: str, begin: Cut, end: Cut) -> Iterator[list[Record]]:
    """The committed records of [begin, end), a list per fetch. Raises OutsideError where Kafka stops answering."""
    wanted = {p: offset for p, offset in end.offsets(topic).items() if offset > begin.offset(topic, p)}
    if not wanted:
        return
    consumer = KafkaConsumer(
        **kafka_python(bootstrap),
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        max_partition_fetch_bytes=16 << 20,
    )
    try:
        partitions = [TopicPartition(topic, partition) for partition in wanted]
        consumer.assign(partitions)
        for place in partitions:
            consumer.seek(place, begin.offset(topic, place.partition))
        deadline = time.monotonic() + _PATIENCE
        while any(consumer.position(place) < wanted[place.partition] for place in partitions):
            fetched = consumer.poll(timeout_ms=500, max_records=5000)
            if time.monotonic() > deadline:
                raise OutsideError(
                    "KAFKA_SILENT", f"{topic} gave no record for {_PATIENCE:.0f} s", "look at the broker", topic=topic
                )
            for place, records in fetched.items():
                deadline = time.monotonic() + _PATIENCE
                yield [
                    Record(
                        place.partition,
                        r.offset,
                        dt.datetime.fromtimestamp(r.timestamp / 1000, dt.timezone.utc),
                        r.key,
                        r.value,
                        tuple(r.headers),
                    )
                    for r in records
                    if r.offset < wanted[place.partition]
                ]
    finally:
        consumer.close()
