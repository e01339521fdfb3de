"""A log small enough to recompute after every step, the views over it, and the naive fold of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from tideline.cut import Cut
from tideline.ledger import Log, LogStats
from tideline.measures import Count, CountBy, First, Last, Measure, Sum
from tideline.types import Column, parse_type

BIGINT, STRING = parse_type("bigint"), parse_type("string")
KEY = (Column("k", STRING),)
WIDTH = 10
DEAD, REJECTED = -99, 7
"""Values that no schema accepts, and that the views which count rejects fail on."""


@dataclass(frozen=True)
class Record:
    """One message; its event time is its place in time, which has nothing to do with its place in the log."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: int
    time: int
    checksum: int = field(init=False)

    def __post_init__(self) -> None:
        content = repr((self.offset, self.key, self.value, self.time)).encode()
        (hashed,) = struct.unpack(">q", blake2b(content, digest_size=8).digest())
        object.__setattr__(self, "checksum", hashed)


@dataclass(frozen=True)
class ModelView:
    """A view as the merge sees it, with the filter that stands for all of its expressions."""

    name: str
    fingerprint: str
    topic: str
    key: tuple[Column, ...]
    bucket: int | None
    measures: Mapping[str, Measure]
    smallest: int = -50
    rejects: bool = False

    def definition(self) -> dict[str, Any]:
        return {"name": self.name, "source": self.topic, "fingerprint": self.fingerprint}

    def takes(self, record: Record) -> bool:
        return record.topic == self.topic and record.value >= self.smallest and not self.refuses(record)

    def refuses(self, record: Record) -> bool:
        return self.rejects and record.topic == self.topic and record.value == REJECTED

    def place(self, record: Record) -> tuple[tuple[str | None, ...], int | None]:
        key = (record.key,) if self.key else ()
        return key, None if self.bucket is None else record.time // self.bucket * self.bucket

    def row(self, record: Record) -> tuple[Any, Any, list[Any]]:
        """What the fold makes of one record: its key, bucket and states."""
        return *self.place(record), [STATES[m.kind](record) for m in self.measures.values()]


STATES: dict[str, Callable[[Record], Any]] = {
    "count": lambda r: 1,
    "sum": lambda r: [1, r.value],
    "first": lambda r: [r.time, r.partition, r.offset, r.value],
    "last": lambda r: [r.time, r.partition, r.offset, r.value],
    "count_by": lambda r: {str(r.value % 3): 1},
}
ANSWERS: dict[str, Callable[[list[Record]], Any]] = {
    "count": len,
    "sum": lambda rs: sum(r.value for r in rs),
    "first": lambda rs: min(rs, key=lambda r: (r.time, r.partition, r.offset)).value,
    "last": lambda rs: max(rs, key=lambda r: (r.time, r.partition, r.offset)).value,
    "count_by": lambda rs: {c: n for c in "012" if (n := sum(str(r.value % 3) == c for r in rs))},
}


def _resolved(measure: Measure) -> Measure:
    return measure.resolve(STRING if measure.kind == "count_by" else BIGINT)


def _measures(**measures: Measure) -> dict[str, Measure]:
    return {name: _resolved(measure) for name, measure in measures.items()}


VIEWS = {
    view.fingerprint: view
    for view in (
        ModelView("v", "v1", "t", KEY, WIDTH, _measures(n=Count(), total=Sum("x"), last=Last("x")), rejects=True),
        ModelView("v", "v2", "t", KEY, WIDTH, _measures(n=Count(), by=CountBy("x")), smallest=0),
        ModelView("v", "v3", "t", KEY, None, _measures(total=Sum("x"))),
        ModelView("w", "w1", "t", (), None, _measures(n=Count(), first=First("x"))),
        ModelView("x", "x1", "u", KEY, None, _measures(total=Sum("x"))),
    )
}


class ModelLog:
    """The topics: every record ever produced, and where each partition ends."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.end = Cut({"t": {0: 0, 1: 0}, "u": {0: 5}})
        self._answers: dict[Any, dict[Any, dict[str, Any]]] = {}

    def append(self, topic: str, partition: int, key: str | None, value: int, time: int, skip: int) -> None:
        """Adds a record after `skip` offsets that hold none, as transaction markers do."""
        offset = self.end.offset(topic, partition) + skip
        self.records.append(Record(topic, partition, offset, key, value, time))
        self.end = self.end.advance(Cut({topic: {partition: offset + 1}}))

    def between(self, begin: Cut, end: Cut) -> list[Record]:
        return [r for r in self.records if is_between(r, begin, end)]

    def answer(self, view: ModelView, begin: Cut, end: Cut) -> dict[Any, dict[str, Any]]:
        """{(key, bucket): {measure: answer}}, from the records alone."""
        memo = (view.fingerprint, begin, end)
        if memo not in self._answers:
            self._answers[memo] = self._fold(view, begin, end)
        return self._answers[memo]

    def _fold(self, view: ModelView, begin: Cut, end: Cut) -> dict[Any, dict[str, Any]]:
        groups: dict[Any, list[Record]] = {}
        for record in self.between(begin, end):
            if record.value != DEAD and view.takes(record):
                groups.setdefault(view.place(record), []).append(record)
        return {
            place: {name: ANSWERS[m.kind](records) for name, m in view.measures.items()}
            for place, records in groups.items()
        }


def is_between(record: Record, begin: Cut, end: Cut) -> bool:
    """Whether a record lies in [begin, end)."""
    first, after = (cut.offset(record.topic, record.partition) for cut in (begin, end))
    return first <= record.offset < after


def events(records: Iterable[Record]) -> list[Record]:
    """The records that decode."""
    return [record for record in records if record.value != DEAD]


def statistics(records: Iterable[Record]) -> Log:
    """What both layers count of the records that they read."""
    log: dict[str, dict[int, LogStats]] = {}
    for r in records:
        dead = r.value == DEAD
        one = LogStats(1, r.checksum, 0 if dead else 1, {"bad value": 1} if dead else {}, 0, None if dead else r.time)
        partitions = log.setdefault(r.topic, {})
        partitions[r.partition] = partitions.get(r.partition, LogStats()).merge(one)
    return log


def rejects(fingerprints: Iterable[str], records: Iterable[Record]) -> dict[str, int]:
    """{fingerprint: how many of the events the view's expressions fail on}, where there are any."""
    found = events(records)
    counts = {fingerprint: sum(map(VIEWS[fingerprint].refuses, found)) for fingerprint in fingerprints}
    return {fingerprint: count for fingerprint, count in counts.items() if count}
