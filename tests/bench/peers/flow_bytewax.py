"""The dataflow of `engine_bytewax.py`, one worker's part of it in each process."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition

FOLDER = Path(os.environ["BENCH_FOLDER"])
FOLDER.joinpath(f"{os.getpid()}.start").write_text(str(time.monotonic()))


class Keep(StatelessSinkPartition[tuple[str, tuple[str, list[Any]]]]):
    """Keeps what comes, and writes it to a file at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: dict[str, dict[str, list[Any]]] = {}

    def write_batch(self, items: list[tuple[str, tuple[str, list[Any]]]]) -> None:
        for view, (key, values) in items:
            self.found.setdefault(view, {})[key] = values

    def close(self) -> None:
        FOLDER.joinpath(f"{self.name}.json").write_text(json.dumps(self.found), "utf-8")


class Kept(DynamicSink[tuple[str, tuple[str, list[Any]]]]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> Keep:
        return Keep(f"{step_id}-{worker_index}")


def take(state: list[Any], sale: dict[str, Any]) -> list[Any]:
    state[0] += 1
    state[1] += sale["quantity"]
    state[2] = max(state[2], sale["price"])
    return state


def take_two(state: list[Any], sale: dict[str, Any]) -> list[Any]:
    state[0] += 1
    state[1] += sale["quantity"]
    return state


flow = Dataflow("drain")
source = KafkaSource([os.environ["BENCH_BOOTSTRAP"]], [os.environ["BENCH_TOPIC"]], tail=False, batch_size=10_000)
sales = op.map("decode", op.input("read", flow, source), lambda message: orjson.loads(message.value))
keys = {
    "by_product": lambda sale: sale["product"],
    "by_customer": lambda sale: sale["customer"],
    "by_hour": lambda sale: f"{sale['country']} {sale['sold_at'][:13]}",
}
for view, key in keys.items():
    keyed = op.key_on(f"key_{view}", sales, key)
    if view == "by_customer":
        states = op.fold_final(f"fold_{view}", keyed, lambda: [0, 0], take_two)
    else:
        states = op.fold_final(f"fold_{view}", keyed, lambda: [0, 0, 0.0], take)
    op.output(f"keep_{view}", op.map(f"name_{view}", states, lambda row, view=view: (view, row)), Kept())
