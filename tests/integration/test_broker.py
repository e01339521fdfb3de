"""The embedded broker, and what is asked of Kafka about topics and offsets."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource

from tideline.runtime.broker import Broker, BrokerFault, plan_broker
from tideline.runtime.home import Home, process_alive
from tideline.runtime.process import pause
from tideline.runtime.topics import (
    KafkaFault,
    cluster_id,
    create_topic,
    delete_topic,
    log_end_offsets,
    log_start_offsets,
    topic_ids,
    topic_partitions,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


def test_a_restarted_broker_keeps_cluster_topics_and_records(home: Home) -> None:
    with Broker(home) as broker:
        cluster = cluster_id(broker.bootstrap)
        ids = {"kept": create_topic(broker.bootstrap, "kept", partitions=1)}
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        producer.send("kept", b"one")
        producer.close()
        pid = broker.pid
    assert pid is not None
    assert not process_alive(pid)
    with Broker(home) as broker:
        assert cluster_id(broker.bootstrap) == cluster
        assert topic_ids(broker.bootstrap, ["kept"]) == ids
        assert log_end_offsets(broker.bootstrap, ["kept"]) == {"kept": {0: 1}}
        os.kill(broker.pid or 0, signal.SIGKILL)
        again = Broker(home)
    with again:
        assert log_end_offsets(again.bootstrap, ["kept"]) == {"kept": {0: 1}}


def test_a_taken_port_is_one_line(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerFault) as caught:
            plan_broker(home, port)
    assert caught.value.condition == "PORT_TAKEN"
    assert caught.value.params["port"] == port
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_a_broker_that_cannot_start_says_why(home: Home) -> None:
    broker = Broker(home)
    (home.kafka / "meta.properties").write_text("version=1\ncluster.id=another\nnode.id=7\n")
    with pytest.raises(BrokerFault) as caught:
        broker.start()
    assert caught.value.condition == "BROKER_FAILED"
    assert "\n" not in str(caught.value)
    assert Path(caught.value.params["log"]).exists()


def test_topics_are_created_once_with_the_brokers_clock_and_room_for_large_events(kafka: str, topic_name: str) -> None:
    first = create_topic(kafka, topic_name, partitions=3, config={"retention.ms": 86_400_000})
    assert create_topic(kafka, topic_name, partitions=5) == first
    assert topic_partitions(kafka, [topic_name]) == {topic_name: [0, 1, 2]}
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    found = admin.describe_configs([ConfigResource("TOPIC", topic_name)])
    admin.close()
    text = str(found)
    assert "LogAppendTime" in text
    assert str(16 << 20) in text
    assert "86400000" in text


def test_a_recreated_topic_has_another_id(kafka: str, topic: str) -> None:
    before = topic_ids(kafka, [topic])
    delete_topic(kafka, topic)
    with pytest.raises(KafkaFault) as caught:
        topic_ids(kafka, [topic])
    assert caught.value.condition == "UNKNOWN_TOPIC"
    create_topic(kafka, topic)
    assert topic_ids(kafka, [topic]) != before


def test_asking_for_topic_ids_is_quick(kafka: str, topic: str) -> None:
    topic_ids(kafka, [topic])
    begin = time.monotonic()
    for _ in range(20):
        topic_ids(kafka, [topic])
    assert (time.monotonic() - begin) / 20 < 0.05


def test_the_end_of_the_log_is_where_committed_records_end(kafka: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(3):
        producer.send(topic, b"%d" % number, partition=1).get(timeout=10)
    assert log_end_offsets(kafka, [topic])[topic] == {0: 0, 1: 0, 2: 0, 3: 0}
    producer.commit_transaction()
    producer.close()
    ends: dict[int, int] = {}
    for _ in range(200):  # the commit's marker is written after the commit is answered
        ends = log_end_offsets(kafka, [topic])[topic]
        if ends[1]:
            break
        pause(0.05)
    assert ends == {0: 0, 1: 4, 2: 0, 3: 0}
    assert log_start_offsets(kafka, [topic])[topic] == {0: 0, 1: 0, 2: 0, 3: 0}


def test_a_topic_that_kafka_refuses_is_a_clear_error(kafka: str) -> None:
    with pytest.raises(KafkaFault) as caught:
        create_topic(kafka, "no spaces please")
    assert caught.value.condition == "TOPIC_REFUSED"
    assert "\n" not in str(caught.value)


def test_a_broker_that_is_down_is_reported_within_the_bound() -> None:
    begin = time.monotonic()
    with pytest.raises(KafkaFault) as caught:
        log_end_offsets("127.0.0.1:1", ["any"], timeout=1.5)
    assert caught.value.condition == "KAFKA_UNREACHABLE"
    assert caught.value.exit_code == 3
    assert time.monotonic() - begin < 4
