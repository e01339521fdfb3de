"""Answers: expressions over measures, and the forms that an answer's rows take."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from serving_case import ALL, MEASURES, VIEWS, Event, Installation, installed, naive

from serving_layer.query import Query
from serving_layer.reader import Reader
from serving_layer.result import Result
from tideline.answers import Answer
from tideline.errors import DefinitionError
from tideline.ledger import Ledger
from tideline.stores.memory import MemoryStore

VALUES: dict[str, Any] = {
    "n": 4,
    "none": None,
    "zero": 0,
    "x": 2.5,
    "money": Decimal("10.10"),
    "text": "cup",
    "spread": {"p50": 3.0},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n / 8", 0.5),
        ("n // 3 + n % 3", 2),
        ("-n ** 2", -16),
        ("money * n", Decimal("40.40")),
        ("money * x", 25.25),
        ("x - money", 2.5 - 10.1),
        ("n / zero", None),
        ("money / zero", None),
        ("none + n", None),
        ("n > 3 and x < 1", False),
        ("not n", False),
        ("'many' if n > 3 else 'few'", "many"),
        ("coalesce(none, n)", 4),
        ("spread.p50 * 2", 6.0),
        ("spread.p99", None),
        ("sqrt(n)", 2.0),
        ("sqrt(0 - n)", None),
        ("round(x)", 2),
        ("greatest(n, 9)", 9),
        ("abs(none)", None),
        ("text + 1", None),
        ("exp(1000 * n)", None),
        ("text == 'cup'", True),
    ],
)
def test_an_expression_over_answers(text: str, expected: Any) -> None:
    found = Answer(text, VALUES)(VALUES)
    assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_the_measures_that_an_expression_reads() -> None:
    assert Answer("coalesce(n, zero) + spread.p50", VALUES).names == {"n", "zero", "spread"}


@pytest.mark.parametrize("text", ["", "n +", "n; x", "[n]", "lambda: n", "(n for n in x)", "f'{n}'", "n := 2"])
def test_what_is_not_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Answer(text, VALUES)
    assert caught.value.condition == "BAD_ANSWER"


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(DefinitionError) as caught:
        Answer("n / lnes", VALUES)
    assert (caught.value.params["measure"], caught.value.params["known"]) == ("lnes", sorted(VALUES))


@pytest.fixture(scope="module")
def installation() -> Installation:
    return installed(MemoryStore(Ledger.create("test")), 90)


def ask(installation: Installation, view: str, **options: Any) -> Result:
    return Reader(Path("nowhere"), store=installation.store).query(Query(view, **options))


def test_json_spells_decimals_times_and_nulls(installation: Installation) -> None:
    result = ask(installation, "revenue")
    answer = json.loads(json.dumps(result.to_json(), allow_nan=False))
    row, raw = answer["rows"][0], result.rows[0]
    assert row["country"] is None
    assert row["revenue"] == str(raw["revenue"])
    assert row["bucket"] == raw["bucket"].strftime("%Y-%m-%dT%H:%M:%SZ")
    assert row["spread"] == raw["spread"]
    assert answer["columns"] == ["country", "product", "bucket", *MEASURES, "return_rate", "double", "median"]
    assert answer["proof"] == result.proof


def test_json_has_the_parts(installation: Installation) -> None:
    row = ask(installation, "everything", parts=True).to_json()["rows"][0]
    assert row["revenue"] == str(naive(installation.events)["revenue"])
    assert row["parts"]["batch"]["revenue"] == str(naive(installation.published)["revenue"])


def test_csv_is_read_back(installation: Installation) -> None:
    result = ask(installation, "revenue", measures="lines,revenue,products")
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [int(row["lines"]) for row in rows] == [row["lines"] for row in result.rows]
    assert [Decimal(row["revenue"]) for row in rows] == [row["revenue"] for row in result.rows]
    assert [json.loads(row["products"]) for row in rows] == [row["products"] for row in result.rows]


@pytest.mark.parametrize("view", [view.name for view in VIEWS])
def test_arrow_holds_the_same_values(installation: Installation, view: str) -> None:
    result = ask(installation, view)
    table = result.to_arrow()
    assert table.column_names == result.columns
    for name in result.columns:
        expected = [row[name] for row in result.rows]
        found = table[name].to_pylist()
        if name == "products":
            found = [dict(pairs) for pairs in found]
        elif name == "best":
            found = [[[entry["value"], entry["count"]] for entry in entries] for entries in found]
        assert found == expected, name
    assert json.loads(table.schema.metadata[b"tideline.proof"]) == result.proof


def test_arrow_types_follow_the_view_not_the_values(installation: Installation) -> None:
    empty = ask(installation, "revenue", key={"country": "Atlantis"}).to_arrow()
    full = ask(installation, "revenue").to_arrow()
    assert empty.num_rows == 0
    for name in ("country", "bucket", *MEASURES):
        assert empty.schema.field(name).type == full.schema.field(name).type
    assert full.schema.field("revenue").type == pa.decimal128(38, 2)
    assert full.schema.field("bucket").type == pa.timestamp("us", "UTC")


def test_pandas_keeps_times_and_decimals(installation: Installation) -> None:
    result = ask(installation, "revenue", window="1d")
    frame = result.to_pandas()
    assert list(frame["revenue"]) == [row["revenue"] for row in result.rows]
    assert [time.to_pydatetime() for time in frame["window"]] == [row["window"] for row in result.rows]
    assert frame.attrs["proof"] == result.proof


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (2**31, pa.int64()),
        (2**63 - 1, pa.int64()),
        (2**63, pa.decimal128(38, 0)),
        (-(10**37), pa.decimal128(38, 0)),
        (10**50, pa.decimal256(76, 0)),
    ],
)
def test_a_sum_beyond_64_bits_stays_exact(value: int, kind: pa.DataType) -> None:
    installation = Installation(MemoryStore(Ledger.create("test")), [ALL])
    installation.commit([Event(0, 0, 0, "France", "cup", value, 5)])
    result = ask(installation, "everything", measures="items")
    table = result.to_arrow()
    assert table["items"].type == kind
    assert int(table["items"][0].as_py()) == value
    assert json.loads(json.dumps(result.to_json()))["rows"][0]["items"] == value
    assert result.to_csv() == f"items\n{value}\n"
    assert int(result.to_pandas()["items"][0]) == value


def test_a_result_is_a_sequence_of_rows(installation: Installation) -> None:
    result = ask(installation, "totals")
    assert len(result) == len(list(result)) == 4
    assert all(isinstance(row["lines"], int) for row in result)
    assert isinstance(ask(installation, "hourly").rows[0]["bucket"], dt.datetime)
