"""Whether Kafka still holds what is to be read (invariant 7)."""

from __future__ import annotations

from tideline.cut import Cut
from tideline.errors import LostLogError


def check_held(topic: str, begin: Cut, end: Cut, starts: Cut, ends: Cut) -> None:
    """Raises LostLogError where an offset of [begin, end) of a topic is not in its log, from `starts` to `ends`."""
    for partition, stop in end.offsets(topic).items():
        start, first = begin.offset(topic, partition), starts.offset(topic, partition)
        if start >= stop:
            continue
        if start < first:
            raise LostLogError("LOG_TRUNCATED", topic=topic, partition=partition, begin=start, end=first)
        check_end(topic, partition, stop, ends)


def count_deleted(origin: int, start: int) -> int:
    """Offsets that Kafka has let go since the origin, which lies below 0 where the topic was made anew since."""
    return start - max(origin, 0)


def check_end(topic: str, partition: int, known: int, ends: Cut) -> None:
    """Raises LostLogError where a partition's log ends before an offset that was read already."""
    if (end := ends.offset(topic, partition)) < known:
        raise LostLogError("LOG_ENDS_EARLY", topic=topic, partition=partition, end=end, known=known)
