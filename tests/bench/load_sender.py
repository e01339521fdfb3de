"""An open-loop sender: event i is due at `begins + i / rate`, whatever became of those before it.

Event i goes to partition i mod P, in order, so that an offset names its event and so the moment at which it was due.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

from engine import serve
from kafka import KafkaProducer
from sales import Sales

SEED, POOL = 17, 50_000  # of the events, which come again and again


class Load:
    """One stream of events."""

    def __init__(self) -> None:
        self._sent = 0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, **options: Any) -> dict[str, Any]:
        """Begins to send; says when (`time.time()`) the first event is due. No offset of the topic may be taken yet."""
        begins = time.time() + 1.0
        thread = threading.Thread(target=self._send, args=(begins,), kwargs=options)
        thread.start()
        self._threads.append(thread)
        return {"begins": begins}

    def stop(self) -> dict[str, Any]:
        """Sends no more; how many were sent."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        return {"sent": self._sent}

    def _send(self, begins: float, bootstrap: str, topic: str, partitions: int, rate: float) -> None:
        pool = [event.value.partition(b",")[2] for event in Sales(SEED).events(POOL)]
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=2,
            batch_size=64 << 10,
            metrics_enabled=False,
        )
        producer.partitions_for(topic)
        numbers = itertools.count()
        while not self._stopping.is_set():
            due = int((time.time() - begins) * rate) + 1
            while self._sent < due:
                number = next(numbers)
                value = b'{"line_id":"x%d",%b' % (number, pool[number % POOL])
                producer.send(topic, value, partition=number % partitions)
                self._sent = number + 1
            time.sleep(0.001)
        producer.flush()
        producer.close()


if __name__ == "__main__":
    load = Load()
    serve(start=load.start, stop=load.stop)
