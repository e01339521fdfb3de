"""Ranges of Kafka's log as DataFrames: each task reads a piece of one partition, and decodes it where it reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from tideline.collect import PACKED, Tables
from tideline.cut import Cut
from tideline.decode import decode_batch, decoded_from
from tideline.fold_plan import FoldPlan
from tideline.kafka_reader import KafkaReader
from tideline.runtime.collector import collect_seldom_here
from tideline.runtime.topics import KafkaFault
from tideline.source import SourceDefinition
from tideline.spark.events import RECORD_TYPES, event_schema, plain_headers
from tideline.spark.faults import of_worker
from tideline.spark.worker_folds import folds, results

_THREADS = 2
_PIECES = 2  # of the log for each core, where partitions are not of a size
Piece = tuple[int, int, int]
"""A partition, its first offset, the one after its last."""
Then = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""What becomes of the batches of a piece."""


def kafka_records(
    spark: SparkSession, bootstrap: str, topic: str, begin: Cut, end: Cut, columns: Sequence[str]
) -> DataFrame:
    """The record columns of [begin, end) of a topic. A range that Kafka lacks fails the job."""
    schema = ", ".join(f"{name} {RECORD_TYPES[name]}" for name in columns)
    return _read(spark, bootstrap, topic, begin, end, columns, lambda batches: batches, schema)


def kafka_events(
    spark: SparkSession,
    bootstrap: str,
    source: SourceDefinition,
    begin: Cut,
    end: Cut,
    keep: Sequence[str],
    columns: Sequence[str] | None = None,
) -> DataFrame:
    """[begin, end) of a source's topic as `decode` makes it of records."""
    decoded = decoding(source, keep, columns)
    schema = event_schema(source, keep, columns)
    return _read(spark, bootstrap, source.topic, begin, end, read_columns(source, keep), decoded, schema)


def kafka_folds(spark: SparkSession, bootstrap: str, plan: FoldPlan, begin: Cut, end: Cut) -> list[Tables] | None:
    """[begin, end) of a topic folded where it is read, a result for each part of it; of a plan that is plain, and
    where no event is looked for that repeats another. None where the events are not as plain as the plan.
    """
    keep, columns = plan.record_columns, plan.event_columns
    decoded = decoding(plan.source, keep, columns)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return folds(plan, map(_of_no_repeats, decoded(batches)))

    read = read_columns(plan.source, keep)
    found = _read(spark, bootstrap, plan.source.topic, begin, end, read, run, PACKED)
    return results(found.toArrow().to_batches())


def _of_no_repeats(events: pa.RecordBatch) -> pa.RecordBatch:
    return events.append_column("_duplicate", pa.array(np.zeros(len(events), np.bool_)))


def read_columns(source: SourceDefinition, keep: Sequence[str]) -> list[str]:
    """The record columns from which `decoding` makes what it keeps."""
    return list(dict.fromkeys([*keep, *decoded_from(source)]))


def decoding(source: SourceDefinition, keep: Sequence[str], columns: Sequence[str] | None) -> Then:
    """Batches of records as `decode_batch` decodes them."""
    return lambda batches: (decode_batch(source, batch, keep, columns) for batch in batches)


def collect_pieces(
    spark: SparkSession | None,
    bootstrap: str,
    topic: str,
    begin: Cut,
    end: Cut,
    columns: Sequence[str],
    then: Then,
    schema: pa.Schema,
) -> pa.Table:
    """What `then` makes of each piece of [begin, end); without a session in two threads of this process.

    What takes long of it, Kafka's client, JSON and Parquet, holds no other thread up. Raises KafkaFault then.
    """
    if spark is not None:
        return _read(spark, bootstrap, topic, begin, end, columns, then, from_arrow_schema(schema)).toArrow()

    pieces = pieces_of(topic, begin, end, 1)
    ahead: dict[int, KafkaReader] = {}  # which fetch already

    def run(number: int) -> list[pa.RecordBatch]:
        with ahead.pop(number, None) or _reader(bootstrap, topic, pieces[number]) as reader:
            if number + _THREADS < len(pieces):
                ahead[number + _THREADS] = _reader(bootstrap, topic, pieces[number + _THREADS])
            return list(then(_read_piece(reader, pieces[number], columns)))

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(chain.from_iterable(pool.map(run, range(len(pieces)))))
    finally:
        for reader in ahead.values():
            reader.close()
    return pa.Table.from_batches(found, schema)


def _reader(bootstrap: str, topic: str, piece: Piece) -> KafkaReader:
    partition, first, _ = piece
    return KafkaReader(bootstrap, topic, {partition: first})


def _read_piece(reader: KafkaReader, piece: Piece, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    partition, _, after = piece
    return reader.read({partition: after}, columns)


def _read(
    spark: SparkSession,
    bootstrap: str,
    topic: str,
    begin: Cut,
    end: Cut,
    columns: Sequence[str],
    then: Then,
    schema: str | StructType,
) -> DataFrame:
    pieces = pieces_of(topic, begin, end, _PIECES * spark.sparkContext.defaultParallelism)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        collect_seldom_here()
        for batch in batches:
            for number in batch.column("id").to_pylist():
                try:
                    with _reader(bootstrap, topic, pieces[number]) as reader:
                        yield from then(_read_piece(reader, pieces[number], columns))
                except KafkaFault as fault:
                    raise of_worker(fault) from None

    numbers = spark.range(0, len(pieces), 1, max(1, len(pieces)))
    return plain_headers(numbers.mapInArrow(run, schema))


def pieces_of(topic: str, begin: Cut, end: Cut, wanted: int) -> list[Piece]:
    """[begin, end) of a topic in about as many pieces as wanted, of a size; at least one for each partition."""
    ranges = [(p, first, after) for p, after in end.offsets(topic).items() if (first := begin.offset(topic, p)) < after]
    most = -(-sum(after - first for _, first, after in ranges) // wanted)
    pieces = []
    for partition, first, after in ranges:
        count = -(-(after - first) // most)
        edges = [first + (after - first) * number // count for number in range(count + 1)]
        pieces += [(partition, low, high) for low, high in pairwise(edges)]
    return pieces
