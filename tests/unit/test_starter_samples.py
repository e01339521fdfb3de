"""Projects over samples as people have them: each loads, passes its own test, and counts every event of the sample."""

from __future__ import annotations

import functools
import gzip
import json
import re
import runpy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from tideline.catalog import load_catalog
from tideline.decode import decode_values
from tideline.eventfiles import EventFile
from tideline.expressions import _BARE_FUNCTIONS, check_row_expression
from tideline.spark.resolve import RESERVED, resolve_catalog
from tideline.starter import infer
from tideline.starter.project import Project, from_sample
from tideline.testing import answers, check_views

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PLACES = ("FR", "NO", "DE")


def csv(header: str, *rows: str, count: int = 30) -> bytes:
    """Rows in turn, with `#` for a row's number and `@` for a place."""
    lines = [rows[n % len(rows)].replace("#", str(n)).replace("@", PLACES[n % 3]) for n in range(count)]
    return "\n".join([header, *lines, ""]).encode()


def jsonl(*events: Any, after: str = "") -> bytes:
    return ("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events) + after).encode()


SALES = csv("order_id,sold_at,country,qty,price", "o#,2024-01-05T10:00:00Z,@,#,#.50")
ORDERS = [{"order_id": f"o{n}", "at": "2024-01-05T10:00:00Z", "c": PLACES[n % 3], "q": n} for n in range(30)]
NAMED = [
    "class",
    "import",
    "None",
    "Count",
    "View",
    "Sum",
    "minutes",
    "rate",
    "totals",
    "Source",
    "2024",
    "ünï",
    "{{name}}",
]

SAMPLES: dict[str, bytes] = {
    **{f"{name}.csv": SALES for name in NAMED},
    "a name's.csv": SALES,
    "UPPER.CSV": csv("country,qty", "@,#"),
    "x.json.csv": SALES,
    "bom.csv": b"\xef\xbb\xbf" + SALES,
    "crlf.csv": SALES.replace(b"\n", b"\r\n"),
    "zipped.csv.gz": gzip.compress(SALES),
    "quoted.csv": csv("order_id,country,note", 'o#,"F,R","one\ntwo"', 'o#,"N""O",x'),
    "blanks_in_head.csv": csv("id, name, n", "#, @, #"),
    "capitals.csv": csv("a,A,b", "#,x#,@"),
    "odd_names.csv": csv("Order ID,Ship.Country,größe,1st,kind", "#,@,#,#,@"),
    "keywords.csv": csv("id,order,from,select,group,date,window,key,table", "#,@,#,#.5,@,2024-01-01,@,@,#"),
    "words.csv": csv("select,from,where,window", "#,#.5,#,@"),
    "literals.csv": csv("null,true,over,case", "#,#.5,#,@"),
    "keys.csv": csv("id,null,select,parts,n", "#,@,@,@,#"),
    "reserved.csv": csv("id,bucket,segment", "#,#,@"),
    "count.csv": csv("id,events", "#,#"),
    "count_key.csv": csv("id,events,n", "#,@,#"),
    "sum_key.csv": csv("id,x,x_sum,x_max", "#,#,@,#"),
    "row_ids.csv": csv("row_id,c", "7,@", "8,@"),
    "row_id_unique.csv": csv("row_id,c", "#,@"),
    "empty_cells.csv": csv("id,e,n,t", "#,,,", "#,,1,2024-01-01 10:00"),
    "no_header.csv": csv("0,x0", "#,@"),
    "mixed.csv": csv(
        "id,m,zeros,big,yes,nan,day", "#,1,0#,1000000000000000000#,true,NaN,2024-02-29", "#,x,1,#,false,1,2024-03-01"
    ),
    "future.csv": SALES.replace(b"2024", b"2031"),
    "one_column.csv": csv("name", "@"),
    "array_among.jsonl": jsonl(*ORDERS, after="[1,2]\n"),
    "number_among.jsonl": jsonl(*ORDERS, after="5\n"),
    "null_among.jsonl": jsonl(*ORDERS, after="null\n"),
    "broken_among.jsonl": jsonl(*ORDERS, after='{"order_id": "x", \n'),
    "nan.jsonl": jsonl(*ORDERS, after='{"order_id": "n", "at": "2024-01-01T00:00:00Z", "q": NaN}\n'),
    "twice.jsonl": jsonl(*ORDERS, after='{"order_id": "n", "order_id": "m", "at": "2024-01-01T00:00:00Z"}\n'),
    "bom.jsonl": b"\xef\xbb\xbf" + jsonl(*ORDERS),
    "MORE.JSONL": jsonl(*ORDERS),
    "capitals.jsonl": jsonl(*({"id": f"o{n}", "a": n, "A": PLACES[n % 3]} for n in range(30))),
    "mongo.jsonl": jsonl(*({"_id": f"o{n}", "c": PLACES[n % 3]} for n in range(30))),
    "beyond.jsonl": jsonl(*({"id": n, "n": 10**19, "d": 1e300, "c": PLACES[n % 3]} for n in range(30))),
    "nested.jsonl": jsonl(*({**order, "o": {"x": [1]}, "l": [1], "m": order["q"] % 2 or "a"} for order in ORDERS)),
    "surrogates.jsonl": b'{"id": "a", "c": "\\ud800"}\n{"id": "b", "c": "x"}\n',
    "odd_keys.jsonl": jsonl(
        *({"id": n, "": 1, "a b": 1, "c": ['a"b', "c\\d", "e\nf", "\u2028", ""][n % 5]} for n in range(30))
    ),
}
TOLD = re.compile(r"dead letters among the first \d+ records: (\d+)")


def made(name: str, folder: Path) -> tuple[Project, Path, str | None]:
    """The project over a sample, the sample, and the column that the README's command numbers rows as."""
    file = folder / name
    file.write_bytes(SAMPLES[name])
    project = from_sample(folder / "p", file)
    row_id = re.search(r"--row-id (\w+)$", project.commands[1])
    return project, file, row_id and row_id[1]


@pytest.mark.parametrize("name", SAMPLES)
def test_no_record_of_a_sample_is_a_dead_letter_that_was_not_told_of(name: str, tmp_path: Path) -> None:
    project, file, row_id = made(name, tmp_path)
    (declared,) = load_catalog(tmp_path / "p" / "catalog.py").sources.values()
    source = declared.resolve()
    told = sum(int(found[1]) for note in project.notes if (found := TOLD.match(note)))
    for sent, expected in ((file, told), (tmp_path / "p" / "events.jsonl", 0)):
        values = [
            event.value for event in EventFile(sent, source.schema, source.event_id, row_id if sent is file else None)
        ]
        times = pa.array([time.time_ns() // 1000] * len(values), pa.timestamp("us", "UTC"))
        columns, dead = decode_values(source, pa.array(values, pa.binary()), times)
        assert len([reason for reason in dead.to_pylist() if reason]) == expected
        empty = [c.name for c, column in zip(source.schema, columns, strict=True) if column.null_count == len(values)]
        assert empty == (["e"] if name == "empty_cells.csv" else [])


ASKED = [
    "class.csv",
    "UPPER.CSV",
    "capitals.csv",
    "keywords.csv",
    "words.csv",
    "literals.csv",
    "keys.csv",
    "reserved.csv",
]
ASKED += ["count.csv", "count_key.csv", "sum_key.csv", "row_ids.csv", "empty_cells.csv", "mixed.csv", "nan.jsonl"]
ASKED += ["nested.jsonl", "odd_keys.jsonl", "future.csv"]
"""Those of which the names or values could mean something else to Spark."""


@pytest.mark.parametrize("name", ASKED)
def test_a_project_passes_its_own_test(name: str, tmp_path: Path, spark: SparkSession) -> None:
    made(name, tmp_path)
    written = runpy.run_path(str(tmp_path / "p" / "tests" / "test_catalog.py"))
    test = written["test_the_views_answer_what_the_events_say"]
    test.__globals__["answers"] = functools.partial(answers, spark=spark)
    test()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keywords.csv", "literals.csv", "sum_key.csv", "row_ids.csv"])
def test_check_holds_for_a_project(name: str, tmp_path: Path, spark: SparkSession) -> None:
    made(name, tmp_path)
    resolved = resolve_catalog(spark, load_catalog(tmp_path / "p" / "catalog.py"))
    for events in (None, str(tmp_path / "p" / "events.jsonl")):
        assert [outcome for outcome in check_views(spark, resolved, events) if not outcome.holds] == []


def test_a_measure_of_a_number_called_as_the_count_is_another(tmp_path: Path) -> None:
    made("count.csv", tmp_path)
    views = load_catalog(tmp_path / "p" / "catalog.py").views
    assert list(views["rate"].measures) == ["events_2", "events"]
    assert list(views["totals"].measures) == ["events_2", "events_sum", "events_max"]
    assert "--order -events_2 --limit" in (tmp_path / "p" / "README.md").read_text("utf-8")


def test_every_word_of_spark_is_a_column_in_an_expression(spark: SparkSession) -> None:
    assert infer.RESERVED == RESERVED
    words = {row[0].lower() for row in spark.sql("SELECT keyword FROM sql_keywords()").collect()}
    for name in words | _BARE_FUNCTIONS:
        check_row_expression(infer.quoted(name), [name])
    names = sorted(words | _BARE_FUNCTIONS)
    events = spark.createDataFrame([names], [*names])
    assert list(events.selectExpr(*(f"({infer.quoted(name)})" for name in names)).first() or ()) == names
