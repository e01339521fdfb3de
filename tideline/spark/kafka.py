"""Ranges of Kafka's log as DataFrames: each task reads a piece of one partition, and decodes it where it reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True)
class LogRange:
    """[begin, end) of a topic of the Kafka at `bootstrap`."""

    bootstrap: str
    topic: str
    begin: Cut
    end: Cut

    def pieces(self, wanted: int) -> list[Piece]:
        """About as many as wanted, of about a size; at least one for each partition."""
        ends = self.end.offsets(self.topic).items()
        ranges = [(p, first, after) for p, after in ends if (first := self.begin.offset(self.topic, p)) < after]
        usual = sum(map(_size, ranges)) / wanted
        pieces = []
        for partition, first, after in ranges:
            count = min(max(1, round((after - first) / usual)), after - first)
            edges = [first + (after - first) * number // count for number in range(count + 1)]
            pieces += [(partition, low, high) for low, high in pairwise(edges)]
        return pieces

    def shares(self, count: int, wanted: int) -> list[list[Piece]]:
        """The same in at most so many shares of about a size."""
        shares: list[list[Piece]] = [[] for _ in range(count)]
        for piece in sorted(self.pieces(wanted), key=_size, reverse=True):
            min(shares, key=lambda share: sum(map(_size, share))).append(piece)
        return [share for share in shares if share]

    def read(self, pieces: Sequence[Piece], columns: Sequence[str], then: Then) -> Iterator[pa.RecordBatch]:
        """What `then` makes of some pieces, one after another; the next is fetched while one is read."""
        ahead = [self._reader(piece) for piece in pieces[:1]]
        try:
            for number, (partition, _, after) in enumerate(pieces, 1):
                with ahead.pop() as reader:
                    ahead += [self._reader(piece) for piece in pieces[number : number + 1]]
                    yield from then(reader.read({partition: after}, columns))
        finally:
            for reader in ahead:
                reader.close()

    def _reader(self, piece: Piece) -> KafkaReader:
        partition, first, _ = piece
        return KafkaReader(self.bootstrap, self.topic, {partition: first})


def _size(piece: Piece) -> int:
    _, first, after = piece
    return after - first


def kafka_records(
    spark: SparkSession, bootstrap: str, topic: str, begin: Cut, end: Cut, columns: Sequence[str]
) -> DataFrame:
    """The record columns of [begin, end) of a topic. A range that Kafka lacks fails the job."""
    schema = ", ".join(f"{name} {RECORD_TYPES[name]}" for name in columns)
    return _read(spark, LogRange(bootstrap, topic, begin, end), columns, lambda batches: batches, schema)


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
    log = LogRange(bootstrap, source.topic, begin, end)
    return _read(spark, log, read_columns(source, keep), decoded, schema)


def kafka_folds(spark: SparkSession, bootstrap: str, plan: FoldPlan, begin: Cut, end: Cut) -> list[Tables] | None:
    """[begin, end) of a topic folded where it is read, a result for each part of it; of a plan that is plain, and
    where no event is looked for that repeats another. None where the events are not as plain as the plan.
    """
    keep, columns = plan.record_columns, plan.event_columns
    decoded = decoding(plan.source, keep, columns)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return folds(plan, map(_of_no_repeats, decoded(batches)))

    log = LogRange(bootstrap, plan.source.topic, begin, end)
    found = _read(spark, log, read_columns(plan.source, keep), run, PACKED)
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
    spark: SparkSession | None, log: LogRange, columns: Sequence[str], then: Then, schema: pa.Schema
) -> pa.Table:
    """What `then` makes of each piece of a range; without a session in two threads of this process.

    JSON and Parquet hold no other thread up; Python's own part does: so many records are better read by tasks. Raises
    KafkaFault then.
    """
    if spark is not None:
        return _read(spark, log, columns, then, from_arrow_schema(schema)).toArrow()

    def run(share: Sequence[Piece]) -> list[pa.RecordBatch]:
        return list(log.read(share, columns, then))

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(chain.from_iterable(pool.map(run, log.shares(_THREADS, 1))))
    return pa.Table.from_batches(found, schema)


def _read(
    spark: SparkSession, log: LogRange, columns: Sequence[str], then: Then, schema: str | StructType
) -> DataFrame:
    cores = spark.sparkContext.defaultParallelism
    shares = log.shares(cores, _PIECES * cores)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        collect_seldom_here()
        for batch in batches:
            for number in batch.column("id").to_pylist():
                try:
                    yield from log.read(shares[number], columns, then)
                except KafkaFault as fault:
                    raise of_worker(fault) from None

    numbers = spark.range(0, len(shares), 1, max(1, len(shares)))
    return plain_headers(numbers.mapInArrow(run, schema))
