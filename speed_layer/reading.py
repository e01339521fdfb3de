"""Small ranges of the log, read in the driver: a reader for each topic, which goes on where it ended."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tideline.cut import Cut
from tideline.kafka_reader import KafkaReader, record_batch


class SmallReads:
    """The readers of the topics of micro-batches that are few records. Raises KafkaFault, as `KafkaReader` does."""

    def __init__(self, bootstrap: str, most_bytes: int) -> None:
        self.bootstrap = bootstrap
        self.most_bytes = most_bytes
        self._readers: dict[str, KafkaReader] = {}

    def read(self, topic: str, start: Cut, stop: Cut, columns: Sequence[str]) -> pa.RecordBatch | None:
        """The records of [start, stop) with these record columns; None where they are more than `most_bytes`."""
        end = stop.offsets(topic)
        reader = self._reader(topic, {partition: start.offset(topic, partition) for partition in end})
        batches, size = [record_batch([], columns)], 0
        for batch in reader.read(end, columns):
            batches.append(batch)
            size += batch.nbytes
            if size > self.most_bytes:
                return None
        return batches[-1] if len(batches) <= 2 else _joined(batches)

    def _reader(self, topic: str, begin: dict[int, int]) -> KafkaReader:
        reader = self._readers.get(topic)
        if reader is None or not reader.stands_at(begin):
            self.close(topic)
            reader = self._readers[topic] = KafkaReader(self.bootstrap, topic, begin)
        return reader

    def keep(self, topics: set[str]) -> None:
        """Ends the readers of other topics."""
        for topic in self._readers.keys() - topics:
            self.close(topic)

    def close(self, topic: str) -> None:
        """Ends the reader of a topic, where there is one."""
        reader = self._readers.pop(topic, None)
        if reader is not None:
            reader.close()


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    (batch,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return batch
