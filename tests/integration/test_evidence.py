"""What `erase` says of what Kafka still holds, and until when."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from batch_layer.evidence import standing
from tideline.erased import ERASED
from tideline.runtime.topics import create_topic

FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
DEAD = {
    (0, 1): (ERASED, FIRST),
    (0, 3): ("no id", FIRST + dt.timedelta(days=9)),
    (0, 4): (ERASED, FIRST + dt.timedelta(days=2)),
    (1, 0): (ERASED, FIRST + dt.timedelta(days=1)),
}
HOUR, MINUTE = 3_600_000, 60_000


def filled(bootstrap: str, topic: str, **config: Any) -> None:
    """A topic with five records in each of two partitions."""
    create_topic(bootstrap, topic, 2, {name.replace("_", "."): value for name, value in config.items()})
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(10):
        producer.send(topic, b"{}", b"key", partition=number % 2)
    producer.close()


def test_what_stands_in_kafka_goes_with_its_retention_and_the_segment_it_lies_in(kafka: str, topic_name: str) -> None:
    filled(kafka, topic_name, retention_ms=HOUR, segment_ms=10 * MINUTE)
    found = standing(kafka, topic_name, DEAD)
    newest = FIRST + dt.timedelta(days=2)
    assert (found.records, found.newest) == ({0: 2, 1: 1}, newest)
    assert found.retention_ends == newest + dt.timedelta(hours=1)
    assert found.gone_by == newest + dt.timedelta(hours=1, minutes=10)


def test_what_kafka_has_deleted_does_not_stand_there(kafka: str, topic_name: str) -> None:
    filled(kafka, topic_name, retention_ms=HOUR)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_records({TopicPartition(topic_name, 0): 5})
    found = standing(kafka, topic_name, DEAD)
    assert (found.records, found.newest) == ({1: 1}, FIRST + dt.timedelta(days=1))
    admin.delete_records({TopicPartition(topic_name, 1): 1})
    admin.close()
    found = standing(kafka, topic_name, DEAD)
    assert (found.records, found.newest, found.retention_ends, found.gone_by) == ({}, None, None, None)


@pytest.mark.parametrize("config", [{"retention_ms": -1}, {"retention_ms": HOUR, "cleanup_policy": "compact"}])
def test_a_topic_that_keeps_its_records_for_good_names_no_end(
    kafka: str, topic_name: str, config: dict[str, Any]
) -> None:
    filled(kafka, topic_name, **config)
    found = standing(kafka, topic_name, DEAD)
    assert found.records == {0: 2, 1: 1}
    assert (found.retention_ends, found.gone_by) == (None, None)
