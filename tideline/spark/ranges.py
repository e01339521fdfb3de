"""Ranges of the log as DataFrames, as far as they come from the master dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from tideline.cut import Cut
from tideline.decode import decoded_from
from tideline.held import read_held
from tideline.identity import identified_by
from tideline.source import SourceDefinition
from tideline.spark.events import RECORD_TYPES, decode, event_ids
from tideline.spark.kafka import kafka_events
from tideline.spark.tables import read_files

Bounds = Sequence[tuple[int, int, int]]
"""Partitions, each with its first offset and the one after its last."""
MASTER_COLUMNS = ("_partition", "_offset", "_timestamp", "_hash", "_key", "_headers", "_value")


def _rows_sql(topic: str, begin: Cut, end: Cut) -> str:
    """SQL that holds for the records of [begin, end), with constants, by which Parquet knows what it need not read."""
    terms = [
        f"(_partition = {partition} and _offset >= {low} and _offset < {high})"
        for partition, low, high in bounds_of(topic, begin, end)
    ]
    return " or ".join(terms) or "false"


def bounds_of(topic: str, begin: Cut, end: Cut) -> Bounds:
    """Each partition of which there is something in [begin, end), with its first offset and the one after its last."""
    ends = end.offsets(topic).items()
    return [(p, low, high) for p, high in ends if (low := begin.offset(topic, p)) < high]


def may_hold(file: Mapping[str, Any], bounds: Bounds) -> bool:
    """Whether a file of the master has rows within bounds, as far as the table's log says what it has."""
    first, last = file.get("min._partition"), file.get("max._partition")
    least, most = file.get("min._offset"), file.get("max._offset")
    if first is None or last is None or least is None or most is None:
        return True
    return any(first <= partition <= last and least < high and most >= low for partition, low, high in bounds)


def master_records(
    spark: SparkSession, path: Path, topic: str, begin: Cut, end: Cut, version: int | None = None
) -> DataFrame:
    """The records of [begin, end) in the master dataset, decoded, with `_reason` and `_duplicate`.

    `version` is the table's, by default the newest.
    """
    bounds = bounds_of(topic, begin, end)
    rows = read_files(spark, path, lambda file: may_hold(file, bounds), version)
    return rows.where(_rows_sql(topic, begin, end))


def known_ids(
    spark: SparkSession,
    bootstrap: str,
    master: Path,
    source: SourceDefinition,
    begin: Cut,
    end: Cut,
    archived: Cut,
) -> DataFrame:
    """`_partition`, `_offset` and the 16-byte `id` of every event in [begin, end), repeats included.

    What is archived comes from the master, as far as its own log says that it holds it (invariant 4): a recovery that
    was broken off may have taken some back. The rest comes from Kafka. Where the master was not decoded as `source` is
    declared, its records are decoded again, for what is an event depends on the schema.
    """
    topic = source.topic
    frames = []
    held = read_held(master)
    middle = end.least(topic, held.part(topic, archived))
    if not begin.reaches(topic, middle):
        known = master_records(spark, master, topic, begin, middle, held.version)
        if held.metadata.get("source") != source.fingerprint:
            slim = known.select("_partition", "_offset", *decoded_from(source))
            known = decode(slim, source, ["_partition", "_offset"])
        frames.append(event_ids(known, source))
    if not middle.advance(begin).reaches(topic, end):
        places, columns = ["_partition", "_offset"], identified_by(source)
        events = kafka_events(spark, bootstrap, source, middle.advance(begin), end, places, columns)
        frames.append(event_ids(events, source))
    if not frames:
        empty = ", ".join(f"{name} {RECORD_TYPES[name]}" for name in ("_partition", "_offset"))
        return spark.createDataFrame([], f"{empty}, id binary")
    return frames[0] if len(frames) == 1 else frames[0].unionByName(frames[1])
