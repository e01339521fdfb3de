"""Topics and their offsets, asked from Kafka through one admin client per process and bootstrap address.

Offsets come as `{topic: {partition: offset}}`, the shape of a cut. Every function answers or raises within
its bound: KafkaFault KAFKA_UNREACHABLE, UNKNOWN_TOPIC, TOPIC_REFUSED.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from kafka import IsolationLevel, KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, OffsetTimestamp
from kafka.errors import (
    BrokerResponseError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from tideline.cut import Cut
from tideline.errors import OutsideError, Texts
from tideline.runtime.kafka_access import Access, Servers, access_of, kafka_python

Offsets = dict[str, dict[int, int]]
T = TypeVar("T")

TIMEOUT = 10.0  # seconds
_UNKNOWN_TOPIC = 3  # Kafka's error code

# Kafka deletes by time stamp: with the producer's (CreateTime) replayed history would be gone within seconds.
TOPIC_CONFIG: Mapping[str, str] = {
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(16 << 20),
    "cleanup.policy": "delete",
}


class KafkaFault(OutsideError):
    """Kafka cannot be reached, or refuses."""

    texts: ClassVar[Texts] = {
        "KAFKA_UNREACHABLE": (
            "Kafka at {bootstrap} does not answer: {reason}",
            "start it (tideline up runs one), or name another with --bootstrap-server",
        ),
        "UNKNOWN_TOPIC": (
            "Kafka at {bootstrap} has no topic {topic}",
            "tideline apply creates the topics of a catalog",
        ),
        "TOPIC_REFUSED": (
            "Kafka at {bootstrap} refused topic {topic}: {reason}",
            "choose another topic name or settings",
        ),
        "RANGE_GONE": (
            "Kafka at {bootstrap} no longer holds what is to be read of topic {topic} partition {partition}: {reason}",
            "run tideline status, which names what is missing; tideline recover goes on without it",
        ),
        "READ_REFUSED": (
            "Kafka at {bootstrap} refuses to let topic {topic} be read: {reason}",
            "see that it exists and may be read",
        ),
        "GROUP_REFUSED": (
            "Kafka at {bootstrap} refused the offset of {topic} partition {partition} in group {group}: {reason}",
            "let no consumer join that group, or choose another with speed.consumer_group",
        ),
    }


def cluster_id(bootstrap: str, timeout: float = TIMEOUT) -> str:
    """The id of the cluster that answers at `bootstrap`."""
    described = _ask(bootstrap, lambda admin: admin.describe_cluster(), timeout)
    return str(described["cluster_id"])


def create_topic(
    bootstrap: str,
    name: str,
    partitions: int = 4,
    config: Mapping[str, Any] | None = None,
    replication: int = -1,
    timeout: float = TIMEOUT,
) -> str:
    """Create a topic unless it exists, and return its id; an existing topic is left as it is.

    `config` is laid over TOPIC_CONFIG; `retention.ms` is the one to think about. Replication -1 is the
    broker's own.
    """
    settings = {key: str(value) for key, value in {**TOPIC_CONFIG, **(config or {})}.items()}
    wanted = {name: {"num_partitions": partitions, "replication_factor": replication, "configs": settings}}

    def create(admin: KafkaAdminClient) -> None:
        try:
            admin.create_topics(wanted, timeout_ms=int(timeout * 1000), wait_for_metadata=True)
        except TopicAlreadyExistsError:
            pass
        except (ValueError, BrokerResponseError) as error:
            if getattr(error, "retriable", False):
                raise
            raise KafkaFault("TOPIC_REFUSED", bootstrap=bootstrap, topic=name, reason=reason_of(error)) from error

    _ask(bootstrap, create, timeout)
    return topic_ids(bootstrap, [name], timeout)[name]


def delete_topic(bootstrap: str, name: str, timeout: float = TIMEOUT) -> None:
    """Delete a topic and wait until Kafka no longer lists it."""

    def delete(admin: KafkaAdminClient) -> None:
        admin.delete_topics([name])
        deadline = time.monotonic() + timeout
        while name in admin.list_topics():
            if time.monotonic() > deadline:
                raise KafkaFault("TOPIC_REFUSED", bootstrap=bootstrap, topic=name, reason="it does not go away")
            _pause(0.02)

    try:
        _ask(bootstrap, delete, timeout)
    except UnknownTopicOrPartitionError as error:
        raise KafkaFault("UNKNOWN_TOPIC", bootstrap=bootstrap, topic=name) from error


def topic_ids(bootstrap: str, topics: Iterable[str], timeout: float = TIMEOUT) -> dict[str, str]:
    """`{topic: uuid}`. A topic that was deleted and made again has another id. Raises UNKNOWN_TOPIC."""
    return {topic["name"]: str(topic["topic_id"]) for topic in _describe(bootstrap, topics, timeout)}


def topic_partitions(bootstrap: str, topics: Iterable[str], timeout: float = TIMEOUT) -> dict[str, list[int]]:
    """`{topic: partitions}`, sorted. Raises UNKNOWN_TOPIC."""
    return {
        topic["name"]: sorted(int(partition["partition_index"]) for partition in topic["partitions"])
        for topic in _describe(bootstrap, topics, timeout)
    }


def log_start_offsets(bootstrap: str, topics: Iterable[str], timeout: float = TIMEOUT) -> Offsets:
    """The first offset that each partition still holds."""
    return _offsets(bootstrap, topics, OffsetSpec.EARLIEST, timeout)


def log_end_offsets(bootstrap: str, topics: Iterable[str], timeout: float = TIMEOUT) -> Offsets:
    """Where a `read_committed` reader's log ends now, exclusive: the last stable offset of each partition."""
    return _offsets(bootstrap, topics, OffsetSpec.LATEST, timeout)


