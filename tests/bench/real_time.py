"""Real-time mode beside the micro-batches of the speed layer: how fresh what it sends on is, once it is folded.

Contributions come in by partition, in the order of the source's offsets; each poll's are folded in Python and would be
committed with those offsets. What a store and an API add is not in the figures.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from contestants import Contestant
from load_sender import POOL, SEED
from sales import VIEWS, Answers, check, repeated

from tideline.runtime.broker import Broker
from tideline.runtime.home import Home
from tideline.runtime.topics import create_topic

TOPIC, TARGET = "sales", "contributions"
PARTITIONS = 4


class Folded:
    """The states of three views, and how far each partition was folded."""

    def __init__(self) -> None:
        self.answers: Answers = {view: {} for view in VIEWS}
        self.ends = dict.fromkeys(range(PARTITIONS), 0)

    def take(self, partition: int, value: bytes) -> int | None:
        """The offset of one record's contributions, once they are folded; None where it was before."""
        offset, quantity, price, *keys = value.decode().split("|")
        if int(offset) < self.ends[partition]:  # sent again after a restart
            return None
        self.ends[partition] = int(offset) + 1
        for view, key in zip(VIEWS, keys, strict=True):
            state = self.answers[view].setdefault(key, [0, 0] if view == "by_customer" else [0, 0, 0.0])
            state[0] += 1
            state[1] += int(quantity)
            if len(state) > 2:
                state[2] = max(state[2], float(price))
        return int(offset)


def real_time(rate: int, seconds: float, warm: float) -> dict[str, Any]:
    """Milliseconds from when an event is due to when its contributions are folded, and processors that Spark takes."""
    with tempfile.TemporaryDirectory(prefix="tideline-bench-") as folder:
        home = Home(Path(folder) / "home").prepare()
        with Broker(home) as broker, Contestant("engine_real_time.py") as job, Contestant("load_sender.py") as sender:
            for topic in (TOPIC, TARGET):
                create_topic(broker.bootstrap, topic, PARTITIONS)
            job.ask(120, do="contribute", bootstrap=broker.bootstrap, topic=TOPIC, target=TARGET)
            consumer = Consumer(
                {
                    "bootstrap.servers": broker.bootstrap,
                    "group.id": "bench",
                    "fetch.wait.max.ms": 5,
                    "fetch.min.bytes": 1,
                }
            )
            consumer.assign([TopicPartition(TARGET, partition, 0) for partition in range(PARTITIONS)])
            start = sender.ask(
                60, do="start", bootstrap=broker.bootstrap, topic=TOPIC, partitions=PARTITIONS, rate=rate
            )
            folded, processors = Folded(), 0.0
            ages: list[float] = []
            until = start["begins"] + warm + seconds
            sent, before = None, 0.0
            while sent is None or sum(folded.ends.values()) < sent:
                records = consumer.consume(10_000, 0.005)
                found = [(r.partition(), folded.take(r.partition(), r.value())) for r in records]
                now = time.time()
                for partition, offset in found:
                    if offset is not None:
                        due = start["begins"] + (offset * PARTITIONS + partition) / rate
                        if due >= start["begins"] + warm and sent is None:
                            ages.append(now - due)
                if not before and now > start["begins"] + warm:
                    before = job.spent
                if now > until and sent is None:
                    processors = round((job.spent - before) / seconds, 2)
                    sent = sender.ask(60, do="stop")["sent"]
                if now > until + 60:
                    break
            consumer.close()
            check(repeated(SEED, POOL, sent or 0), folded.answers)
    found = {f"p{share}": round(float(np.percentile(ages, share)) * 1000, 1) for share in (50, 99)}
    return {"events": len(ages), "processors": processors, **found}
