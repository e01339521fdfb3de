"""Reading the log: ranges of a topic's partitions from Kafka as Arrow batches of record columns.

Both layers read through it, in the driver and in Spark's Python workers, where the decoder is; records do not pass
through a JVM before. A range is complete when every offset in it is accounted for: by a record, or by a later one, or
by Kafka's word that what it shows ends beyond it (aborted transactions and markers leave offsets without records).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as KafkaMessage
from xxhash import xxh64_intdigest

from tideline.runtime.kafka_access import librdkafka
from tideline.runtime.topics import KafkaFault

PATIENCE = 30.0  # seconds without a word from Kafka
BLOCK = 10_000  # records of a batch
_BLOCK_BYTES = 64 << 20  # after which a batch is not made longer
_MOST_AHEAD = 200_000  # records that are held for a later read
_MOST_BYTES_AHEAD = 128 << 20
_WAIT = 0.5  # seconds of a poll
_CONFIG: Mapping[str, Any] = {
    "group.id": "tideline-reader",  # asked for by the client; it neither joins the group nor commits to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "check.crcs": True,
    "enable.partition.eof": True,
    "enable.metrics.push": False,
    "allow.auto.create.topics": False,
    "fetch.message.max.bytes": 8 << 20,
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 32 << 10,
    "reconnect.backoff.max.ms": 1000,
    "log_level": 0,
}
_PASSING = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT})
_GONE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION})
UNREADABLE = ("\ufffd", None)
"""What stands for the headers of a record one of whose names is not UTF-8."""
_MESSAGE: Any = KafkaMessage  # its declared types allow for messages without a place
Message = Any
Offsets = Mapping[int, int]
"""{partition: offset}"""


class KafkaReader:
    """Reads some partitions of a topic on from `begin`. For one thread; it fetches ahead between two reads.

    Raises KafkaFault: KAFKA_UNREACHABLE after `patience` seconds without a word, RANGE_GONE where Kafka no longer holds
    what is asked for, READ_REFUSED.
    """

    def __init__(self, bootstrap: str, topic: str, begin: Offsets, patience: float = PATIENCE) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self._patience = patience
        self._next = dict(begin)  # what is to be handed over
        self._known = dict(begin)  # what comes from Kafka
        self._held: dict[int, list[Message]] = {partition: [] for partition in begin}
        self._held_bytes = 0
        self._fetched = set(begin)  # the partitions that are not too far ahead
        self._reason = "no record came"
        self._consumer = Consumer({**_CONFIG, **librdkafka(bootstrap), "error_cb": self._note})
        self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in begin.items()])

    def stands_at(self, begin: Offsets) -> bool:
        """Whether it can read on from here."""
        return self._fetched == set(self._known) and all(
            self._next.get(partition) == offset for partition, offset in begin.items()
        )

    def read(self, end: Offsets, columns: Sequence[str], block: int = BLOCK) -> Iterator[pa.RecordBatch]:
        """The records up to `end`, with these record columns, in batches of about `block`, fewer where they are large;
        in order by partition."""
        for partition in end:
            self._next.pop(partition, None)  # until all of it has been handed over
        found = [message for partition in end for message in self._take_held(partition, end[partition])]
        size = sum(map(len, found))
        heard = time.monotonic()
        while True:
            lacking = [partition for partition, offset in end.items() if self._known[partition] < offset]
            if len(found) >= block or size >= _BLOCK_BYTES or (found and not lacking):
                for part in _parts(found) if size >= _BLOCK_BYTES else (found,):
                    yield record_batch(part, columns)
                found, size = [], 0
            if not lacking:
                break
            messages = self._consumer.consume(block, 0) or self._consumer.consume(1, _WAIT)
            before = dict(self._known)
            within = self._within(messages, end)
            found += within
            size += sum(map(len, within))
            if self._known != before:  # an error alone is no word of the log
                heard = time.monotonic()
            elif time.monotonic() - heard > self._patience:
                raise KafkaFault("KAFKA_UNREACHABLE", bootstrap=self.bootstrap, reason=self._reason)
            self._limit_held(end)
        self._next.update(end)

    def _take_held(self, partition: int, end: int) -> list[Message]:
        held = self._held[partition]
        count = sum(message.offset() < end for message in held)
        self._held[partition] = held[count:]
        self._held_bytes -= sum(map(len, held[:count]))
        return held[:count]

    def _within(self, messages: Sequence[Message], end: Offsets) -> Sequence[Message]:
        """The records before `end`; those behind it are held."""
        records = self._records(messages)
        if not records:
            return records
        if len(self._known) == 1:
            [partition] = self._known
            self._hear(partition, records[-1].offset() + 1)
            if self._known[partition] <= end.get(partition, 0):
                return records
        partitions, offsets = np.array(_partitions(records)), np.array(_offsets(records), np.int64)
        within = np.zeros(len(records), np.bool_)
        for partition in np.unique(partitions).tolist():
            here = partitions == partition
            self._hear(partition, int(offsets[here][-1]) + 1)
            within |= here & (offsets < end.get(partition, 0))
        if within.all():
            return records
        for place in np.flatnonzero(~within).tolist():
            self._held[int(partitions[place])].append(records[place])
            self._held_bytes += len(records[place])
        return list(compress(records, within.tolist()))

    def _hear(self, partition: int, offset: int) -> None:
        """What lies before an offset has come. Kafka's word of the end may come with the records before it."""
        self._known[partition] = max(self._known[partition], offset)

    def _records(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Those that are no word of an error, which are taken in."""
        errors = list(map(_MESSAGE.error, messages))
        if all(error is None for error in errors):  # it is not to be compared with one
            return messages
        for message, error in zip(messages, errors, strict=True):
            if error is not None:
                self._take_error(message, error)
        return [message for message, error in zip(messages, errors, strict=True) if error is None]

    def _take_error(self, message: Message, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._hear(message.partition(), message.offset())
        elif error.code() in _GONE:
            raise KafkaFault(
                "RANGE_GONE",
                bootstrap=self.bootstrap,
                topic=self.topic,
                partition=message.partition(),
                reason=error.str(),
            )
        elif error.code() in _PASSING or error.retriable():
            self._note(error)
        else:
            raise KafkaFault("READ_REFUSED", bootstrap=self.bootstrap, topic=self.topic, reason=error.str())

    def _limit_held(self, end: Offsets) -> None:
        """Fetches no more of partitions that are far ahead of others; a later read cannot go on from here then."""
        if sum(map(len, self._held.values())) <= _MOST_AHEAD and self._held_bytes <= _MOST_BYTES_AHEAD:
            return
        ahead = {partition for partition, known in self._known.items() if known >= end.get(partition, 0)}
        leaving = [TopicPartition(self.topic, partition) for partition in ahead & self._fetched]
        if leaving:
            self._consumer.incremental_unassign(leaving)
        self._fetched -= ahead
        self._held.update((partition, []) for partition in ahead)
        self._held_bytes = sum(len(message) for held in self._held.values() for message in held)

    def _note(self, error: KafkaError) -> None:
        self._reason = error.str()

    def close(self) -> None:
        """Ends its connections."""
        self._consumer.close()

    def __enter__(self) -> KafkaReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


_HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def _parts(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The records in parts of bounded size: Kafka may have packed many large ones into a small answer."""
    begin, size = 0, 0
    for place, message in enumerate(messages, 1):
        size += len(message)
        if size >= _BLOCK_BYTES or place == len(messages):
            yield messages[begin:place]
            begin, size = place, 0


def record_batch(messages: Sequence[Message], columns: Sequence[str]) -> pa.RecordBatch:
    """Records as Arrow columns: what `RECORD_TYPES` says, headers that a record lacks as an empty list.

    A column is taken from all records at once: a loop of Python's own over them takes twice as long.
    """
    return pa.RecordBatch.from_pydict({name: _COLUMNS[name](messages) for name in columns})


def _partitions(messages: Sequence[Message]) -> list[int]:
    return list(map(_MESSAGE.partition, messages))


def _offsets(messages: Sequence[Message]) -> list[int]:
    return list(map(_MESSAGE.offset, messages))


def _values(messages: Sequence[Message]) -> list[Any]:
    return list(map(_MESSAGE.value, messages))


def _hashes(messages: Sequence[Message]) -> pa.Array:
    """Spark's `xxhash64(offset, value)`, which passes over a value that is null."""
    of_offsets, values = hash_longs(np.array(_offsets(messages), np.int64)).tolist(), _values(messages)
    if None in values:
        pairs = zip(values, of_offsets, strict=True)
        found = [seed if value is None else xxh64_intdigest(value, seed) for value, seed in pairs]
    else:
        found = list(map(xxh64_intdigest, values, of_offsets))
    return pa.array(np.array(found, np.uint64).view(np.int64))


def hash_longs(numbers: npt.NDArray[np.int64], seed: int = 42) -> npt.NDArray[np.uint64]:
    """XXH64 of each number's eight bytes; the seed is Spark's for `xxhash64`.

    As its specification has it for an input of eight bytes: github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
    """
    lanes = _rotated(numbers.view(np.uint64) * _PRIMES[1], 31) * _PRIMES[0]
    found = _rotated(np.uint64(seed + 8) + _PRIMES[4] ^ lanes, 27) * _PRIMES[0] + _PRIMES[3]
    found = (found ^ found >> _SHIFTS[0]) * _PRIMES[1]
    found = (found ^ found >> _SHIFTS[1]) * _PRIMES[2]
    hashes: npt.NDArray[np.uint64] = found ^ found >> _SHIFTS[2]
    return hashes


def _rotated(words: npt.NDArray[np.uint64], by: int) -> npt.NDArray[np.uint64]:
    rotated: npt.NDArray[np.uint64] = words << np.uint64(by) | words >> np.uint64(64 - by)
    return rotated


_PRIMES = np.array(
    [
        11400714785074694791,
        14029467366897019727,
        1609587929392839161,
        9650029242287828579,
        2870177450012600261,
    ],
    np.uint64,
)
_SHIFTS = np.array([33, 29, 32], np.uint64)


def _times(messages: Sequence[Message]) -> pa.Array:
    milliseconds = np.array([at for _, at in map(_MESSAGE.timestamp, messages)], np.int64)
    return pa.array(milliseconds * 1000).cast(pa.timestamp("us", "UTC"))


def _headers(messages: Sequence[Message]) -> pa.Array:
    found: list[Any] = []
    rest = iter(messages)
    while len(found) < len(messages):
        try:
            found.extend(map(_MESSAGE.headers, rest))
        except SystemError:  # and to ask the client for these again would end the process
            found.append([UNREADABLE])
    if found.count(None) == len(found):
        return pa.ListArray.from_arrays(pa.array(np.zeros(len(found) + 1, np.int32)), pa.array([], _HEADERS.value_type))
    return pa.array([[{"key": key, "value": value} for key, value in headers or ()] for headers in found], _HEADERS)


_COLUMNS: Mapping[str, Any] = {
    "_partition": lambda messages: pa.array(_partitions(messages), pa.int32()),
    "_offset": lambda messages: pa.array(_offsets(messages), pa.int64()),
    "_timestamp": _times,
    "_hash": _hashes,
    "_key": lambda messages: pa.array(list(map(_MESSAGE.key, messages)), pa.binary()),
    "_headers": _headers,
    "_value": lambda messages: pa.array(_values(messages), pa.binary()),
}
