"""Large ranges of Kafka in which repeats are looked for: decoded into files, and folded from them once the ids of all
of a range are known."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from tideline.collect import Tables
from tideline.cut import Cut
from tideline.duplicates import Offsets
from tideline.fold_plan import FoldPlan
from tideline.spark.kafka import LogRange, collect_pieces, decoding, read_columns
from tideline.spark.piece_files import TOLD, PieceFile, Telling, piece_files
from tideline.spark.worker_folds import folds, results


def spool(spark: SparkSession, bootstrap: str, plan: FoldPlan, begin: Cut, end: Cut, folder: Path) -> list[PieceFile]:
    """Decodes [begin, end) into files of a folder, of the columns that a plan's fold reads. A range that Kafka lacks
    fails the job."""
    source, keep = plan.source, plan.record_columns
    decoded = decoding(source, keep, plan.event_columns)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        events = decoded(batches)
        for first in events:
            path, telling = folder / f"{uuid.uuid4()}.arrow", Telling(source)
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema) as writer:
                for batch in chain([first], events):
                    writer.write_batch(batch)
                    telling.add(pa.Table.from_batches([batch]))
            yield telling.told(path)

    log = LogRange(bootstrap, source.topic, begin, end)
    told = collect_pieces(spark, log, read_columns(source, keep), run, TOLD)
    return piece_files(told, folder)


def spool_folds(
    spark: SparkSession, plan: FoldPlan, files: Sequence[PieceFile], repeated: Mapping[int, Offsets]
) -> list[Tables] | None:
    """What was spooled, folded in the driver, which takes less time than to start a job; a result for each part.

    `repeated` are the offsets of repeats, by partition. None where the events are not as plain as the plan.
    """

    def fold(file: PieceFile) -> list[Tables] | None:
        return results(folds(plan, _marked(file.path, repeated.get(file.partition, np.empty(0, np.int64)))))

    with ThreadPoolExecutor(spark.sparkContext.defaultParallelism) as pool:
        found = list(pool.map(fold, files))
    parts = [part for part in found if part is not None]
    return None if len(parts) < len(found) else list(chain.from_iterable(parts))


def _marked(path: Path, repeated: Offsets) -> Iterator[pa.RecordBatch]:
    """A file's records with `_duplicate`, which holds at these offsets."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            marks = np.isin(batch.column("_offset").to_numpy(), repeated)
            yield batch.append_column("_duplicate", pa.array(marks))
