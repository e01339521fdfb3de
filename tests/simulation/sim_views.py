"""The catalogs of the simulation: views as the layers know them, and what they mean by a plain fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sim_log import Message

from tideline.definition import ViewDefinition
from tideline.measures import Count, CountBy, First, Last, Measure, Sum
from tideline.source import SourceDefinition
from tideline.types import Column, parse_schema, parse_type

BIGINT, STRING = parse_type("bigint"), parse_type("string")
KEY = (Column("k", STRING),)
WIDTH = 10
BREAKING = -8  # the value on which a view cannot be folded
REJECTED = 7  # the value that the expressions of some views fail on


def _source(name: str, kind: str, horizon: int) -> SourceDefinition:
    schema = parse_schema(f"id string, k string, x {kind}, at timestamp")
    return SourceDefinition(name, name, schema, "at", "id" if horizon else None, None, None, horizon)


NARROW_T, WIDE_T, U = _source("t", "int", 6), _source("t", "bigint", 6), _source("u", "bigint", 0)

STATES: dict[str, Callable[[Message], Any]] = {
    "count": lambda m: 1,
    "sum": lambda m: [1, m.value],
    "first": lambda m: [m.time, m.partition, m.offset, m.value],
    "last": lambda m: [m.time, m.partition, m.offset, m.value],
    "count_by": lambda m: {str(m.value % 3): 1},
}
ANSWERS: dict[str, Callable[[list[Message]], Any]] = {
    "count": len,
    "sum": lambda ms: sum(m.value for m in ms),
    "first": lambda ms: min(ms, key=lambda m: (m.time, m.partition, m.offset)).value,
    "last": lambda ms: max(ms, key=lambda m: (m.time, m.partition, m.offset)).value,
    "count_by": lambda ms: {c: n for c in "012" if (n := sum(str(m.value % 3) == c for m in ms))},
}


@dataclass(frozen=True)
class Meaning:
    """A view, and the filter that stands for all of its expressions."""

    view: ViewDefinition
    source: SourceDefinition
    smallest: int
    rejects: bool
    breaks_on: int | None = None

    def takes(self, message: Message) -> bool:
        return message.value >= self.smallest and not self.refuses(message)

    def refuses(self, message: Message) -> bool:
        return self.rejects and message.value == REJECTED

    def breaks(self, message: Message) -> bool:
        """Whether the view, and no other, cannot be folded where there is such a message."""
        return message.value == self.breaks_on

    def place(self, message: Message) -> tuple[tuple[str | None, ...], int | None]:
        key = (message.key,) if self.view.key else ()
        return key, None if self.view.bucket is None else message.time // self.view.bucket * self.view.bucket

    def states(self, message: Message) -> list[Any]:
        return [STATES[m.kind](message) for m in self.view.measures.values()]

    def answer(self, messages: list[Message]) -> dict[str, Any]:
        return {name: ANSWERS[m.kind](messages) for name, m in self.view.measures.items()}


def _meaning(
    fingerprint: str,
    source: SourceDefinition,
    measures: Mapping[str, Measure],
    key: tuple[Column, ...] = KEY,
    bucket: int | None = None,
    keep: int | None = None,
    smallest: int = -1000,
    rejects: bool = False,
    breaks_on: int | None = None,
) -> Meaning:
    resolved = {n: m.resolve(STRING if m.kind == "count_by" else BIGINT) for n, m in measures.items()}
    name = fingerprint.rstrip("0123456789")
    view = ViewDefinition(name, source.name, fingerprint, key, bucket, keep, resolved, {}, {}, None)
    return Meaning(view, source, smallest, rejects, breaks_on)


MEANINGS = {
    meaning.view.fingerprint: meaning
    for meaning in (
        _meaning("v1", NARROW_T, {"n": Count(), "sum": Sum("x"), "last": Last("x")}, bucket=WIDTH, rejects=True),
        _meaning("v2", NARROW_T, {"n": Count(), "by": CountBy("x")}, bucket=WIDTH, smallest=0),
        _meaning("v3", NARROW_T, {"sum": Sum("x")}),
        _meaning("v4", WIDE_T, {"n": Count(), "sum": Sum("x")}, bucket=WIDTH, rejects=True),
        _meaning("w1", NARROW_T, {"n": Count(), "first": First("x")}, key=()),
        _meaning("w2", WIDE_T, {"n": Count(), "first": First("x")}, key=()),
        _meaning("y1", NARROW_T, {"n": Count()}, bucket=WIDTH, keep=2 * WIDTH),
        _meaning("z1", NARROW_T, {"n": Count()}, key=()),
        _meaning("z2", NARROW_T, {"sum": Sum("x")}, key=(), breaks_on=BREAKING),
        _meaning("x1", U, {"sum": Sum("x")}),
    )
}
CATALOGS = [
    ("v1", "w1", "y1"),
    ("v2", "w1", "x1", "y1 for longer"),
    ("v3", "y1", "z1", "z2"),
    ("v4", "w2", "x1"),
    ("v1", "w1", "y1 for longer", "x1", "z2"),
    ("w2",),
]


def views(catalog: int) -> list[Meaning]:
    """What a catalog declares; `for longer` keeps its buckets twice as long, which is no other view."""
    found = []
    for name in CATALOGS[catalog]:
        fingerprint, _, longer = name.partition(" ")
        meaning = MEANINGS[fingerprint]
        if longer and meaning.view.keep:
            meaning = replace(meaning, view=replace(meaning.view, keep=2 * meaning.view.keep))
        found.append(meaning)
    return found
