"""Marking repeated events in a micro-batch, whichever partitions they are in."""

from __future__ import annotations

from itertools import product

import pytest
from pyspark.sql import SparkSession

from tideline.source import Source
from tideline.spark.repeats import Repeats


@pytest.mark.parametrize("repeated", list(product([0, 1], repeat=3)))
def test_repeats_are_marked_in_every_mixture_of_partitions_with_and_without_them(
    spark: SparkSession, repeated: tuple[int, ...]
) -> None:
    source = Source("s", schema="id string, at timestamp", event_id="id", event_time="at").resolve()
    rows = []
    for partition, count in enumerate(repeated):
        names = [f"{partition}-a", f"{partition}-b", *[f"{partition}-a"] * count]
        rows += [(partition, offset, name, None) for offset, name in enumerate(names)]
    events = spark.createDataFrame(rows, "_partition int, _offset bigint, id string, _reason string")
    marked = Repeats(source).flag(events).where("_duplicate").select("_partition", "_offset").collect()
    assert sorted((row[0], row[1]) for row in marked) == [(p, 2) for p, count in enumerate(repeated) if count]
