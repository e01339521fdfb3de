"""A cut: a position in the log. It says of every event whether it lies before (invariant 1).

For each topic and partition a cut holds the next offset, exclusive; a partition that it does not list
stands at 0. Two cuts are equal when they are the same position, whether or not they list partitions at
0. What was archived before a topic moved to another cluster has offsets before the new log's, which may
be negative.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tideline.errors import UsageError

_ITEM = re.compile(r"(?:([A-Za-z0-9._-]+)\s*:)?\s*(?:([0-9]{1,10})\s*=\s*([0-9]{1,19}))?")


class Cut:
    """An immutable position: `Cut({"sales": {0: 10, 1: 5}})`."""

    __slots__ = ("_hash", "_offsets")

    def __init__(self, offsets: Mapping[str, Mapping[int, int]] | None = None) -> None:
        self._offsets: dict[str, dict[int, int]] = {
            topic: {int(partition): int(offset) for partition, offset in sorted(partitions.items())}
            for topic, partitions in sorted((offsets or {}).items())
        }
        self._hash: int | None = None

    def offset(self, topic: str, partition: int) -> int:
        """The next offset of a partition, 0 where the cut does not list it."""
        partitions = self._offsets.get(topic)
        return partitions.get(partition, 0) if partitions else 0

    def topics(self) -> tuple[str, ...]:
        """The topics that the cut lists, sorted."""
        return tuple(self._offsets)

    def offsets(self, topic: str) -> dict[int, int]:
        """{partition: next offset} of one topic, as listed."""
        return dict(self._offsets.get(topic, {}))

    def partitions(self) -> Iterator[tuple[str, int, int]]:
        """(topic, partition, next offset) of every partition that the cut lists, sorted."""
        for topic, partitions in self._offsets.items():
            for partition, offset in partitions.items():
                yield topic, partition, offset

    def covers(self, other: Cut) -> bool:
        """Whether no partition of `other` is further than here."""
        return all(self.offset(topic, partition) >= offset for topic, partition, offset in other.partitions())

    def count_since(self, other: Cut) -> int:
        """How many offsets lie in [other, self); negative where `other` is further."""
        return sum(offset for _, _, offset in self.partitions()) - sum(o for _, _, o in other.partitions())

    def reaches(self, topic: str, end: Cut) -> bool:
        """Whether no offset of a topic lies in [self, end)."""
        return all(offset <= self.offset(topic, partition) for partition, offset in end.offsets(topic).items())

    def behind(self, topic: str, offsets: int) -> Cut:
        """The position `offsets` before this one in every partition of a topic, even where no log begins so early."""
        return Cut({topic: {p: offset - offsets for p, offset in self.offsets(topic).items()}})

    def shift(self, topic: str, by: Mapping[int, int]) -> Cut:
        """The position with `by` added to the offsets of a topic's partitions, where the cut lists the topic."""
        if topic not in self._offsets:
            return self
        moved = {p: self.offset(topic, p) + by.get(p, 0) for p in {*self._offsets[topic], *by}}
        return Cut({**self._offsets, topic: moved})

    def least(self, topic: str, other: Cut) -> Cut:
        """The nearer of both, partition by partition of a topic."""
        return Cut({topic: {p: min(offset, other.offset(topic, p)) for p, offset in self.offsets(topic).items()}})

    def advance(self, other: Cut) -> Cut:
        """The further of both, partition by partition; lists what either lists."""
        merged = {topic: dict(partitions) for topic, partitions in self._offsets.items()}
        for topic, partition, offset in other.partitions():
            mine = merged.setdefault(topic, {})
            mine[partition] = max(mine.get(partition, offset), offset)
        return Cut(merged)

    def complete(self, other: Cut) -> Cut:
        """The same position, with the topics that this cut does not list as `other` lists them."""
        if all(topic in self._offsets for topic in other._offsets):
            return self
        return Cut({**other._offsets, **self._offsets})

    def restrict(self, topics: Iterable[str]) -> Cut:
        """The same position in `topics` only."""
        wanted = set(topics)
        return Cut({topic: partitions for topic, partitions in self._offsets.items() if topic in wanted})

    def to_json(self) -> dict[str, dict[str, int]]:
        """`{"sales": {"0": 10}}`, the form that Spark's offset log has too."""
        return {topic: {str(p): offset for p, offset in parts.items()} for topic, parts in self._offsets.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, Any]]) -> Cut:
        return cls({topic: {int(p): int(offset) for p, offset in parts.items()} for topic, parts in data.items()})

    @classmethod
    def parse(cls, text: str) -> Cut:
        """The cut that `str` spelled: `sales:0=10,1=5,visits:0=3`. Raises UsageError."""
        offsets: dict[str, dict[int, int]] = {}
        current: dict[int, int] | None = None
        for item in filter(None, (part.strip() for part in text.split(","))):
            match = _ITEM.fullmatch(item)
            if not match:
                raise UsageError("BAD_CUT", text=text)
            topic, partition, offset = match.groups()
            current = offsets.setdefault(topic, {}) if topic else current
            if partition is not None:
                if current is None or int(partition) in current:
                    raise UsageError("BAD_CUT", text=text)
                current[int(partition)] = int(offset)
        return cls(offsets)

    def __str__(self) -> str:
        return ",".join(
            f"{topic}:{','.join(f'{partition}={offset}' for partition, offset in partitions.items())}"
            for topic, partitions in self._offsets.items()
        )

    def __repr__(self) -> str:
        return f"Cut.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cut):
            return NotImplemented
        return self._offsets == other._offsets or self._position() == other._position()

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self._position())
        return self._hash

    def _position(self) -> frozenset[tuple[str, int, int]]:
        return frozenset(place for place in self.partitions() if place[2])


EMPTY_CUT = Cut()
