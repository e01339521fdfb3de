"""The laws that make an answer exact, held against a catalog's own views, with neither Kafka nor a cluster.

The events, made up or from a file, are decoded and folded by the very code that the layers run. Then, for every view:

- *split*: folding the log in any pieces and merging the states equals folding it whole (cut invariance);
- *order*: the pieces may be merged in any order and grouping;
- *alone*: folding every event by itself and merging equals folding them together, so no expression sees another row;
- *spark*: Spark's merge of the pieces equals the serving merge;
- *arrow*: where the speed layer folds a view by Arrow, Arrow's fold of these events equals Spark's;
- *stored*: a state read back from the store is the state that was written;
- *undone*: where rows may be retracted, the log and its opposite together leave the states of no rows.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tideline.arrow_fold import ArrowFold, plain_views
from tideline.arrow_terms import NotPlain
from tideline.codec import pack_row, unpack_row
from tideline.collect import by_view, collect
from tideline.definition import ViewDefinition
from tideline.errors import UsageError
from tideline.eventfiles import EventFile
from tideline.fold_plan import FoldPlan
from tideline.plans import Folded
from tideline.source import INSERT, RETRACT, SourceDefinition, check_known
from tideline.spark.events import decode
from tideline.spark.fold import Fold
from tideline.spark.resolve import Resolved
from tideline.spark.states import merge_states, rows_of, segment_rows
from tideline.types import Column

States = dict[tuple[Any, Any], Sequence[Any]]
_EVENTS, _PIECES, _ALONE, _LIMIT = 300, 4, 8, 20_000
_START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


@dataclass(frozen=True)
class Outcome:
    """Whether a law holds for a view; `detail` names the first key and measure for which it does not."""

    view: str
    law: str
    holds: bool
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"view": self.view, "law": self.law, "holds": self.holds, "detail": self.detail}


def check_views(
    spark: SparkSession,
    resolved: Resolved,
    file: str | None = None,
    source: str | None = None,
    row_id: str | None = None,
    seed: int = 1,
) -> list[Outcome]:
    """Checks every law for every view. Raises UsageError where `file` cannot be told to belong to one source."""
    if file and source is None and len(resolved.sources) > 1:
        raise UsageError(
            "WHICH_SOURCE", "the catalog has several sources", f"name one with --source: {sorted(resolved.sources)}"
        )
    if source is not None:
        check_known(source, resolved.sources)
    outcomes = []
    for name, definition in resolved.sources.items():
        views = [view for view in resolved.views.values() if view.source == name]
        if not views or (source is not None and name != source):
            continue
        values = file_events(definition, file, row_id) if file else made_up_events(definition, seed)
        outcomes += _Check(spark, definition, views, values, seed).run()
    return outcomes


def file_events(source: SourceDefinition, file: str | Path, row_id: str | None = None) -> list[bytes]:
    """The first 20,000 events of a file as `tideline produce` would send them."""
    return [event.value for event in EventFile(file, source.schema, source.event_id, row_id, _LIMIT)]


def made_up_events(source: SourceDefinition, seed: int) -> list[bytes]:
    """JSON records that fit a source's schema, nulls, zeros and extremes among them."""
    chance = random.Random(seed)

    def event(number: int) -> bytes:
        fields = {column.name: _made_up(column, chance) for column in source.schema}
        if source.event_id:
            kind = source.column(source.event_id).type
            fields[source.event_id] = number if kind.is_integer else f"id-{number}"
        if source.event_time in fields:
            fields[source.event_time] = (_START + dt.timedelta(minutes=chance.randrange(3000))).isoformat()
        if source.operation:
            fields[source.operation] = chance.choice([None, INSERT])
        return json.dumps(fields).encode()

    events = [event(number) for number in range(_EVENTS)]
    if source.operation:
        retracted = [{**json.loads(value), source.operation: RETRACT} for value in chance.sample(events, _EVENTS // 3)]
        events += [json.dumps(fields).encode() for fields in retracted]
        chance.shuffle(events)
    return events


def _made_up(column: Column, chance: random.Random) -> Any:
    kind = column.type
    if chance.random() < 0.1:
        return None
    if kind.is_integer:
        return chance.choice([0, 1, -1, 127, chance.randrange(-100, 100)])
    if kind.is_floating:
        return chance.choice([0.0, -0.0, 1e9, chance.gauss(0, 100)])
    if kind.is_decimal:
        return f"{chance.randrange(10 ** min(kind.precision, 6)) / 10**kind.scale:.{kind.scale}f}"
    if kind.name == "boolean":
        return chance.random() < 0.5
    if kind.name == "timestamp":
        return (_START + dt.timedelta(seconds=chance.randrange(10**6))).isoformat()
    if kind.name == "date":
        return (_START.date() + dt.timedelta(days=chance.randrange(60))).isoformat()
    return chance.choice(["", "a", "b", "Ä", f"text{chance.randrange(8)}"]) if kind.name == "string" else "AAEC"


def decoded_events(spark: SparkSession, source: SourceDefinition, values: Sequence[bytes]) -> DataFrame:
    """Records decoded as the layers decode them, whatever their time; kept in memory.

    Raises UsageError NO_EVENTS where none is an event.
    """
    now = dt.datetime.now(dt.timezone.utc) if source.event_time == "_timestamp" else _START + dt.timedelta(days=3)
    far = SourceDefinition(**{**vars(source), "max_ahead": None, "max_behind": None})
    no_headers: list[Any] = []
    rows = [(n % 3, n // 3, now, b"key", no_headers, value, n) for n, value in enumerate(values)]
    schema = (
        "_partition int, _offset bigint, _timestamp timestamp, _key binary, "
        "_headers array<struct<key:string,value:binary>>, _value binary, _hash bigint"
    )
    kept = ["_partition", "_offset", "_timestamp", "_hash", "_key", "_headers"]
    records = spark.createDataFrame(rows, schema)
    events = decode(records, far, kept).withColumn("_duplicate", F.lit(False)).persist()
    if not events.where("_reason is null").count():
        reason = events.selectExpr("first(_reason)").first()
        raise UsageError(
            "NO_EVENTS",
            f"none of the {len(rows)} records is an event of {source.name}: {reason and reason[0]}",
            "see docs/decoding.md; --row-id NAME numbers the rows",
            source=source.name,
        )
    return events


class _Check:
    """One source's views over one list of records."""

    def __init__(
        self,
        spark: SparkSession,
        source: SourceDefinition,
        views: Sequence[ViewDefinition],
        values: Sequence[bytes],
        seed: int,
    ) -> None:
        self.fold = Fold(source, views)
        self.chance = random.Random(seed)
        self.count = len(values)
        self.events = decoded_events(spark, source, values)

    def run(self) -> list[Outcome]:
        whole = self._states(self._folded(self.events))
        pieces = [self.fold.aggregate(piece).persist() for piece in self._pieces()]
        parts = [self._states(self._collect(piece)) for piece in pieces]
        alone = self.events.where(f"_hash < {_ALONE}")
        single = [self._states(self._folded(alone.where(f"_hash = {n}"))) for n in range(min(_ALONE, self.count))]
        few = self._states(self._folded(alone))
        opposite = self._states(self._folded(self._opposite())) if self.fold.source.operation else {}
        by_arrow = self._by_arrow()
        outcomes = []
        for planned in self.fold.planned:
            view = planned.view

            def compare(law: str, expected: States, found: States, view: ViewDefinition = view) -> Outcome:
                return _compare(view, law, expected, found)

            mine = [part[view.fingerprint] for part in parts]
            frames = [segment_rows(piece.where(f"view = {planned.index}"), planned) for piece in pieces]
            shuffled = self.chance.sample(mine, len(mine))
            outcomes += [
                compare("split", whole[view.fingerprint], _merged(view, mine)),
                compare(
                    "order",
                    whole[view.fingerprint],
                    _merged(view, [_merged(view, shuffled[:2]), _merged(view, shuffled[2:])]),
                ),
                compare("alone", few[view.fingerprint], _merged(view, [part[view.fingerprint] for part in single])),
                compare("spark", _merged(view, mine), _by_spark(view, frames)),
                compare("stored", whole[view.fingerprint], _stored(whole[view.fingerprint])),
            ]
            if view.fingerprint in by_arrow:
                outcomes.append(compare("arrow", whole[view.fingerprint], by_arrow[view.fingerprint]))
            if opposite:
                undone = _merged(view, [whole[view.fingerprint], opposite[view.fingerprint]])
                nothing = [measure.zero() for measure in view.measures.values()]
                outcomes.append(compare("undone", dict.fromkeys(whole[view.fingerprint], nothing), undone))
        for frame in (*pieces, self.events):
            frame.unpersist()
        return outcomes

    def _by_arrow(self) -> dict[str, States]:
        """The states of the views that Arrow folds, where these events are plain enough."""
        source, events = self.fold.source, self.events.toArrow()
        found = {}
        for view in plain_views(source, self.fold.views):
            plan = FoldPlan(source, [view])
            with contextlib.suppress(NotPlain):
                rows = collect(plan, ArrowFold(plan).fold(events)).rows
                found[view.fingerprint] = {(k, bucket): states for k, bucket, states in rows.get(view.fingerprint, ())}
        return found

    def _opposite(self) -> DataFrame:
        """The events with every insertion a retraction, and the other way round."""
        name = self.fold.source.operation or ""
        return self.events.withColumn(name, F.when(F.col(name) == RETRACT, INSERT).otherwise(RETRACT))

    def _pieces(self) -> list[DataFrame]:
        """The log cut at random places, the last piece empty."""
        cuts = [0, *sorted(self.chance.randrange(self.count + 1) for _ in range(_PIECES - 2)), self.count, self.count]
        return [self.events.where(f"_hash >= {begin} and _hash < {end}") for begin, end in pairwise(cuts)]

    def _folded(self, events: DataFrame) -> Folded:
        return self._collect(self.fold.aggregate(events))

    def _collect(self, folded: DataFrame) -> Folded:
        return collect(self.fold, by_view(folded.toArrow()))

    def _states(self, folded: Folded) -> dict[str, States]:
        return {
            view.fingerprint: {(key, bucket): states for key, bucket, states in folded.rows.get(view.fingerprint, [])}
            for view in self.fold.views
        }


def _merged(view: ViewDefinition, parts: Sequence[States]) -> States:
    merged: States = {}
    for part in parts:
        for group, states in part.items():
            known = merged.get(group) or [measure.zero() for measure in view.measures.values()]
            merged[group] = [m.merge(a, b) for m, a, b in zip(view.measures.values(), known, states, strict=True)]
    return merged


def _by_spark(view: ViewDefinition, frames: Sequence[DataFrame]) -> States:
    together: Callable[[DataFrame, DataFrame], DataFrame] = DataFrame.unionByName
    table = merge_states(reduce(together, frames), view).toArrow()
    return {(key, bucket): states for key, bucket, states in rows_of(view, table)}


def _stored(states: States) -> States:
    found: States = {}
    for (key, bucket), row in states.items():
        read_key, read_bucket, read = unpack_row(pack_row(key, bucket, row))
        found[tuple(read_key), read_bucket] = list(read)
    return found


def _compare(view: ViewDefinition, law: str, expected: States, found: States) -> Outcome:
    for group in sorted({*expected, *found}, key=repr):
        if group not in expected or group not in found:
            return Outcome(view.name, law, False, f"key {group[0]}, bucket {group[1]}: only on one side")
        for (name, measure), left, right in zip(view.measures.items(), expected[group], found[group], strict=True):
            if not close(measure.canonical(left), measure.canonical(right)):
                return Outcome(
                    view.name, law, False, f"key {group[0]}, bucket {group[1]}, {name}: {left!r} against {right!r}"
                )
    return Outcome(view.name, law, True, f"{len(expected)} keys")


def close(left: Any, right: Any) -> bool:
    """Whether two canonical states are equal, doubles within 1e-9 of the larger."""
    if isinstance(left, float) and isinstance(right, float):
        return (
            left == right
            or (math.isnan(left) and math.isnan(right))
            or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-6)
        )
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(close(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)
