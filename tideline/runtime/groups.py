"""The offsets of a Kafka consumer group without members: what lag tools show.

A client of its own, apart from the one in `topics`: whoever waits here keeps nobody else from asking Kafka.
"""

from __future__ import annotations

from types import TracebackType

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError, NoError
from kafka.structs import OffsetAndMetadata

from tideline.cut import Cut
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
        try:
            results = self._connected().alter_group_offsets(group, offsets)
        except (KafkaError, OSError, ValueError) as error:
            self.close()
            raise KafkaFault("KAFKA_UNREACHABLE", bootstrap=self.bootstrap, reason=reason_of(error)) from error
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
        try:
            found = self._connected().list_group_offsets(group)[group]
        except (KafkaError, OSError, ValueError) as error:
            self.close()
            raise KafkaFault("KAFKA_UNREACHABLE", bootstrap=self.bootstrap, reason=reason_of(error)) from error
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

    def _connected(self) -> KafkaAdminClient:
        if self._admin is None:
            self._admin = KafkaAdminClient(
                bootstrap_servers=self.bootstrap.split(","),
                client_id="tideline-group",
                bootstrap_timeout_ms=self._timeout,
                request_timeout_ms=self._timeout,
                reconnect_backoff_max_ms=500,
            )
        return self._admin
