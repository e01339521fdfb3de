"""A broker in memory, and what its records mean: decoding, repeats, and answers by a plain fold."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from tideline.cut import Cut
from tideline.errors import OutsideError
from tideline.source import SourceDefinition

NARROW = 100  # values beyond it do not fit the column's narrow type


@dataclass(frozen=True)
class Message:
    """One record; its event time is its place in time, which has nothing to do with its place in the log."""

    partition: int
    offset: int
    id: str
    key: str | None
    value: int
    time: int
    junk: bool

    @cached_property
    def checksum(self) -> int:
        """A hash of place and content, the same in every process."""
        content = f"{self.offset} {self.id} {self.key} {self.value} {self.time} {self.junk}"
        number = 0
        for character in content.encode():
            number = (number * 1_000_003 ^ character) & 0x7FFF_FFFF_FFFF_FFFF
        return number


class Topic:
    """Partitions of messages. Offsets without a message are markers and aborted transactions."""

    def __init__(self, id: str, partitions: int, start: int) -> None:
        self.id = id
        self.first = start
        self.messages: list[list[Message]] = [[] for _ in range(partitions)]
        self.ends = [start] * partitions
        self.kept = [start] * partitions

    def append(self, partition: int, id: str, key: str | None, value: int, time: int, junk: bool, skip: int) -> None:
        """Adds a message after `skip` offsets that hold none."""
        offset = self.ends[partition] + skip
        self.messages[partition].append(Message(partition, offset, id, key, value, time, junk))
        self.ends[partition] = offset + 1

    def skip(self, partition: int, offsets: int) -> None:
        """An aborted transaction: offsets that no reader gets to see."""
        self.ends[partition] += offsets

    def add_partition(self) -> None:
        """One more partition, empty."""
        self.messages.append([])
        self.ends.append(0)
        self.kept.append(0)


class Kafka:
    """The topics of a cluster."""

    def __init__(self) -> None:
        self.topics = {"t": Topic("t-1", 2, 0), "u": Topic("u-1", 1, 5)}

    def ids(self, topics: Iterable[str]) -> dict[str, str]:
        return {name: self.topics[name].id for name in topics}

    def starts(self, topics: Iterable[str]) -> Cut:
        return Cut({name: dict(enumerate(self.topics[name].kept)) for name in topics})

    def end(self, topics: Iterable[str]) -> Cut:
        return Cut({name: dict(enumerate(self.topics[name].ends)) for name in topics})

    def bounds(self, topics: Iterable[str]) -> tuple[Cut, Cut]:
        names = list(topics)
        return self.starts(names), self.end(names)

    def recreate(self, topic: str) -> None:
        """Deleted, and made again under the same name."""
        self.topics[topic] = Topic(f"{topic}-2", len(self.topics[topic].messages), 0)

    def read(self, topic: str, begin: Cut, end: Cut) -> list[Message]:
        """What a consumer reads of [begin, end). Raises OutsideError where it is no longer there."""
        found = self.topics[topic]
        for partition, stop in end.offsets(topic).items():
            start = begin.offset(topic, partition)
            if start < stop and (partition >= len(found.kept) or start < found.kept[partition]):
                raise OutsideError("LOG_TRUNCATED", f"{topic}:{partition} from {start} on is gone", "", topic=topic)
            if stop > start and stop > found.ends[partition]:
                raise OutsideError("LOG_TRUNCATED", f"{topic}:{partition} ends before {stop}", "", topic=topic)
        return between(self.topics[topic], topic, begin, end)


def between(topic: Topic, name: str, begin: Cut, end: Cut) -> list[Message]:
    """The messages of [begin, end), in the order of partition and offset."""
    found: list[Message] = []
    for partition, messages in enumerate(topic.messages):
        first, last = (bisect_left(messages, cut.offset(name, partition), key=_offset) for cut in (begin, end))
        found += messages[first:last]
    return found


def _offset(message: Message) -> int:
    return message.offset


def dead(source: SourceDefinition) -> Callable[[Message], str | None]:
    """What says why a message is no event of a source; None where it is one."""
    widest = NARROW if source.column("x").type.name == "int" else math.inf

    def why(message: Message) -> str | None:
        if message.junk:
            return "not JSON"
        return "x: not a value of type int" if abs(message.value) > widest else None

    return why


def repeated(source: SourceDefinition, messages: Iterable[Message]) -> set[Message]:
    """The events whose id an event before them has, at most `horizon` offsets earlier in their partition."""
    found: set[Message] = set()
    last: dict[tuple[int, str], int] = {}
    why = dead(source)
    for message in messages if source.event_id else ():
        if why(message) is None:
            before = last.get((message.partition, message.id))
            if before is not None and message.offset - before <= source.horizon:
                found.add(message)
            last[message.partition, message.id] = message.offset
    return found


def events(source: SourceDefinition, messages: list[Message]) -> Iterator[Message]:
    """The messages that count. They must begin where the topic's history does."""
    again, why = repeated(source, messages), dead(source)
    return (m for m in messages if why(m) is None and m not in again)
