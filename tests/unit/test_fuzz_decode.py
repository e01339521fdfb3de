"""Any bytes at all: an event or a dead letter, the same beside any neighbour, in any batch, in both decoders."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from typing import Any

import pyarrow as pa
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from test_decode import HOSTILE, JSON_TEXTS, MANY, NUMBERS, TIMES, TYPES, layers, oracle

from tideline import days
from tideline.decode import decode_batches
from tideline.source import Source

# Of decimal(38,38) no digit may be whole, and a source with such a column is read record by record.
COLUMNS = {f"c{number}": kind for number, kind in enumerate(TYPES) if kind != "decimal(38,38)"}
SOURCE = Source(
    "s",
    schema=", ".join(["id string", "at timestamp", *(f"{name} {kind}" for name, kind in COLUMNS.items())]),
    event_time="at",
    event_id="id",
    max_ahead=days(1),
    max_behind=days(365 * 20),
).resolve()
STAMP = 1_600_000_000_000_000
REASON = re.compile(
    r"empty value|larger than 1048576 bytes|not UTF-8|not JSON(: (NaN|-?Infinity) is not a number)?|repeated field|"
    r"nested too deeply|a number is too long|not a JSON object|missing event (id|time)|"
    r"event time too far (ahead of|behind) the record's|"
    r"\w+: (not a value of type|outside the range of|more decimals than) [\w(),]+|\w+: text with half a surrogate pair"
)
FITTING = {
    "string": st.text(max_size=8).map(json.dumps),
    "boolean": st.sampled_from(["true", "false"]),
    "timestamp": TIMES.map(json.dumps),
    "date": st.dates().map(str).map(json.dumps),
    "binary": st.binary(max_size=6).map(lambda data: json.dumps(base64.b64encode(data).decode())),
}


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """An object with values that mostly fit their columns, in the spelling of JSON or nearly so."""
    fields = [("id", draw(st.sampled_from(['"a"', '"b"', '""', '"\\ud83d\\ude00"', "null", "1"])))]
    fields.append(("at", draw(st.one_of(st.just('"2020-09-13T12:00:00Z"'), TIMES.map(json.dumps)))))
    for name in draw(st.lists(st.sampled_from([*COLUMNS]), max_size=4, unique=draw(st.integers(0, 9)) > 0)):
        fitting = FITTING.get(COLUMNS[name], NUMBERS)
        fields.append((name, draw(fitting if draw(st.integers(0, 3)) else JSON_TEXTS)))
    if draw(st.integers(0, 4)) == 0:
        fields.append((draw(st.sampled_from(["x", "C0", "", "\\u0069d", "a\\u0000"])), draw(st.sampled_from(HOSTILE))))
    comma, colon = draw(st.sampled_from([(",", ":"), (" ,\n", "\t: "), (", ", ": ")]))
    return ("{" + comma.join(f'"{name}"{colon}{text}' for name, text in fields) + "}").encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An object with bytes changed, cut out, put in or repeated, or in another encoding."""
    value = draw(objects())
    for _ in range(draw(st.integers(1, 3))):
        at, end = draw(st.integers(0, len(value))), draw(st.integers(0, len(value)))
        patch = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"{", b"}", b",", b"\\u", b"\xff", b"\0"]))
        )
        value = draw(st.sampled_from([value[:at] + patch + value[at + 1 :], value[:at], value[:at] + value[end:]]))
    return draw(st.sampled_from([value, value, b"\xef\xbb\xbf" + value, value.decode("latin-1").encode("utf-16")]))


RECORDS = st.lists(
    st.one_of(objects(), objects(), damaged(), st.none(), st.binary(max_size=12)), min_size=1, max_size=8
)
Row = tuple[Any, ...]


def decode(batches: list[list[bytes | None]]) -> list[Row]:
    """What `mapInArrow` would hand on, row by row: the reason, then the columns."""
    names = [column.name for column in SOURCE.schema]

    def arrow(values: list[bytes | None]) -> pa.RecordBatch:
        stamps = pa.array([STAMP] * len(values), pa.timestamp("us", "UTC"))
        return pa.RecordBatch.from_arrays([pa.array(values, pa.binary()), stamps], names=["_value", "_timestamp"])

    rows: list[Row] = []
    for batch in decode_batches(SOURCE, [])(map(arrow, batches)):
        rows += zip(*(map(repr, batch.column(name).to_pylist()) for name in ["_reason", *names]), strict=True)
    return rows


@fuzz(100)
@given(RECORDS)
def test_every_record_is_an_event_or_a_dead_letter_with_a_reason_that_is_documented(values: list[bytes | None]) -> None:
    rows = decode([values])
    assert len(rows) == len(values)
    for reason, *columns in rows:
        assert reason == "None" or REASON.fullmatch(reason[1:-1]), reason
        assert reason == "None" or set(columns) == {"None"}


@fuzz(60)
@given(RECORDS, st.data())
def test_a_record_decodes_alike_beside_any_neighbour_in_any_order_and_split(
    values: list[bytes | None], data: st.DataObject
) -> None:
    alone = [decode([[value]])[0] for value in values]
    assert [decode([[value] * MANY]) for value in values] == [[row] * MANY for row in alone]
    order = data.draw(st.permutations(range(len(values))))
    cuts = sorted({0, len(values), *data.draw(st.lists(st.integers(0, len(values)), max_size=3))})
    shuffled = [values[index] for index in order]
    split = [shuffled[begin:end] for begin, end in pairwise(cuts)]
    assert decode(split) == [alone[index] for index in order]


@fuzz(100)
@given(RECORDS)
def test_the_oracles_decoder_agrees_on_records_of_every_type(values: list[bytes | None]) -> None:
    assert list(map(repr, layers(SOURCE, values, STAMP))) == list(map(repr, oracle(SOURCE, values, STAMP)))