def log_offsets_at(bootstrap: str, topics: Iterable[str], moment: int, timeout: float = TIMEOUT) -> Offsets:
    """The first offset of each partition whose record's time stamp is a moment (milliseconds since the epoch) or
    later; where the log ends if there is none."""
    names = list(topics)
    found = _offsets(bootstrap, names, OffsetTimestamp(moment), timeout)
    if any(offset < 0 for partitions in found.values() for offset in partitions.values()):
        ends = log_end_offsets(bootstrap, names, timeout)
        return {t: {p: ends[t][p] if offset < 0 else offset for p, offset in at.items()} for t, at in found.items()}
    return found


def log_bounds(bootstrap: str, topics: Iterable[str], timeout: float = TIMEOUT) -> tuple[Cut, Cut]:
    """Both: where the log begins, and where it ends."""
    names = list(topics)
    return Cut(log_start_offsets(bootstrap, names, timeout)), Cut(log_end_offsets(bootstrap, names, timeout))


def topic_settings(bootstrap: str, topic: str, timeout: float = TIMEOUT) -> dict[str, str]:
    """A topic's settings, the broker's defaults among them, by Kafka's names."""
    wanted = [ConfigResource("topic", topic)]
    found = _ask(bootstrap, lambda admin: admin.describe_configs(wanted, config_filter="all"), timeout)
    return {name: str(entry["value"]) for name, entry in found["topic"][topic].items()}


def _offsets(bootstrap: str, topics: Iterable[str], spec: OffsetSpec | OffsetTimestamp, timeout: float) -> Offsets:
    layout = topic_partitions(bootstrap, topics, timeout)
    wanted = {TopicPartition(topic, partition): spec for topic, all_ in layout.items() for partition in all_}
    found = _ask(
        bootstrap,
        lambda admin: admin.list_partition_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, timeout_ms=int(timeout * 1000)
        ),
        timeout,
    )
    return {
        topic: {partition: int(found[TopicPartition(topic, partition)].offset) for partition in all_}
        for topic, all_ in layout.items()
    }


def _describe(bootstrap: str, topics: Iterable[str], timeout: float) -> list[dict[str, Any]]:
    names = sorted(set(topics))
    if not names:
        return []
    described: list[dict[str, Any]] = _ask(bootstrap, lambda admin: admin.describe_topics(names), timeout)
    for topic in described:
        if topic["error_code"] == _UNKNOWN_TOPIC:
            raise KafkaFault("UNKNOWN_TOPIC", bootstrap=bootstrap, topic=topic["name"])
        if topic["error_code"]:
            reason = f"Kafka error code {topic['error_code']}"
            raise KafkaFault("TOPIC_REFUSED", bootstrap=bootstrap, topic=topic["name"], reason=reason)
    return described


_clients: dict[tuple[int, str, Access], KafkaAdminClient] = {}
_clients_lock = threading.Lock()


def _ask(bootstrap: str, question: Callable[[KafkaAdminClient], T], timeout: float) -> T:
    """Ask through the shared admin client; make a broken connection anew until `timeout` is over."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return question(_client(bootstrap, deadline))
        except (KafkaError, OSError) as error:
            if isinstance(error, BrokerResponseError) and not getattr(error, "retriable", False):
                raise
            forget(bootstrap)
            if time.monotonic() >= deadline - 0.2:
                raise KafkaFault("KAFKA_UNREACHABLE", bootstrap=bootstrap, reason=reason_of(error)) from error
        _pause(0.2)


def _client(bootstrap: str, deadline: float) -> KafkaAdminClient:
    key = (os.getpid(), str(bootstrap), access_of(bootstrap))
    with _clients_lock:
        client = _clients.get(key)
        if client is None:
            left = max(int((deadline - time.monotonic()) * 1000), 500)
            client = _clients[key] = KafkaAdminClient(
                **kafka_python(bootstrap),
                client_id="tideline",
                bootstrap_timeout_ms=left,
                request_timeout_ms=int(TIMEOUT * 1000),
                reconnect_backoff_max_ms=500,
            )
        return client


def forget(bootstrap: str) -> None:
    """Close this process's admin client for `bootstrap`, if there is one."""
    with _clients_lock:
        client = _clients.pop((os.getpid(), str(bootstrap), access_of(bootstrap)), None)
    if client is not None:
        client.close()


@atexit.register
def _forget_all() -> None:
    for pid, bootstrap, access in list(_clients):
        if pid == os.getpid():
            forget(Servers(bootstrap, access))


def reason_of(error: BaseException) -> str:
    """One line: kafka-python appends whole requests and responses to its texts."""
    told = re.search(r"error_message=(\"[^\"]+\"|'[^']+')", str(error))
    if told:
        return told[1][1:-1]
    name = type(error).__name__
    return f"{name}: {str(error).removeprefix(f'{name}: ')[:200]}" if str(error) else name


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
