"""The one Structured Streaming query over all topics, and its restart when the topics change."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4j.java_gateway import java_import
from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.classic.dataframe import DataFrame as ClassicDataFrame
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter
from pyspark.sql.utils import ForeachBatchFunction

from speed_layer.fold import SparkFolder
from speed_layer.layer import Ready, SpeedLayer
from speed_layer.offsets import OffsetLog
from tideline.cut import Cut
from tideline.errors import OutsideError, TidelineError
from tideline.ledger import Ledger
from tideline.plans import topics
from tideline.runtime import kafka_access
from tideline.runtime.topics import KafkaFault, topic_partitions
from tideline.spark.faults import disk_fault, table_faults

log = logging.getLogger(__name__)
_AWAY = 1.0  # seconds between two attempts to reach a Kafka that is away
_LOOK = 0.5  # seconds between two looks at the ledger's topics
_LAST_CYCLE = 10.0  # seconds that a micro-batch may still take when the query is to end
_CHECKPOINTS = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"


class _EachMicroBatch(ForeachBatchFunction):
    """Hands micro-batches over in the session at hand; Spark's own makes one for each, with six calls to the JVM."""

    def call(self, jdf: Any, batch_id: int) -> None:
        try:
            self.func(ClassicDataFrame(jdf, self.session), batch_id)
        except Exception as error:
            self.error = error
            raise


def _call_each(spark: SparkSession, writer: DataStreamWriter, each: Callable[[DataFrame, int], None]) -> None:
    """`writer.foreachBatch(each)`."""
    gateway: Any = spark.sparkContext._gateway
    java_import(gateway.jvm, "org.apache.spark.sql.execution.streaming.sources.*")
    gateway.jvm.PythonForeachBatchHelper.callForeachBatch(writer._jwrite, _EachMicroBatch(spark, each))
    start_callbacks: Any = ensure_callback_server_started
    start_callbacks(gateway)


def offsets_json(cut: Cut, partitions: Mapping[str, Sequence[int]]) -> str:
    """A cut as Spark's Kafka source takes it, with every one of these partitions listed."""
    return json.dumps({topic: {str(p): cut.offset(topic, p) for p in ids} for topic, ids in partitions.items()})


def _done() -> Future[Any]:
    """Of nothing that was to be done."""
    future: Future[Any] = Future()
    future.set_result(None)
    return future


