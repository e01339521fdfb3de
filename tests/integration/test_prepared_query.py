"""A query that is planned once gives, over any rows, what the same query gives over a new DataFrame of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyspark.errors import ArithmeticException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tideline.spark.prepared import PreparedQuery

SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "value": pa.int64(),
        "tags": pa.list_(pa.struct({"name": pa.string(), "bytes": pa.binary()})),
        "at": pa.timestamp("us", "UTC"),
    }
)


def grouped(rows: DataFrame) -> DataFrame:
    return rows.groupBy("key").agg(
        F.sum("value").alias("sum"),
        F.count("*").alias("rows"),
        F.max("at").alias("latest"),
        F.sum(F.size("tags")).alias("tags"),
    )


def table(count: int, seed: int) -> pa.Table:
    dice = random.Random(seed)

    def maybe(value: object) -> object:
        return None if dice.random() < 0.1 else value

    rows = [
        {
            "key": maybe(f"key {dice.randrange(50)}"),
            "value": maybe(dice.randrange(-(10**12), 10**12)),
            "tags": maybe([{"name": maybe("a"), "bytes": b"\x00\xff"}] * dice.randrange(3)),
            "at": maybe(dice.randrange(10**15)),
        }
        for _ in range(count)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def ordered(found: pa.Table) -> list[str]:
    return sorted(map(repr, found.to_pylist()))


@pytest.fixture(params=["", "true"], ids=["as set", "adaptive"])
def prepared(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[PreparedQuery]:
    before = spark.conf.get("spark.sql.adaptive.enabled")
    spark.conf.set("spark.sql.adaptive.enabled", request.param or str(before))
    yield PreparedQuery(spark, SCHEMA, grouped)
    spark.conf.set("spark.sql.adaptive.enabled", str(before))


def test_it_answers_for_the_rows_at_hand_whatever_came_before(spark: SparkSession, prepared: PreparedQuery) -> None:
    for seed, count in enumerate((10, 3_000, 0, 1, 50, 0, 25_000, 2)):
        rows = table(count, seed)
        expected = grouped(spark.createDataFrame(rows)).toArrow()
        found = prepared.run(rows)
        assert found.schema.names == expected.schema.names
        assert found.schema.types == expected.schema.types
        assert ordered(found) == ordered(expected)
    pieces = [table(7, 20), SCHEMA.empty_table(), table(9, 21)]
    together = pa.concat_tables(pieces)
    assert ordered(prepared.run(together)) == ordered(
        grouped(spark.createDataFrame(together.combine_chunks())).toArrow()
    )


def test_rows_that_fail_raise_what_spark_raises_and_the_next_are_answered(spark: SparkSession) -> None:
    def inverse(rows: DataFrame) -> DataFrame:
        return rows.selectExpr("sum(1 div value) as found")

    prepared = PreparedQuery(spark, SCHEMA, inverse)
    good, bad = table(5, 1), pa.Table.from_pylist([{"key": "a", "value": 0}], SCHEMA)
    expected = inverse(spark.createDataFrame(good)).toArrow()
    assert prepared.run(good) == expected
    for _ in range(2):
        with pytest.raises(ArithmeticException, match="DIVIDE_BY_ZERO"):
            prepared.run(bad)
        assert prepared.run(good) == expected


def test_two_queries_at_once_do_not_share_their_rows(spark: SparkSession) -> None:
    first, second = (PreparedQuery(spark, SCHEMA, grouped) for _ in range(2))
    some, others = table(20, 2), table(30, 3)
    expected = [ordered(one) for one in (first.run(some), second.run(others))]
    assert [ordered(one) for one in (second.run(some), first.run(others))] == expected
