"""Where the time of a micro-batch goes: Spark's own durations of a query, and ours within `addBatch`."""

from __future__ import annotations

import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from pyspark.sql import SparkSession

from speed_layer.fold import SparkFolder
from speed_layer.layer import SpeedLayer
from tideline.spark.prepared import PreparedQuery

OURS: dict[str, tuple[type, str]] = {
    "whole": (SpeedLayer, "fold"),
    "read": (SparkFolder, "_read_small"),
    "decode and find repeats": (SparkFolder, "_decoded_here"),
    "fold": (PreparedQuery, "run"),
    "topics": (SpeedLayer, "check_topics"),
    "commit": (SpeedLayer, "_commit"),
}
BESIDE = ("topics", "commit")
"""While Spark plans the next micro-batch."""
SPARKS = {
    "latestOffset": "offsets",
    "walCommit": "offset log",
    "queryPlanning": "planning",
    "commitOffsets": "commit log",
    "getBatch": "batch",
    "triggerExecution": "cycle",
    "addBatch": "add",
}
Times = dict[str, list[float]]
"""Milliseconds by part, one for each micro-batch."""


@contextmanager
def timed(spark: SparkSession) -> Iterator[Callable[[], dict[str, float]]]:
    """Times what runs within; the function returned gives the median milliseconds of the later half, by part."""
    times: Times = defaultdict(list)

    def timing(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                times[name].append((time.perf_counter() - began) * 1000)
                if name == "whole":
                    _progress(spark, times)

        return call

    patches = [patch.object(kind, name, timing(part, getattr(kind, name))) for part, (kind, name) in OURS.items()]
    for one in patches:
        one.start()
    try:
        yield lambda: _shares(times)
    finally:
        for one in patches:
            one.stop()


def _progress(spark: SparkSession, times: Times) -> None:
    """Takes in what Spark says of the micro-batch before."""
    for query in spark.streams.active:
        progress: Any = query.lastProgress
        if progress is not None and "addBatch" in progress["durationMs"]:
            for name, milliseconds in progress["durationMs"].items():
                times[SPARKS.get(name, name)].append(milliseconds)


def _shares(times: Times) -> dict[str, float]:
    found = {name: statistics.median(of[len(of) // 2 :]) for name, of in times.items()}
    whole, add = found.pop("whole"), found.pop("add", 0.0)
    within = sum(found.get(name, 0.0) for name in OURS if name not in BESIDE)
    found["states, plans and the rest of ours"] = whole - within
    found["Spark around ours, and the wait for the commit before"] = add - whole
    return {name: round(milliseconds, 1) for name, milliseconds in found.items()}
