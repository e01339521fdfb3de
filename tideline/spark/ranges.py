"""Ranges of the log as DataFrames: from Kafka with explicit offsets, and from the master dataset."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from tideline.cut import Cut
from tideline.source import SourceDefinition
from tideline.spark.events import RECORD_TYPES, decode, identity_sql, kafka_options, offsets_json, records

MASTER_COLUMNS = ("_partition", "_offset", "_timestamp", "_hash", "_key", "_headers", "_value")


def range_sql(topic: str, begin: Cut, end: Cut) -> str:
    """SQL that holds for the records of [begin, end), by `_partition` and `_offset`."""
    terms = [
        f"(_partition = {partition} and _offset >= {begin.offset(topic, partition)} and _offset < {offset})"
        for partition, offset in end.offsets(topic).items()
        if offset > begin.offset(topic, partition)
    ]
    return " or ".join(terms) or "false"


def is_empty(topic: str, begin: Cut, end: Cut) -> bool:
    """Whether [begin, end) holds no offset of a topic."""
    return all(offset <= begin.offset(topic, partition) for partition, offset in end.offsets(topic).items())


def kafka_records(spark: SparkSession, bootstrap: str, topic: str, begin: Cut, end: Cut) -> DataFrame:
    """The records of [begin, end) of a topic, read from Kafka; a range that Kafka lacks fails the job."""
    partitions = {topic: [p for p, offset in end.offsets(topic).items() if offset > begin.offset(topic, p)]}
    assign = str({topic: partitions[topic]}).replace("'", '"')
    options = {k: v for k, v in kafka_options(bootstrap, [topic]).items() if k != "subscribe"}
    rows = (
        spark.read.format("kafka")
        .options(
            **options,
            assign=assign,
            startingOffsets=offsets_json(begin, partitions),
            endingOffsets=offsets_json(end, partitions),
        )
        .load()
    )
    return records(rows, MASTER_COLUMNS)


def master_records(spark: SparkSession, path: Path, topic: str, begin: Cut, end: Cut) -> DataFrame:
    """The records of [begin, end) in the master dataset, decoded, with `_reason` and `_duplicate`."""
    return spark.read.format("delta").load(str(path)).where(range_sql(topic, begin, end))


def behind(cut: Cut, topic: str, offsets: int) -> Cut:
    """The position `offsets` before a cut in every partition of a topic, at least 0."""
    return Cut({topic: {p: max(0, offset - offsets) for p, offset in cut.offsets(topic).items()}})


def least(left: Cut, right: Cut, topic: str) -> Cut:
    """The nearer of two cuts, partition by partition."""
    return Cut({topic: {p: min(offset, right.offset(topic, p)) for p, offset in left.offsets(topic).items()}})


def event_ids(
    spark: SparkSession,
    bootstrap: str,
    master: Path,
    source: SourceDefinition,
    begin: Cut,
    end: Cut,
    archived: Cut,
    decoded: bool = True,
) -> DataFrame:
    """`_partition`, `_offset` and the 16-byte `id` of every event in [begin, end), repeats included.

    What is archived comes from the master, the rest from Kafka. `decoded` says that the master was decoded as `source`
    is declared; otherwise its records are decoded again, for what is an event depends on the schema.
    """
    topic = source.topic
    middle = least(end, archived, topic)
    wanted = ["_partition", "_offset", f"{identity_sql(source)} as id"]
    frames = []
    if not is_empty(topic, begin, middle):
        known = master_records(spark, master, topic, begin, middle)
        if not decoded:
            slim = known.select("_partition", "_offset", "_timestamp", "_value")
            known = decode(slim, source, ["_partition", "_offset"])
        frames.append(known.where("_reason is null").selectExpr(*wanted))
    if not is_empty(topic, middle.advance(begin), end):
        fresh = kafka_records(spark, bootstrap, topic, middle.advance(begin), end)
        slim = fresh.select("_partition", "_offset", "_timestamp", "_value")
        frames.append(decode(slim, source, ["_partition", "_offset"]).where("_reason is null").selectExpr(*wanted))
    if not frames:
        empty = ", ".join(f"{name} {RECORD_TYPES[name]}" for name in ("_partition", "_offset"))
        return spark.createDataFrame([], f"{empty}, id binary")
    return frames[0] if len(frames) == 1 else frames[0].unionByName(frames[1])
