"""Every translated expression gives in DuckDB what it gives in Spark, type, value, null and failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from row_expressions import EXPRESSIONS, LEFT_TO_SPARK, SOURCE, events, rows

from tideline.definition import ViewDefinition
from tideline.measures import Min
from tideline.oracle.arithmetic import Untranslatable
from tideline.oracle.duck import Duck
from tideline.oracle.spark import Spark
from tideline.types import ColumnType, parse_type


def view(expression: str, kind: ColumnType) -> ViewDefinition:
    measures = {"m": Min(expression, input=kind)}
    return ViewDefinition("v", "s", "f" * 16, (), None, None, measures, {}, {}, None)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Duck, Spark]]:
    table = events()
    duck, spark = Duck(SOURCE, table), Spark(table, tmp_path_factory.mktemp("oracle"))
    yield duck, spark
    spark.close()
    duck.close()


def values(duck: Duck) -> list[str]:
    """The value of each event in order, `failed` for a reject."""
    found = duck.db.execute("SELECT r IS NULL, r.row.v0 FROM rows ORDER BY _offset").fetchall()
    return ["failed" if failed else repr(value) for failed, value in found]


@pytest.mark.integration
def test_duckdb_computes_what_spark_computes(both: tuple[Duck, Spark], tmp_path: Path) -> None:
    duck, spark = both
    session = spark._start()
    frame = session.read.parquet(str(spark._files))
    wrong, names = {}, [f"e{index}" for index in range(len(EXPRESSIONS))]
    types = frame.selectExpr(*(f"({text}) as {name}" for text, name in zip(EXPRESSIONS, names, strict=True))).schema
    from tideline.oracle.spark import _or_null, spark_sql

    definitions = {
        text: view(text, parse_type(field.dataType.simpleString()))
        for text, field in zip(EXPRESSIONS, types, strict=True)
    }
    columns = [
        _or_null(session, spark_sql(definition)).alias(name)
        for name, definition in zip(names, definitions.values(), strict=True)
    ]
    frame.select("_offset", *columns).write.parquet(str(tmp_path / "spark"))
    for name, (text, definition) in zip(names, definitions.items(), strict=True):
        try:
            duck.compute_rows(definition)
        except Untranslatable as error:
            wrong[text] = str(error)
            continue
        found = values(duck)
        duck.db.execute(
            "CREATE OR REPLACE TEMP TABLE rows AS SELECT _offset, "
            f"{name} AS r FROM read_parquet('{tmp_path}/spark/*.parquet')"
        )
        expected = values(duck)
        differing = [
            (index, mine, theirs)
            for index, (mine, theirs) in enumerate(zip(found, expected, strict=True))
            if mine != theirs
        ]
        if differing:
            index, mine, theirs = differing[0]
            wrong[text] = f"{len(differing)} rows: duckdb {mine}, spark {theirs} for {rows()[index]}"
    assert not wrong


@pytest.mark.parametrize("text", [text.strip() for text in LEFT_TO_SPARK.split(";") if text.strip()])
def test_what_is_not_known_to_be_the_same_is_left_to_spark(text: str) -> None:
    duck = Duck(SOURCE, events())
    with pytest.raises(Untranslatable):
        duck.compute_rows(view(text, parse_type("int")))
    duck.close()
