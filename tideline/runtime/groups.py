"""The offsets of a Kafka consumer group without members: what lag tools show.

A client of its own, apart from the one in `topics`: whoever waits here keeps nobody else from asking Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import BrokerResponseError, KafkaError, NoError
from kafka.structs import OffsetAndMetadata

from tideline.cut import Cut
from tideline.runtime.kafka_access import kafka_python
from tideline.runtime.process import pause
from tideline.runtime.topics import KafkaFault, reason_of

TIMEOUT = 5.0  # seconds


class GroupClient:
    """Reads and writes group offsets; for one thread. Use it with `with`. Connects when it is first needed."""

    def __init__(self, bootstrap: str, timeout: float = TIMEOUT) -> None:
        self.bootstrap = bootstrap
        self._timeout = int(timeout * 1000)
        self._admin: KafkaAdminClient | None = None

    def commit(self, group: str, cut: Cut) -> None:
        """Sets the group's offsets to a cut. Raises KafkaFault KAFKA_UNREACHABLE, GROUP_REFUSED."""
        offsets = {TopicPartition(topic, partition): OffsetAndMetadata(o) for topic, partition, o in cut.partitions()}
        results = self._ask(lambda admin: admin.alter_group_offsets(group, offsets))
        refused = {place: kind for place, kind in results.items() if kind is not NoError}
        for place, kind in refused.items():
            raise KafkaFault(
                "GROUP_REFUSED",
                bootstrap=self.bootstrap,
                group=group,
                topic=place.topic,
                partition=place.partition,
                reason=kind.__name__,
            )

    def committed(self, group: str) -> Cut:
        """The group's offsets; an empty cut for a group that there is not. Raises KafkaFault KAFKA_UNREACHABLE."""
        found = self._ask(lambda admin: admin.list_group_offsets(group))[group]
        offsets: dict[str, dict[int, int]] = {}
        for place, entry in found.items():
            offsets.setdefault(place.topic, {})[place.partition] = entry.offset
        return Cut(offsets)

    def close(self) -> None:
        """Ends the connection; the next call makes another."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def __enter__(self) -> GroupClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask(self, question: Callable[[KafkaAdminClient], Any]) -> Any:
        """Asks again while the broker says that it will know soon: the first group of all makes Kafka's own topic."""
        deadline = time.monotonic() + self._timeout / 1000
        while True:
            try:
                return question(self._connected())
            except (KafkaError, OSError, ValueError) as error:
                soon = isinstance(error, BrokerResponseError) and getattr(error, "retriable", False)
                if not soon or time.monotonic() > deadline:
                    self.close()
                    raise KafkaFault("KAFKA_UNREACHABLE", bootstrap=self.bootstrap, reason=reason_of(error)) from error
            pause(0.2)

    def _connected(self) -> KafkaAdminClient:
        if self._admin is None:
            self._admin = KafkaAdminClient(
                **kafka_python(self.bootstrap),
                client_id="tideline-group",
                bootstrap_timeout_ms=self._timeout,
                request_timeout_ms=self._timeout,
                reconnect_backoff_max_ms=500,
            )
        return self._admin