class SpeedQuery:
    """Runs the query until it is told to stop. Its checkpoint is thrown away: the ledger knows the cut.

    The query says when there is something to read, and which range; a micro-batch's records are read by the folder. It
    is committed while Spark plans the next one. That one is folded once this one is merged, while the store writes it.
    """

    def __init__(self, layer: SpeedLayer, folder: SparkFolder, scratch: Path, trigger: str, max_offsets: int) -> None:
        self._layer = layer
        self._folder = folder
        self._spark = folder.spark
        self._bootstrap = folder.bootstrap
        self._scratch = scratch
        self._trigger = trigger
        self._max_offsets = max_offsets
        self._error: BaseException | None = None
        self._cycle = threading.Lock()
        self._ending = False
        self._commits = ThreadPoolExecutor(1, "commit")
        self._commit: Future[None] = _done()
        self._merged: Future[Ledger | None] = _done()

    def run(self, stopping: threading.Event, on_start: Callable[[], None] = lambda: None) -> None:
        """Reads until `stopping` is set. Raises what ended the query otherwise.

        Once it has read, it waits for a Kafka that is away: a restart would cost it a JVM, and say no more.
        """
        conf = self._spark.conf
        conf.set("spark.sql.streaming.checkpointFileManagerClass", _CHECKPOINTS)
        conf.set("spark.sql.streaming.checkpoint.fileChecksum.enabled", "false")
        runs, reading = 0, False

        def started() -> None:
            nonlocal reading
            reading = True
            on_start()

        try:
            while not stopping.is_set():
                runs += 1
                try:
                    self._run_once(self._scratch / f"speed-{runs}", stopping, started)
                except KafkaFault as fault:
                    if fault.condition != "KAFKA_UNREACHABLE" or not reading:
                        raise
                    log.warning("waiting for Kafka: %s", fault, extra=self._layer.told())
                    stopping.wait(_AWAY)
        finally:
            self._commits.shutdown()  # the store is still there

    def _topics(self) -> list[str]:
        with self._layer.store.snapshot() as snapshot:
            return topics(snapshot.ledger)

    def _run_once(self, checkpoint: Path, stopping: threading.Event, on_start: Callable[[], None]) -> None:
        shutil.rmtree(checkpoint, ignore_errors=True)
        names = self._topics()
        wait([self._commit])  # of the run before
        start = self._layer.start()
        offsets = OffsetLog(checkpoint, start)
        self._error, self._ending = None, False
        self._commit, self._merged = _done(), _done()

        def each(_: DataFrame, batch_id: int) -> None:
            with self._cycle:
                if self._ending:
                    return
                with self._noting():
                    known = self._merged.result()
                    if self._commit.done():
                        self._commit.result()
                        known = None
                    ready = self._layer.fold(*offsets.range(batch_id), known)
                    if not self._ending:
                        self._submit(ready)

        partitions = topic_partitions(self._bootstrap, names)
        options = {
            **kafka_access.spark(self._bootstrap),
            "kafka.isolation.level": "read_committed",
            "subscribe": ",".join(names),
            "startingOffsets": offsets_json(start, partitions),
            "maxOffsetsPerTrigger": str(self._max_offsets),
        }
        stream = self._spark.readStream.format("kafka").options(**options).load()
        writer = stream.writeStream.option("checkpointLocation", str(checkpoint))
        _call_each(self._spark, writer, each)
        with table_faults(checkpoint):
            query = writer.trigger(processingTime=self._trigger).start()
        on_start()
        try:
            while not stopping.is_set() and self._topics() == names and self._error is None:
                if stopping.wait(_LOOK) or not query.isActive:
                    break
            error = query.exception() or self._error
            if error is not None:
                raise self._cause(error) from error
        finally:
            self._stop(query)
            shutil.rmtree(checkpoint, ignore_errors=True)

    def _submit(self, ready: Ready) -> None:
        """Commits in the thread of commits, after those before."""
        merged: Future[Ledger | None] = Future()

        def commit() -> None:
            with self._noting():
                try:
                    self._layer.commit(ready, merged.set_result)
                except BaseException as error:
                    if not merged.done():
                        merged.set_exception(error)
                    raise

        self._merged, self._commit = merged, self._commits.submit(commit)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Keeps what is raised first: Spark hands on its text alone."""
        try:
            yield
        except BaseException as error:
            self._error = self._error or error
            raise

    def _stop(self, query: StreamingQuery) -> None:
        """Ends the query between two micro-batches: Spark interrupts what runs, which ends in long stack traces."""
        self._ending = True
        if self._cycle.acquire(timeout=_LAST_CYCLE):
            wait([self._commit], _LAST_CYCLE)
            self._folder.close()
            self._cycle.release()
        if query.isActive:
            query.stop()

    def _cause(self, error: BaseException) -> BaseException:
        if isinstance(self._error, TidelineError) and not isinstance(self._error, KafkaFault):
            return self._error
        # Whatever is wrong with the log shows first as lost records.
        try:
            with self._layer.store.snapshot() as snapshot:
                self._layer.check_log(snapshot.ledger)
        except TidelineError as better:
            return better
        full = disk_fault(self._error or error, self._scratch)
        if full is not None:
            return full
        if self._error is not None:
            return self._error
        text = str(error)
        line = next((line for line in text.splitlines() if "Exception" in line), text.splitlines()[0] if text else "")
        return OutsideError("QUERY_FAILED", f"the speed layer's query ended: {line.strip()}", "see the log above")
